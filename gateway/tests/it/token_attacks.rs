//! Tokens that must be refused: forged, altered, out of place, out of time, or of somebody who is not recognised any more.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::TenantId;
use ed25519_dalek::{Signer, SigningKey};
use event_store::verifiers::VerifierKind;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use super::harness::{EMAIL, Harness, PASSWORD, text};

/// Whoever has stolen the gateway's own key, to make tokens that are wrong in one thing only.
struct Forger {
    key: SigningKey,
    header: Value,
    claims: Value,
}

impl Forger {
    async fn of(h: &Harness) -> Self {
        let token = text(&h.log_in(EMAIL, PASSWORD).await, "access_token");
        let parts: Vec<&str> = token.split('.').collect();
        let read = |part: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
        };
        let (header, claims) = (read(parts[0]), read(parts[1]));
        let tenant = TenantId::default_tenant();
        let rows = h.ports.verifiers.list(VerifierKind::SigningKey, &tenant).await;
        let row = rows.expect("keys").pop().expect("a key");
        assert_eq!(header, json!({"typ": "at+jwt", "alg": "EdDSA", "kid": row.principal}));
        let place = format!("signing_key:{}", row.principal);
        let seed = h.ports.master_key.open(&row.hash, &place).expect("the seed");
        let key = SigningKey::from_bytes(seed.as_slice().try_into().expect("32 bytes"));
        Self { key, header, claims }
    }

    fn message(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(header), part(claims))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = Self::message(header, claims);
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.sign(&header, &self.claims)
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.sign(&self.header, &claims)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().expect("claims").remove(name);
        self.sign(&self.header, &claims)
    }

    /// The public key as a JWK, as it stands in the JWKS.
    fn jwk(key: &SigningKey) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes())})
    }

    fn hs256(&self, secret: &[u8]) -> String {
        let mut header = self.header.clone();
        header["alg"] = json!("HS256");
        let message = Self::message(&header, &self.claims);
        let mut mac = <Hmac<Sha256>>::new_from_slice(secret).expect("any key");
        mac.update(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

async fn refused(h: &Harness, what: &str, token: &str) {
    let (status, problem) = h.api(Method::GET, "auth/me", token, Value::Null).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthenticated")), "{what}");
    assert!(token.len() < 20 || !problem.to_string().contains(token), "{what}: the problem shows the token");
}

#[tokio::test]
async fn tokens_with_another_algorithm_or_key_are_refused() {
    let h = Harness::start().await;
    let forger = Forger::of(&h).await;
    let good = forger.sign(&forger.header, &forger.claims);
    assert_eq!(
        h.me(&good).await,
        StatusCode::OK,
        "the forger's tokens are good but for what is wrong with them"
    );

    let public = forger.key.verifying_key();
    let jwk = Forger::jwk(&forger.key).to_string();
    let encoded = URL_SAFE_NO_PAD.encode(public.as_bytes());
    for secret in [public.as_bytes().as_slice(), encoded.as_bytes(), jwk.as_bytes(), b""] {
        refused(&h, "HS256 with the public key", &forger.hs256(secret)).await;
    }
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let mut header = forger.header.clone();
        header["alg"] = json!(alg);
        let message = Forger::message(&header, &forger.claims);
        refused(&h, "none, without a signature", &format!("{message}.")).await;
        refused(&h, "none, with a signature", &forger.sign(&header, &forger.claims)).await;
    }
    for alg in ["RS256", "ES256", "HS512", "PS256", "Ed25519", "eddsa"] {
        refused(&h, alg, &forger.with_header("alg", json!(alg))).await;
    }

    let own = SigningKey::from_bytes(&[7; 32]);
    let attacker = Forger { key: own, header: forger.header.clone(), claims: forger.claims.clone() };
    refused(&h, "a signature by another key", &attacker.sign(&attacker.header, &attacker.claims)).await;
    for kid in ["", "other", "../../etc/passwd", "' or 1=1 --", &"k".repeat(300)] {
        refused(&h, "a foreign kid", &attacker.with_header("kid", json!(kid))).await;
        refused(&h, "a foreign kid, by our key", &forger.with_header("kid", json!(kid))).await;
    }
    let keys = json!({"keys": [Forger::jwk(&attacker.key)]});
    for (name, value) in [
        ("jwk", Forger::jwk(&attacker.key)),
        ("jku", json!(h.url("/.well-known/jwks.json"))),
        ("jku", json!(format!("data:application/json,{keys}"))),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        refused(&h, name, &attacker.with_header(name, value.clone())).await;
        refused(&h, &format!("{name} with our key"), &forger.with_header(name, value)).await;
    }
    refused(&h, "crit", &forger.with_header("crit", json!(["exp"]))).await;
    refused(&h, "b64", &forger.with_header("b64", json!(false))).await;
}

#[tokio::test]
async fn tokens_for_others_or_of_another_time_are_refused() {
    let h = Harness::start().await;
    let forger = Forger::of(&h).await;
    let now = forger.claims["iat"].as_i64().expect("iat");
    for typ in ["JWT", "at", "id+jwt", "", "AT+JWT+"] {
        refused(&h, "another type", &forger.with_header("typ", json!(typ))).await;
    }
    assert_eq!(h.me(&forger.with_header("typ", json!("application/at+jwt"))).await, StatusCode::OK);
    for (name, value) in [
        ("iss", json!("https://attacker.example")),
        ("iss", json!("")),
        ("iss", json!(["everline"])),
        ("aud", json!("another-api")),
        ("aud", json!([])),
        ("exp", json!(now - 6)),
        ("exp", json!("9999999999")),
        ("exp", json!(-1)),
        ("nbf", json!(now + 60)),
        ("nbf", json!(i64::MAX)),
        ("iat", json!(now + 60)),
        ("tenant", json!("another")),
        ("sub", json!("0190b2c4-8a10-7d3e-9c55-5e1f00aa7712")),
        ("sub", json!("' or 1=1 --")),
        ("sid", json!("0190b2c4-8a10-7d3e-9c55-5e1f00aa7712")),
    ] {
        refused(&h, &format!("{name}: {value}"), &forger.with_claim(name, value)).await;
    }
    for name in ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "sid", "tenant", "client_id"] {
        refused(&h, &format!("without {name}"), &forger.without_claim(name)).await;
    }
    let later = Value::from(now + 3600);
    assert_eq!(h.me(&forger.with_claim("exp", later)).await, StatusCode::OK, "only the times count");
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let h = Harness::start().await;
    let forger = Forger::of(&h).await;
    let good = forger.sign(&forger.header, &forger.claims);
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    for cut in [1, 20, good.len() / 2, good.len() - 10, good.len() - 2] {
        refused(&h, "truncated", &good[..cut]).await;
    }
    let forged = [
        format!("{message}."),
        message.to_owned(),
        format!("{good}.{signature}"),
        format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{message}={signature}"),
        format!("..{signature}"),
        "..".to_owned(),
    ];
    for token in &forged {
        refused(&h, "of another shape", token).await;
    }
    refused(&h, "oversized", &forger.with_claim("padding", json!("x".repeat(4_096)))).await;
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let deep = format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(&deep), URL_SAFE_NO_PAD.encode("{}"));
    refused(&h, "deeply nested", &deep).await;
}

