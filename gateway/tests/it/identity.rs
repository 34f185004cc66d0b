//! Users, roles and keys over HTTP: who may give what, who is never taken away, what is refused at once.

use gateway::GatewayConfig;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::harness::{Harness, text};

const PASSWORD: &str = "correct horse battery";

impl Harness {
    async fn as_one(&self, token: &str, method: Method, path: &str, body: Value) -> Response {
        let request = self.bare(method, path).bearer_auth(token).header("if-match", "*");
        let request = if body.is_null() { request } else { request.json(&body) };
        request.send().await.expect("an answer")
    }

    /// Makes a user and logs them in: id and token.
    async fn person(&self, email: &str, role: &str) -> (String, String) {
        let body = json!({"email": email, "password": PASSWORD, "role": role});
        let made = self.post("/api/v1/users", &body).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let id = text(&made.json().await.expect("JSON"), "id");
        (id, self.token_of(email).await)
    }

    /// A token of a person.
    async fn token_of(&self, email: &str) -> String {
        let login = json!({"email": email, "password": PASSWORD});
        let login =
            self.bare(Method::POST, "/api/v1/auth/login").json(&login).send().await.expect("an answer");
        text(&login.json().await.expect("JSON"), "access_token")
    }
}

async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.expect("JSON");
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_last_active_admin_is_neither_deleted_disabled_nor_demoted() {
    let h = Harness::projected(GatewayConfig::default()).await;
    h.settled().await;
    let root = format!("/api/v1/users/{}", domain::identity::bootstrap_admin_id());
    let key = h.key.clone();
    let last = (409, "last_admin".to_owned());
    assert_eq!(code(h.as_one(&key, Method::DELETE, &root, Value::Null).await).await, last);
    assert_eq!(code(h.post(&format!("{root}/disable"), &json!({})).await).await, last);
    assert_eq!(code(h.as_one(&key, Method::PUT, &root, json!({"role": "user"})).await).await, last);

    let (second, token) = h.person("second@example.test", "admin").await;
    let second = format!("/api/v1/users/{second}");
    // One who is disabled does not count.
    assert_eq!(h.post(&format!("{second}/disable"), &json!({})).await.status(), StatusCode::OK);
    assert_eq!(code(h.post(&format!("{root}/disable"), &json!({})).await).await, last);
    assert_eq!(h.as_one(&token, Method::GET, "/api/v1/auth/me", Value::Null).await.status(), 401);
    assert_eq!(h.post(&format!("{second}/enable"), &json!({})).await.status(), StatusCode::OK);
    // What was theirs before is not again.
    assert_eq!(h.as_one(&token, Method::GET, "/api/v1/auth/me", Value::Null).await.status(), 401);
    let token = h.token_of("second@example.test").await;
    assert_eq!(h.as_one(&key, Method::PUT, &root, json!({"role": "USER"})).await.status(), StatusCode::OK);
    assert_eq!(code(h.as_one(&token, Method::DELETE, &second, Value::Null).await).await, last);
}

#[tokio::test]
async fn nobody_gives_more_than_they_have_nor_touches_who_has_more() {
    let h = Harness::projected(GatewayConfig::default()).await;
    h.settled().await;
    let grants = json!([
        {"permission": "user:read"}, {"permission": "user:write"},
        {"permission": "role:read"}, {"permission": "role:write"},
        {"permission": "workflow:read", "reach": "own"}
    ]);
    let role = h.post("/api/v1/roles", &json!({"name": "helpdesk", "grants": grants})).await;
    assert_eq!(role.status(), StatusCode::CREATED);
    let (_, token) = h.person("desk@example.test", "helpdesk").await;
    let (user, _) = h.person("user@example.test", "USER").await;
    let root = format!("/api/v1/users/{}", domain::identity::bootstrap_admin_id());
    let new = |role: &str| json!({"email": format!("{role}@example.test").to_lowercase(), "role": role});
    let wider = json!({"grants": [{"permission": "workflow:read", "reach": "any"}]});
    let same = json!({"grants": [{"permission": "workflow:read", "reach": "own"}]});
    for (method, path, body, status) in [
        (Method::POST, "/api/v1/users", new("ADMIN"), 403),
        (Method::POST, "/api/v1/users", new("USER"), 403),
        (Method::POST, "/api/v1/users", new("helpdesk"), 201),
        (Method::POST, &format!("{root}/reset-password"), json!({}), 403),
        (Method::POST, &format!("{root}/disable"), json!({}), 403),
        (Method::DELETE, &root, Value::Null, 403),
        (Method::PUT, &format!("/api/v1/users/{user}"), json!({"role": "helpdesk"}), 403),
        (Method::PUT, "/api/v1/roles/wider", wider.clone(), 403),
        (Method::PUT, "/api/v1/roles/same", same, 200),
        (Method::PUT, "/api/v1/roles/helpdesk", wider, 403),
        (Method::DELETE, "/api/v1/roles/same", Value::Null, 204),
        (Method::DELETE, "/api/v1/roles/helpdesk", Value::Null, 409),
    ] {
        let answer = h.as_one(&token, method.clone(), path, body).await;
        assert_eq!(answer.status(), status, "{method} {path}: {}", answer.text().await.expect("a body"));
    }
}

