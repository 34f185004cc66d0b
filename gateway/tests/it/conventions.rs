//! What holds for all of the surface: the document, methods, preferences, entity tags, links.

use reqwest::{Method, StatusCode};

use reqwest::header;
use serde_json::{Value, json};
use std::time::Instant;

use super::harness::{Harness, echo, text, waiting};

/// Where the document is kept, so that a change of the surface shows in a review.
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

#[test]
fn the_recorded_document_is_the_one_that_is_served() {
    let served: serde_json::Value = serde_json::from_slice(&gateway::openapi_document()).expect("JSON");
    let recorded = std::fs::read(SNAPSHOT).unwrap_or_default();
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap_or_default();
    assert!(
        served == recorded,
        "docs/openapi.json is not what the gateway serves; run `cargo xtask openapi`"
    );
}

#[tokio::test]
async fn options_name_the_methods_without_a_key() {
    let h = Harness::start().await;
    for (path, allowed) in [("/api/v1/workflows", "GET,HEAD,POST"), ("/livez", "GET,HEAD")] {
        let answer = h.bare(Method::OPTIONS, path).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{path}");
        let allow = answer.headers()["allow"].to_str().expect("ASCII").replace(' ', "");
        let mut methods: Vec<_> = allow.split(',').collect();
        methods.sort_unstable();
        let mut expected: Vec<_> = allowed.split(',').chain(["OPTIONS"]).collect();
        expected.sort_unstable();
        assert_eq!(methods, expected, "{path}");
    }
    let nowhere = h.bare(Method::OPTIONS, "/api/v1/nothing").send().await.expect("an answer");
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    let refused = h.bare(Method::DELETE, "/api/v1/workflows").send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert!(refused.headers()["allow"].to_str().expect("ASCII").contains("POST"));
}

#[tokio::test]
async fn a_preference_to_wait_is_followed_and_said() {
    let h = Harness::start().await;
    let quick = h.create(&echo("prefers")).await;
    let slow = h.create(&waiting("prefers-not")).await;
    let execute = |workflow: &str, prefer: &'static str, body: Value| {
        h.request(Method::POST, &format!("/api/v1/workflows/{workflow}/execute"))
            .header("prefer", prefer)
            .json(&body)
    };
    let applied = |answer: &reqwest::Response| {
        answer.headers().get("preference-applied").map(|value| value.to_str().expect("ASCII").to_owned())
    };
    let answer = execute(&quick, "respond-async, wait=20", json!({})).send().await.expect("an answer");
    assert_eq!((answer.status(), applied(&answer)), (StatusCode::OK, Some("wait=20".to_owned())));
    let began = Instant::now();
    let answer = execute(&slow, "respond-async, wait=1", json!({})).send().await.expect("an answer");
    assert_eq!(
        (answer.status(), applied(&answer)),
        (StatusCode::ACCEPTED, Some("respond-async, wait=1".to_owned()))
    );
    assert!(began.elapsed().as_millis() >= 1_000, "it waited");
    let answer = execute(&slow, "respond-async", json!({})).send().await.expect("an answer");
    assert_eq!((answer.status(), applied(&answer)), (StatusCode::ACCEPTED, Some("respond-async".to_owned())));
    let answer = execute(&slow, "wait=60", json!({"wait_ms": 1})).send().await.expect("an answer");
    assert_eq!(
        (answer.status(), applied(&answer)),
        (StatusCode::ACCEPTED, None),
        "the body goes before the header"
    );
}

#[tokio::test]
async fn a_path_has_one_spelling_but_for_percent_encoding() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let encoded = id.replace('-', "%2D").replace('0', "%30");
    let found = h.get_json(&format!("/api/v1/executions/{encoded}/events?limit=1")).await;
    assert_eq!(text(&found["items"][0], "stream"), id);
    let cancel = |id: &str| {
        let request = h.request(Method::POST, &format!("/api/v1/executions/{id}/cancel"));
        request.header("idempotency-key", "one").json(&json!({})).send()
    };
    let first = cancel(&id).await.expect("an answer");
    let again = cancel(&encoded).await.expect("an answer");
    assert_eq!((first.status(), again.status()), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    let position = |answer: &reqwest::Response| answer.headers()["everline-position"].clone();
    assert_eq!(position(&first), position(&again), "it is the same command");
    for path in ["/api/v1/workflows/", "/api/v1//workflows"] {
        assert_eq!(h.get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn every_get_is_answered_to_head_without_a_body() {
    let h = Harness::start().await;
    for path in [
        "/livez",
        "/version",
        "/docs",
        "/api/v1/openapi.json",
        "/api/v1/node-types",
        "/api/v1/events",
        "/api/v1/auth/me",
    ] {
        let got = h.get(path).await;
        let head = h.request(Method::HEAD, path).send().await.expect("an answer");
        assert_eq!(head.status(), got.status(), "{path}");
        assert_eq!(
            head.headers().get(header::CONTENT_TYPE),
            got.headers().get(header::CONTENT_TYPE),
            "{path}"
        );
        assert!(head.bytes().await.expect("a body").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_page_links_to_the_next_one() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    for path in [format!("/api/v1/executions/{id}/events?limit=1"), "/api/v1/events?limit=1".to_owned()] {
        let page = h.get(&path).await;
        let link = page.headers()["link"].to_str().expect("ASCII").to_owned();
        let next =
            link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a link");
        let page: Value = page.json().await.expect("JSON");
        assert!(next.contains(&format!("cursor={}", text(&page, "next_cursor"))), "{next}");
        let following = h.get_json(next).await;
        assert_ne!(following["items"][0]["id"], page["items"][0]["id"], "{path}");
    }
}