#[tokio::test]
async fn secrets_are_good_in_their_own_place_only() {
    let h = Harness::start().await;
    let session = h.log_in(EMAIL, PASSWORD).await;
    let (access, refresh) = (text(&session, "access_token"), text(&session, "refresh_token"));
    refused(&h, "a refresh token as access token", &refresh).await;
    for secret in [&access, &h.key] {
        let (status, problem) = h.auth("refresh", json!({"refresh_token": secret})).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_refresh_token")));
    }
    for secret in [&access, &refresh, &h.key] {
        for route in ["password/reset", "invitation"] {
            let (status, _) = h.auth(route, json!({"token": secret, "password": "another password"})).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{route}");
        }
        for name in ["everline_session", "__Host-everline_session"] {
            let request = h.bare(Method::GET, "/api/v1/auth/me").header("cookie", format!("{name}={secret}"));
            assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
        }
    }
    assert_eq!(h.me(&access).await, StatusCode::OK, "trying changed nothing");
}

#[tokio::test]
async fn the_tokens_of_whoever_is_not_recognised_any_more_are_refused_at_once() {
    let h = Harness::start().await;
    for (end, method, path) in [("deleted", Method::DELETE, ""), ("disabled", Method::POST, "/disable")] {
        let email = format!("{end}@example.test");
        let id = h.user(&email, "a good password").await;
        let session = h.log_in(&email, "a good password").await;
        let access = text(&session, "access_token");
        assert_eq!(h.me(&access).await, StatusCode::OK);
        let body = if path.is_empty() { Value::Null } else { json!({}) };
        let (status, problem) = h.api(method, &format!("users/{id}{path}"), &h.key, body).await;
        assert!(status.is_success(), "{problem}");
        refused(&h, end, &access).await;
        let (status, _) = h.auth("refresh", json!({"refresh_token": session["refresh_token"]})).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{end}");
        let (status, problem) = h.auth("login", json!({"email": email, "password": "a good password"})).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_credentials")));
    }
}

