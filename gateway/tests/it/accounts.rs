//! Accounts: made by people themselves, by invitation, and their passwords.

use domain::ids::TenantId;
use event_store::verifiers::{Verifier, VerifierKind};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::harness::{Harness, text};

const EMAIL: &str = "ada@example.test";
const PASSWORD: &str = "a good password";

#[tokio::test]
async fn registration_is_closed_unless_it_is_opened() {
    let h = Harness::start().await;
    let (status, problem) = h.auth("register", json!({"email": EMAIL, "password": PASSWORD})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("registration_closed")));

    let open = gateway::Registration::Open;
    let h = Harness::with(gateway::GatewayConfig { registration: open, ..Default::default() }).await;
    let (status, session) =
        h.auth("register", json!({"email": " Ada@Example.test", "password": PASSWORD})).await;
    assert_eq!(status, StatusCode::CREATED, "{session}");
    assert_eq!((&session["user"]["email"], &session["user"]["role"]), (&json!(EMAIL), &json!("USER")));
    assert_eq!(h.me(&text(&session, "access_token")).await, StatusCode::OK);
    h.log_in(EMAIL, PASSWORD).await;
    let (status, problem) = h.auth("register", json!({"email": EMAIL, "password": "another one"})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("email_taken")));
    h.log_in(EMAIL, PASSWORD).await;
    for (email, password) in
        [("no-email", PASSWORD), ("b@example.test", "short"), ("longer@example.test", "longer@example.test")]
    {
        let (status, _) = h.auth("register", json!({"email": email, "password": password})).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{email} {password}");
    }
}

#[tokio::test]
async fn a_hash_of_bcrypt_is_accepted_and_renewed_by_the_first_login() {
    let h = Harness::start().await;
    let hash = bcrypt::hash(PASSWORD, 4).expect("a hash");
    let body = json!({"email": EMAIL, "password_hash": hash, "role": "USER"});
    let (status, user) = h.api(Method::POST, "users", &h.key, body).await;
    assert_eq!(status, StatusCode::CREATED, "{user}");
    let stored = async || {
        let row = h.ports.verifiers.find(VerifierKind::Password, EMAIL).await.expect("read");
        row.expect("a password").hash
    };
    let (status, _) = h.auth("login", json!({"email": EMAIL, "password": "wrong one"})).await;
    assert_eq!((status, stored().await == hash), (StatusCode::UNAUTHORIZED, true));
    h.log_in(EMAIL, PASSWORD).await;
    assert!(stored().await.starts_with("$argon2id$"));
    h.log_in(EMAIL, PASSWORD).await;
}

