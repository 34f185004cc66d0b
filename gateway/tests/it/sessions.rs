//! Login, refresh, logout.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::harness::{EMAIL, Harness, PASSWORD, text};

impl Harness {
    /// A request to a route of the API with a token; its status and body.
    pub(crate) async fn api(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let request = self.bare(method, &format!("/api/v1/{path}")).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// A user of the tenant `default` with this password; their id.
    pub(crate) async fn user(&self, email: &str, password: &str) -> String {
        let body = json!({"email": email, "password": password, "role": "USER"});
        let (status, user) = self.api(Method::POST, "users", &self.key, body).await;
        assert_eq!(status, StatusCode::CREATED, "{user}");
        text(&user, "id")
    }

    /// A session of a user.
    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Value {
        let (status, session) = self.auth("login", json!({"email": email, "password": password})).await;
        assert_eq!(status, StatusCode::OK, "{session}");
        session
    }

    pub(crate) async fn auth(&self, verb: &str, body: Value) -> (StatusCode, Value) {
        let request = self.bare(Method::POST, &format!("/api/v1/auth/{verb}")).json(&body);
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    pub(crate) async fn me(&self, token: &str) -> StatusCode {
        let request = self.bare(Method::GET, "/api/v1/auth/me").bearer_auth(token);
        request.send().await.expect("an answer").status()
    }
}

#[tokio::test]
async fn a_session_begins_is_renewed_and_ends() {
    let h = Harness::start().await;
    let (status, session) =
        h.auth("login", json!({"email": " Admin@example.test", "password": PASSWORD})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(session["token_type"], "Bearer");
    assert_eq!(session["user"]["email"], EMAIL);
    let access = text(&session, "access_token");
    assert_eq!(h.me(&access).await, StatusCode::OK);
    assert_eq!(h.me(&text(&session, "refresh_token")).await, StatusCode::UNAUTHORIZED);

    let (status, renewed) = h.auth("refresh", json!({"refresh_token": session["refresh_token"]})).await;
    assert_eq!(status, StatusCode::OK);
    let access = text(&renewed, "access_token");
    let logout =
        h.bare(Method::POST, "/api/v1/auth/logout").bearer_auth(&access).send().await.expect("an answer");
    assert_eq!(logout.status(), StatusCode::NO_CONTENT);
    assert_eq!(h.me(&access).await, StatusCode::UNAUTHORIZED);
    let (status, _) = h.auth("refresh", json!({"refresh_token": renewed["refresh_token"]})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_its_session() {
    let h = Harness::start().await;
    let (_, session) = h.auth("login", json!({"email": EMAIL, "password": PASSWORD})).await;
    let (_, renewed) = h.auth("refresh", json!({"refresh_token": session["refresh_token"]})).await;
    assert_eq!(h.me(&text(&renewed, "access_token")).await, StatusCode::OK);
    let (status, problem) = h.auth("refresh", json!({"refresh_token": session["refresh_token"]})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("refresh_token_reused")));
    assert_eq!(h.me(&text(&renewed, "access_token")).await, StatusCode::UNAUTHORIZED);
    let (status, _) = h.auth("refresh", json!({"refresh_token": renewed["refresh_token"]})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn after_parallel_refreshes_with_one_token_nothing_of_the_session_is_alive() {
    let h = Harness::start().await;
    for _ in 0..10 {
        let (_, session) = h.auth("login", json!({"email": EMAIL, "password": PASSWORD})).await;
        let refresh = || h.auth("refresh", json!({"refresh_token": session["refresh_token"]}));
        let answers = futures::future::join_all((0..4).map(|_| refresh())).await;
        let won: Vec<_> = answers.iter().filter(|(status, _)| *status == StatusCode::OK).collect();
        assert_eq!(won.len(), 1);
        let renewed = &won[0].1;
        assert_eq!(h.me(&text(renewed, "access_token")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(h.me(&text(&session, "access_token")).await, StatusCode::UNAUTHORIZED);
        let (status, _) = h.auth("refresh", json!({"refresh_token": renewed["refresh_token"]})).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_refresh_during_the_logout_does_not_bring_the_session_back() {
    let h = Harness::start().await;
    for _ in 0..10 {
        let (_, session) = h.auth("login", json!({"email": EMAIL, "password": PASSWORD})).await;
        let access = text(&session, "access_token");
        let logout = h.bare(Method::POST, "/api/v1/auth/logout").bearer_auth(&access).send();
        let refresh = h.auth("refresh", json!({"refresh_token": session["refresh_token"]}));
        let ((status, renewed), logout) = tokio::join!(refresh, logout);
        assert_eq!(logout.expect("an answer").status(), StatusCode::NO_CONTENT);
        if status == StatusCode::OK {
            assert_eq!(h.me(&text(&renewed, "access_token")).await, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_email_look_the_same_and_are_throttled() {
    let config = gateway::GatewayConfig { login_failures_per_minute: 2, ..Default::default() };
    let h = Harness::with(config).await;
    let (_, wrong) = h.auth("login", json!({"email": EMAIL, "password": "wrong"})).await;
    let (_, unknown) = h.auth("login", json!({"email": "who@example.test", "password": "wrong"})).await;
    assert_eq!(wrong["code"], "invalid_credentials");
    assert_eq!((&wrong["detail"], &wrong["status"]), (&unknown["detail"], &unknown["status"]));
    h.auth("login", json!({"email": EMAIL, "password": "wrong"})).await;
    let (status, _) = h.auth("login", json!({"email": EMAIL, "password": PASSWORD})).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let (status, _) = h.auth("login", json!({"email": "other@example.test", "password": "x"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
