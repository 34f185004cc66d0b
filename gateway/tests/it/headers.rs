//! Headers of every answer, request ids, and limits of depth and time.

use domain::access::Permission;
use gateway::{GatewayConfig, Networks, RULES, Rule};
use reqwest::{Method, StatusCode};

use super::harness::Harness;

/// A route with something in the place of its parameters.
fn filled(route: &str) -> String {
    let id = "0190b2c4-7d5e-7abc-8def-0123456789ab";
    let parts = route.split('/').map(|part| if part.starts_with('{') { id } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_browsers_from_mischief() {
    let h = Harness::start().await;
    let answers = [
        h.get("/api/v1/auth/me").await,
        h.bare(Method::GET, "/api/v1/auth/me").send().await.expect("an answer"),
        h.get("/nowhere").await,
        h.get("/docs").await,
        h.get("/livez").await,
        h.request(Method::PATCH, "/api/v1/workflows").send().await.expect("an answer"),
    ];
    for answer in answers {
        let (url, headers) = (answer.url().clone(), answer.headers());
        assert_eq!(headers["x-content-type-options"], "nosniff", "{url}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{url}");
        assert_eq!(headers["x-frame-options"], "DENY", "{url}");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin", "{url}");
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{url}");
        assert!(!headers.contains_key("strict-transport-security"), "{url}: this is plain HTTP");
        assert_eq!(headers["x-request-id"].len(), 32, "{url}");
    }
    let page = h.get("/docs").await;
    let policy = page.headers()["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("script-src"), "the page may run its own script: {policy}");
}

#[tokio::test]
async fn an_answer_to_a_caller_is_kept_by_nobody() {
    let h = Harness::start().await;
    assert_eq!(h.get("/api/v1/auth/me").await.headers()["cache-control"], "no-store");
    let missing = h.get("/api/v1/workflows/0190b2c4-7d5e-7abc-8def-0123456789ab").await;
    assert_eq!(missing.headers()["cache-control"], "no-store");
    let kept = h.post("/api/v1/workflows", &super::harness::echo("kept")).await;
    assert!(kept.headers().contains_key("etag"));
    assert!(kept.headers()["cache-control"].to_str().expect("text").contains("private"));
}

#[tokio::test]
async fn https_is_demanded_of_who_already_has_it_and_only_a_trusted_proxy_says_so() {
    let proxies = Networks::try_from(vec!["127.0.0.1".to_owned()]).expect("a network");
    for (config, told) in [
        (GatewayConfig { trusted_proxies: proxies, ..GatewayConfig::default() }, true),
        (GatewayConfig::default(), false),
    ] {
        let h = Harness::with(config).await;
        let request = h.bare(Method::GET, "/livez").header("x-forwarded-proto", "https");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers().contains_key("strict-transport-security"), told);
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_if_that_can_be_one() {
    let h = Harness::start().await;
    let ask = async |id: &str| {
        let answer = h.bare(Method::GET, "/version").header("x-request-id", id).send().await;
        answer.expect("an answer").headers()["x-request-id"].to_str().expect("text").to_owned()
    };
    assert_eq!(ask("order-4711").await, "order-4711");
    assert_ne!(ask("two words").await, "two words");
    let long = "x".repeat(129);
    assert_ne!(ask(&long).await, long);
}

#[tokio::test]
async fn no_route_takes_a_body_that_is_too_deep() {
    let h = Harness::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (method, route, rule) in RULES.iter().filter(|(method, ..)| ["POST", "PUT"].contains(method)) {
        let method: Method = method.parse().expect("a method");
        let request = h.request(method.clone(), &filled(route)).header("if-match", "\"1\"");
        let request = request.header("content-type", "application/json").body(deep.clone());
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_client_error(), "{method} {route}: {}", answer.status());
        // Where nothing is looked up before the body is read, the body is what is wrong.
        if *rule == Rule::Needs(Permission::WorkflowCreate) {
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{method} {route}");
        }
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up_and_a_stream_is_not() {
    let config = GatewayConfig { request_timeout_ms: 300, heartbeat_ms: 100, ..GatewayConfig::default() };
    let h = Harness::with(config).await;
    let execution = h.start_waiting().await;
    let mut stream = h.get(&format!("/api/v1/executions/{execution}/stream")).await;
    assert_eq!(stream.status(), StatusCode::OK);
    let workflow = h.create(&super::harness::waiting("too-long")).await;
    let body = serde_json::json!({"wait_ms": 30_000});
    let answer = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &body).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(problem["code"], "request_took_too_long");
    // The stream began before that request and is older than the limit: signs of life still come.
    let mut beats = 0;
    while beats < 5 {
        let chunk = stream.chunk().await.expect("still open").expect("more");
        beats += String::from_utf8_lossy(&chunk).matches("heartbeat").count();
    }
}