#[tokio::test]
async fn another_password_ends_the_other_sessions() {
    let h = Harness::start().await;
    h.user(EMAIL, PASSWORD).await;
    let (this, other) = (h.log_in(EMAIL, PASSWORD).await, h.log_in(EMAIL, PASSWORD).await);
    let (this, other) = (text(&this, "access_token"), text(&other, "access_token"));
    let change = |current: &'static str, next: &'static str| {
        let body = json!({"current_password": current, "password": next});
        h.api(Method::POST, "auth/password", &this, body)
    };
    assert_eq!(change("wrong one", "another password").await.0, StatusCode::UNAUTHORIZED);
    for refused in ["short", EMAIL] {
        assert_eq!(change(PASSWORD, refused).await.0, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    }
    assert_eq!(h.me(&other).await, StatusCode::OK);
    assert_eq!(change(PASSWORD, "another password").await.0, StatusCode::NO_CONTENT);
    assert_eq!((h.me(&this).await, h.me(&other).await), (StatusCode::OK, StatusCode::UNAUTHORIZED));
    let (status, _) = h.auth("login", json!({"email": EMAIL, "password": PASSWORD})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    h.log_in(EMAIL, "another password").await;
}

#[tokio::test]
async fn a_reset_token_is_good_once_and_ends_all_sessions() {
    let h = Harness::start().await;
    let id = h.user(EMAIL, PASSWORD).await;
    let access = text(&h.log_in(EMAIL, PASSWORD).await, "access_token");
    let (status, made) = h.api(Method::POST, &format!("users/{id}/reset-password"), &h.key, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    let token = text(&made, "token");
    let reset =
        |password: &'static str| h.auth("password/reset", json!({"token": token, "password": password}));
    assert_eq!(reset("short").await.0, StatusCode::UNPROCESSABLE_ENTITY, "which does not cost the token");
    let (a, b) = tokio::join!(reset("another password"), reset("another password"));
    let good = [&a, &b].iter().filter(|(status, _)| *status == StatusCode::NO_CONTENT).count();
    assert_eq!(good, 1, "{a:?} {b:?}");
    let (status, problem) = reset("a third password").await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_one_time_token")));
    assert_eq!(h.me(&access).await, StatusCode::UNAUTHORIZED);
    h.log_in(EMAIL, "another password").await;
}

#[tokio::test]
async fn whoever_is_invited_sets_a_password_and_is_in() {
    let h = Harness::start().await;
    let (status, user) =
        h.api(Method::POST, "users", &h.key, json!({"email": EMAIL, "role": "VIEWER"})).await;
    assert_eq!(status, StatusCode::CREATED, "{user}");
    let id = text(&user, "id");
    let (status, made) = h.api(Method::POST, &format!("users/{id}/invite"), &h.key, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    let body = json!({"token": text(&made, "token"), "password": PASSWORD, "name": "Ada"});
    let (status, session) = h.auth("invitation", body.clone()).await;
    assert_eq!(status, StatusCode::OK, "{session}");
    assert_eq!(h.me(&text(&session, "access_token")).await, StatusCode::OK);
    assert_eq!(h.auth("invitation", body).await.0, StatusCode::UNAUTHORIZED);
    h.log_in(EMAIL, PASSWORD).await;
    let (status, _) =
        h.auth("password/reset", json!({"token": text(&made, "token"), "password": PASSWORD})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "an invitation is no reset");
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let h = Harness::start().await;
    let id = h.user(EMAIL, PASSWORD).await;
    let (_, made) = h.api(Method::POST, &format!("users/{id}/reset-password"), &h.key, json!({})).await;
    let rows = h.ports.verifiers.of_principal(VerifierKind::PasswordReset, &id).await.expect("read");
    let past = domain::time::Timestamp::from_unix_ms(1);
    h.ports.verifiers.put(&Verifier { expires_at: Some(past), ..rows[0].clone() }).await.expect("stored");
    let (status, _) =
        h.auth("password/reset", json!({"token": made["token"], "password": "another one"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn it_is_known_when_sessions_were_last_used_and_from_where() {
    let h = Harness::start().await;
    h.user(EMAIL, PASSWORD).await;
    let login = h.bare(Method::POST, "/api/v1/auth/login").header("user-agent", "test/1");
    let session: Value = login
        .json(&json!({"email": EMAIL, "password": PASSWORD}))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let (_, sessions) =
        h.api(Method::GET, "auth/sessions", &text(&session, "access_token"), Value::Null).await;
    let listed = &sessions["items"][0];
    assert_eq!((&listed["user_agent"], &listed["current"]), (&json!("test/1"), &json!(true)));
    assert!(listed["last_used_at"].is_string(), "{listed}");

    h.shutdown.cancel();
    h.running.await.expect("stopped");
    let id: uuid::Uuid = text(listed, "id").parse().expect("an id");
    let uses = h.ports.verifiers.uses(&[id]).await.expect("read");
    assert_eq!(uses.len(), 1, "written at the end at the latest");
    let keys =
        h.ports.verifiers.list(VerifierKind::SigningKey, &TenantId::default_tenant()).await.expect("read");
    assert_eq!(keys.len(), 1);
}