#[tokio::test]
async fn the_tokens_of_a_suspended_tenant_are_refused_at_once() {
    let h = Harness::start().await;
    let admin = json!({"email": "admin@acme.test", "password": "a good password"});
    let (status, tenant) =
        h.api(Method::POST, "tenants", &h.key, json!({"name": "acme", "admin": admin})).await;
    assert_eq!(status, StatusCode::CREATED, "{tenant}");
    let session = h.log_in("admin@acme.test", "a good password").await;
    let access = text(&session, "access_token");
    assert_eq!(h.me(&access).await, StatusCode::OK);
    let (status, _) = h.api(Method::POST, "tenants/acme/suspend", &h.key, json!({})).await;
    assert!(status.is_success());
    refused(&h, "suspended", &access).await;
    let (status, _) = h.auth("refresh", json!({"refresh_token": session["refresh_token"]})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) =
        h.auth("login", json!({"email": "admin@acme.test", "password": "a good password"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let h = Harness::start().await;
    let (status, key) = h.api(Method::POST, "api-keys", &h.key, json!({"name": "ci", "scopes": ["*"]})).await;
    assert_eq!(status, StatusCode::CREATED, "{key}");
    let (id, secret) = (text(&key, "id"), text(&key, "key"));
    assert_eq!(h.me(&secret).await, StatusCode::OK);
    let (status, _) = h.api(Method::DELETE, &format!("api-keys/{id}"), &h.key, Value::Null).await;
    assert!(status.is_success());
    refused(&h, "revoked", &secret).await;
}

#[tokio::test]
async fn the_signed_token_of_a_session_that_has_ended_is_refused() {
    let h = Harness::start().await;
    let (one, other) = (h.log_in(EMAIL, PASSWORD).await, h.log_in(EMAIL, PASSWORD).await);
    let (one, other) = (text(&one, "access_token"), text(&other, "access_token"));
    let (status, _) = h.api(Method::POST, "auth/logout", &one, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    refused(&h, "logged out", &one).await;

    let (_, sessions) = h.api(Method::GET, "auth/sessions", &h.key, Value::Null).await;
    let sessions = sessions["items"].as_array().expect("items").clone();
    assert_eq!(sessions.len(), 1, "the one that goes on");
    let path = format!("auth/sessions/{}", text(&sessions[0], "id"));
    let (status, _) = h.api(Method::DELETE, &path, &h.key, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    refused(&h, "ended from elsewhere", &other).await;
    let (status, problem) = h.api(Method::DELETE, &path, &h.key, Value::Null).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("session_not_found")));
}

#[tokio::test]
async fn keys_are_published_and_shared_by_gateways_and_the_next_one_takes_over() {
    let config = gateway::GatewayConfig { signing_key_ms: 0, ..Default::default() };
    let h = Harness::with(config.clone()).await;
    let first = text(&h.log_in(EMAIL, PASSWORD).await, "access_token");
    let second = text(&h.log_in(EMAIL, PASSWORD).await, "access_token");
    let kid = |token: &str| token.split('.').next().expect("a header").to_owned();
    assert_ne!(kid(&first), kid(&second), "a key of no age signs nothing any more");
    assert_eq!((h.me(&first).await, h.me(&second).await), (StatusCode::OK, StatusCode::OK));

    let jwks: Value = h
        .bare(Method::GET, "/.well-known/jwks.json")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let keys = jwks["keys"].as_array().expect("keys");
    for token in [&first, &second] {
        let header = URL_SAFE_NO_PAD.decode(kid(token)).expect("base64url");
        let header: Value = serde_json::from_slice(&header).expect("JSON");
        let key = keys.iter().find(|key| key["kid"] == header["kid"]).expect("the key is published");
        assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&json!("OKP"), &json!("EdDSA"), &json!("sig")));
        assert!(key.get("d").is_none(), "never the private half");
    }

    let feed = std::sync::Arc::new(bus::in_process::InProcessFeed::new());
    let beside = h.beside(gateway::GatewayConfig::default(), feed).await;
    let answer = h.http.get(format!("http://{beside}/api/v1/auth/me")).bearer_auth(&second).send().await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK, "another gateway knows the key");
    let ours = text(&h.log_in(EMAIL, PASSWORD).await, "access_token");
    // It reads the keys again for a kid that it does not know, at most once a second; then it knows this one too.
    let begun = std::time::Instant::now();
    loop {
        let answer = h.http.get(format!("http://{beside}/api/v1/auth/me")).bearer_auth(&ours).send().await;
        if answer.expect("an answer").status() == StatusCode::OK {
            break;
        }
        assert!(begun.elapsed().as_secs() < 10, "the other gateway never learns of the new key");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