#[tokio::test]
async fn a_key_has_its_scopes_of_its_owners_rights_and_makes_none_that_is_more() {
    let h = Harness::start().await;
    h.settled().await;
    let (_, token) = h.person("user@example.test", "USER").await;
    let make = async |token: &str, body: Value| h.as_one(token, Method::POST, "/api/v1/api-keys", body).await;
    let refused = make(&token, json!({"name": "k", "scopes": ["audit:read"]})).await;
    assert_eq!(code(refused).await, (403, "forbidden".to_owned()));
    let made = make(&token, json!({"name": "k", "scopes": ["workflow:*", "api_key:*"]})).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.expect("JSON");
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    assert_eq!(h.as_one(&key, Method::GET, "/api/v1/executions", Value::Null).await.status(), 403);
    for (scopes, status) in [
        (json!(["*"]), 403),
        (json!(["execution:read"]), 403),
        (json!(["workflow:*"]), 201),
        (json!(["workflow:read"]), 201),
    ] {
        assert_eq!(make(&key, json!({"name": "n", "scopes": scopes})).await.status(), status, "{scopes}");
    }
    // What has an end makes nothing that outlives it.
    let short = json!({"name": "s", "scopes": ["api_key:*"], "expires_at": "2100-01-01T00:00:00Z"});
    let short = text(&make(&token, short).await.json().await.expect("JSON"), "key");
    let later = json!({"name": "l", "scopes": ["api_key:read"], "expires_at": "2100-01-02T00:00:00Z"});
    assert_eq!(make(&short, later).await.status(), 403);
    let endless: Value =
        make(&short, json!({"name": "e", "scopes": ["api_key:read"]})).await.json().await.expect("JSON");
    assert_eq!(endless["expires_at"], "2100-01-01T00:00:00.000Z");

    let path = format!("/api/v1/api-keys/{id}");
    assert_eq!(h.as_one(&token, Method::DELETE, &path, Value::Null).await.status(), 204);
    assert_eq!(h.as_one(&key, Method::GET, "/api/v1/auth/me", Value::Null).await.status(), 401);
    let shown: Value = h.as_one(&token, Method::GET, &path, Value::Null).await.json().await.expect("JSON");
    assert_eq!((&shown["revoked"], shown.get("key")), (&json!(true), None));
}

#[tokio::test]
async fn a_repetition_makes_no_second_key_or_user_and_shows_no_secret_again() {
    let h = Harness::start().await;
    h.settled().await;
    for (path, body, secret) in [
        ("/api/v1/api-keys", json!({"name": "k"}), "key"),
        ("/api/v1/users", json!({"email": "i@example.test"}), "invitation_token"),
    ] {
        let send = async || {
            let request = h.request(Method::POST, path).header("idempotency-key", "once").json(&body);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::CREATED, "{path}");
            answer.json::<Value>().await.expect("JSON")
        };
        let (first, again) = (send().await, send().await);
        assert_eq!(first["id"], again["id"]);
        assert!(first[secret].is_string() && again.get(secret).is_none(), "{again}");
    }
}

#[tokio::test]
async fn a_suspended_tenant_and_a_deleted_user_are_refused_at_once() {
    let h = Harness::projected(GatewayConfig::default()).await;
    h.settled().await;
    let admin = json!({"email": "acme@example.test", "password": PASSWORD});
    let made = h.post("/api/v1/tenants", &json!({"name": "acme", "admin": admin})).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let login = json!({"email": "acme@example.test", "password": PASSWORD});
    let login = h.bare(Method::POST, "/api/v1/auth/login").json(&login).send().await.expect("an answer");
    let token = text(&login.json().await.expect("JSON"), "access_token");
    let me = async |token: &str| h.as_one(token, Method::GET, "/api/v1/auth/me", Value::Null).await.status();
    assert_eq!(me(&token).await, 200);
    assert_eq!(h.as_one(&token, Method::GET, "/api/v1/tenants", Value::Null).await.status(), 403);
    assert_eq!(h.post("/api/v1/tenants/acme/suspend", &json!({})).await.status(), 200);
    assert_eq!(me(&token).await, 401);
    assert_eq!(h.post("/api/v1/tenants/acme/resume", &json!({})).await.status(), 200);
    assert_eq!(me(&token).await, 200);

    let (id, token) = h.person("gone@example.test", "USER").await;
    assert_eq!(me(&token).await, 200);
    let key = h.key.clone();
    let path = format!("/api/v1/users/{id}");
    assert_eq!(h.as_one(&key, Method::DELETE, &path, Value::Null).await.status(), 204);
    assert_eq!(me(&token).await, 401);
    assert_eq!(h.get(&path).await.status(), 404);
    // The e-mail is free again.
    h.person("gone@example.test", "VIEWER").await;
}

