//! Sessions of browsers: cookies, and requests that other sites make a browser send.

use reqwest::header::{HeaderMap, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::harness::{EMAIL, Harness, PASSWORD, echo, text};

/// What a browser keeps of a login: the `Cookie` header, and the code.
async fn browser(h: &Harness) -> (String, String, HeaderMap) {
    let body = json!({"email": EMAIL, "password": PASSWORD, "session": "cookie"});
    let answer = h.bare(Method::POST, "/api/v1/auth/login").json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers().clone();
    let session: Value = answer.json().await.expect("JSON");
    assert!(session.get("access_token").is_none() && session.get("refresh_token").is_none(), "{session}");
    let kept = headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().expect("text"));
    let kept: Vec<_> = kept.map(|line| line.split(';').next().expect("a pair").to_owned()).collect();
    (kept.join("; "), text(&session, "csrf_token"), headers)
}

#[tokio::test]
async fn a_cookie_stands_for_its_session_and_scripts_cannot_read_it() {
    let h = Harness::start().await;
    let (cookie, _, headers) = browser(&h).await;
    let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().expect("text")).collect();
    let session = lines.iter().find(|line| line.starts_with("everline_session=evs_")).expect("the session's");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="] {
        assert!(session.contains(attribute), "{session}");
    }
    assert!(!session.contains("Secure"), "over HTTP a browser would not send it back");
    let readable = lines.iter().find(|line| line.starts_with("everline_csrf=")).expect("the code's");
    assert!(!readable.contains("HttpOnly"));
    let me =
        h.bare(Method::GET, "/api/v1/auth/me").header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(me.status(), StatusCode::OK);
    let secret = session.split(['=', ';']).nth(1).expect("the secret");
    assert_eq!(h.me(secret).await, StatusCode::UNAUTHORIZED, "it is no bearer token");

    let secure = Harness::with(gateway::GatewayConfig { cookie_secure: true, ..Default::default() }).await;
    let (_, _, headers) = browser(&secure).await;
    let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().expect("text")).collect();
    assert!(lines.iter().any(|line| line.starts_with("__Host-everline_session=") && line.contains("Secure")));
}

#[tokio::test]
async fn what_changes_something_needs_the_code_and_must_not_come_from_another_site() {
    let h = Harness::start().await;
    let (cookie, code, _) = browser(&h).await;
    let (_, code_of_another, _) = browser(&h).await;
    let own = format!("http://{}", h.address);
    let post = async |name: &str, headers: &[(&str, &str)]| {
        let mut request =
            h.bare(Method::POST, "/api/v1/workflows").header("cookie", &cookie).json(&echo(name));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        if status != StatusCode::CREATED {
            assert_eq!(
                (status, &body["code"]),
                (StatusCode::FORBIDDEN, &json!("csrf_failed")),
                "{headers:?}"
            );
        }
        status
    };
    assert_eq!(post("a", &[]).await, StatusCode::FORBIDDEN);
    assert_eq!(post("a", &[("x-csrf-token", "")]).await, StatusCode::FORBIDDEN);
    assert_eq!(post("a", &[("x-csrf-token", &code_of_another)]).await, StatusCode::FORBIDDEN);
    let good = ("x-csrf-token", &*code);
    assert_eq!(post("a", &[good, ("origin", "http://attacker.example")]).await, StatusCode::FORBIDDEN);
    assert_eq!(post("a", &[good, ("origin", "null")]).await, StatusCode::FORBIDDEN);
    assert_eq!(post("a", &[good, ("sec-fetch-site", "cross-site")]).await, StatusCode::FORBIDDEN);
    assert_eq!(post("a", &[good]).await, StatusCode::CREATED);
    assert_eq!(
        post("b", &[good, ("origin", &own), ("sec-fetch-site", "same-origin")]).await,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_logout_takes_the_cookies_away() {
    let h = Harness::start().await;
    let (cookie, code, _) = browser(&h).await;
    let logout = h.bare(Method::POST, "/api/v1/auth/logout").header("cookie", &cookie);
    let answer = logout.header("x-csrf-token", &code).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let ended = answer.headers().get_all(SET_COOKIE).iter();
    assert_eq!(ended.filter(|line| line.to_str().expect("text").contains("Max-Age=0")).count(), 3);
    let me =
        h.bare(Method::GET, "/api/v1/auth/me").header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_websocket_with_a_cookie_needs_our_origin() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let h = Harness::start().await;
    let (cookie, _, _) = browser(&h).await;
    let connect = async |origin: Option<String>| {
        let mut request = format!("ws://{}/api/v1/ws", h.address).into_client_request().expect("a request");
        request.headers_mut().insert("cookie", cookie.parse().expect("a value"));
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().expect("a value"));
        }
        tokio_tungstenite::connect_async(request).await
    };
    assert!(connect(None).await.is_err());
    assert!(connect(Some("http://attacker.example".to_owned())).await.is_err());
    assert!(connect(Some(format!("http://{}", h.address))).await.is_ok());
}

#[tokio::test]
async fn another_site_cannot_log_its_own_user_in() {
    let h = Harness::start().await;
    let body = json!({"email": EMAIL, "password": PASSWORD, "session": "cookie"});
    let login = h.bare(Method::POST, "/api/v1/auth/login").json(&body).header("sec-fetch-site", "cross-site");
    assert_eq!(login.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
}
