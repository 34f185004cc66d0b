//! Device login: the program asks, a person approves, in the steps of RFC 8628.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::sessions::Person;
use super::{ADMIN, Live, PASSWORD};
use crate::harness::{Answer, Client, within};

/// A session of the administrator, who sits at a browser.
async fn person(live: &Live) -> Client {
    let answer = live.client.post("/auth/login", &json!({"email": ADMIN, "password": PASSWORD})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    Client::new(&live.url, answer.body["access_token"].as_str().unwrap())
}

/// Anybody at all.
async fn anonymous(live: &Live, path: &str, body: Value) -> Answer {
    let request = live.client.http.request(Method::POST, format!("{}/api/v1{path}", live.url));
    live.client.send(request.json(&body)).await
}

async fn begin(live: &Live) -> (String, String) {
    let begun = anonymous(live, "/auth/device", json!({"client_name": "a television"})).await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.body);
    assert_eq!((&begun.body["expires_in"], &begun.body["interval"]), (&json!(600), &json!(5)));
    let text = |name: &str| begun.body[name].as_str().unwrap().to_owned();
    assert_eq!(
        text("verification_uri_complete"),
        format!("{}/device?user_code={}", live.url, text("user_code"))
    );
    (text("device_code"), text("user_code"))
}

async fn poll(live: &Live, device_code: &str) -> (u16, Value) {
    let answer = anonymous(live, "/auth/device/token", json!({"device_code": device_code})).await;
    (
        answer.status.as_u16(),
        if answer.status.is_success() { answer.body } else { answer.body["code"].clone() },
    )
}

#[tokio::test]
async fn a_device_is_let_in_once_by_a_session_and_by_nothing_less() {
    let live = Live::start("").await;
    let person = person(&live).await;
    let (device_code, user_code) = begin(&live).await;
    assert_eq!(poll(&live, &device_code).await, (400, json!("authorization_pending")));
    assert_eq!(poll(&live, &device_code).await, (400, json!("slow_down")));
    assert_eq!(poll(&live, "evd_guessed").await, (400, json!("expired_token")));

    let decision = json!({"user_code": user_code.to_lowercase().replace('-', " "), "approve": true});
    // The administrator's own key could do anything, but not this: a session outlives it.
    assert_eq!(live.client.post("/auth/device/approve", &decision).await.body["code"], "not_a_session");
    assert_eq!(
        anonymous(&live, "/auth/device/approve", decision.clone()).await.status,
        StatusCode::UNAUTHORIZED
    );
    let decided = person.post("/auth/device/approve", &decision).await;
    assert_eq!(decided.body, json!({"client_name": "a television", "approved": true}));
    assert_eq!(person.post("/auth/device/approve", &decision).await.body["code"], "user_code_not_found");
    let (status, session) = poll(&live, &device_code).await;
    assert_eq!((status, &session["user"]["email"]), (200, &json!(ADMIN)), "{session}");
    assert_eq!(poll(&live, &device_code).await, (400, json!("expired_token")), "it is good for one session");
    let token = session["access_token"].as_str().unwrap();
    assert_eq!(Client::new(&live.url, token).get("/auth/me").await.body["email"], ADMIN);

    let (device_code, user_code) = begin(&live).await;
    let turned_away = json!({"user_code": user_code, "approve": false});
    assert_eq!(person.post("/auth/device/approve", &turned_away).await.body["approved"], false);
    assert_eq!(poll(&live, &device_code).await, (400, json!("access_denied")));
}

#[tokio::test]
async fn whoever_guesses_user_codes_is_stopped() {
    let live = Live::start("").await;
    let person = person(&live).await;
    let mut last = StatusCode::OK;
    for _ in 0..11 {
        let guess = json!({"user_code": "BCDF-GHJK", "approve": true});
        last = person.post("/auth/device/approve", &guess).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn the_page_runs_no_script_but_its_own() {
    let live = Live::start("").await;
    for (path, kind) in
        [("/device", "text/html"), ("/device/page.js", "text/javascript"), ("/device/page.css", "text/css")]
    {
        let answer = live.client.http.get(format!("{}{path}", live.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(kind));
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let body = answer.text().await.unwrap();
        let own = body.matches("src=\"").count() == body.matches("src=\"/device/").count();
        assert!(own && !body.contains("://"), "{path} needs nothing from elsewhere");
    }
}

#[tokio::test]
async fn the_command_line_logs_in_by_device() {
    let live = Live::start("").await;
    let at_terminal = Person::at(&live);
    let mut child = at_terminal
        .command(&["login", "--device", "--server", &live.url])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let code = within("the code", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("a code");
            if let Some(code) = line.split("user_code=").nth(1) {
                return code.to_owned();
            }
        }
    })
    .await;
    let decision = json!({"user_code": code, "approve": true});
    assert_eq!(person(&live).await.post("/auth/device/approve", &decision).await.status, StatusCode::OK);
    let done = within("the login", child.wait()).await.unwrap();
    assert!(done.success());
    assert!(at_terminal.says(&["whoami"]).await.contains(ADMIN));
}