#[tokio::test]
async fn a_subscription_ends_with_its_right_and_a_connection_with_its_caller() {
    let h = Harness::projected(GatewayConfig::default()).await;
    h.settled().await;
    let (owner, owner_token) = h.person("owner@example.test", "USER").await;
    let (viewer, viewer_token) = h.person("viewer@example.test", "VIEWER").await;
    let definition = super::harness::waiting("shared");
    let made = h.as_one(&owner_token, Method::POST, "/api/v1/workflows", definition).await;
    let workflow = text(&made.json().await.expect("JSON"), "id");
    let path = format!("/api/v1/workflows/{workflow}");
    let started = h.as_one(&owner_token, Method::POST, &format!("{path}/execute"), json!({})).await;
    let execution = text(&started.json().await.expect("JSON"), "execution_id");
    let share = async |users: Value| {
        let body = json!({"users": users});
        let shared = h.as_one(&owner_token, Method::POST, &format!("{path}/share"), body).await;
        assert_eq!(shared.status(), StatusCode::OK);
    };
    share(json!([viewer])).await;
    let seen = h.as_one(&owner_token, Method::GET, &path, Value::Null).await;
    let seen: Value = seen.json().await.expect("JSON");
    assert_eq!(
        (&seen["owner"], &seen["visibility"], &seen["access"], &seen["shared_with"]),
        (&json!(owner), &json!("private"), &json!("read"), &json!([viewer])),
        "{seen}"
    );
    let mut socket = h.connect(Some(&viewer_token)).await;
    let subscribe =
        json!({"type": "subscribe", "id": "s", "channel": "execution", "execution_id": execution});
    socket.send(subscribe.clone()).await;
    while socket.next().await.expect("a message")["type"] != "caught_up" {}
    let path_of_stream = format!("/api/v1/executions/{execution}/stream");
    let stream = h.as_one(&viewer_token, Method::GET, &path_of_stream, Value::Null).await;
    assert_eq!(stream.status(), StatusCode::OK);

    share(json!([])).await;
    let ended = socket.next().await.expect("a message");
    assert_eq!((&ended["subscription"], &ended["code"]), (&json!("s"), &json!("forbidden")), "{ended}");
    let told = stream.text().await.expect("the whole stream");
    assert!(told.contains("event: error") && told.contains("\"forbidden\""), "{told}");
    socket.send(subscribe).await;
    assert_eq!(socket.next().await.expect("a message")["status"], 403);

    let disabled = h.post(&format!("/api/v1/users/{viewer}/disable"), &json!({})).await;
    assert_eq!(disabled.status(), StatusCode::OK);
    assert_eq!(socket.next().await, Err(4401));
    drop(owner);
}

#[tokio::test]
async fn a_condition_decides_on_the_thing() {
    let h = Harness::projected(GatewayConfig::default()).await;
    h.settled().await;
    let grants = json!([{"permission": "workflow:read", "condition": "resource.name.startsWith('public-')"}]);
    let role = h.post("/api/v1/roles", &json!({"name": "narrow", "grants": grants})).await;
    assert_eq!(role.status(), StatusCode::CREATED);
    let (_, token) = h.person("narrow@example.test", "narrow").await;
    let seen = h.create(&super::harness::waiting("public-one")).await;
    let hidden = h.create(&super::harness::waiting("secret-one")).await;
    // Who made them waits for the read model; others would not.
    for id in [&seen, &hidden] {
        assert_eq!(h.get(&format!("/api/v1/workflows/{id}")).await.status(), StatusCode::OK);
    }
    for (id, status) in [(&seen, 200), (&hidden, 403)] {
        let answer = h.as_one(&token, Method::GET, &format!("/api/v1/workflows/{id}"), Value::Null).await;
        assert_eq!(answer.status(), status);
    }
    // Lists show no more than single reads do.
    let list = h.as_one(&token, Method::GET, "/api/v1/workflows", Value::Null).await;
    let list: Value = list.json().await.expect("JSON");
    let ids: Vec<_> =
        list["items"].as_array().expect("items").iter().map(|item| item["id"].clone()).collect();
    assert_eq!(ids, [json!(seen)]);
}
