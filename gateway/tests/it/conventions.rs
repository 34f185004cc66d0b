//! What holds for all of the surface: the document, methods, preferences, entity tags, links.

use reqwest::{Method, StatusCode};

use super::harness::Harness;

/// Where the document is kept, so that a change of the surface shows in a review.
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

#[test]
fn the_recorded_document_is_the_one_that_is_served() {
    let served: serde_json::Value = serde_json::from_slice(&gateway::openapi_document()).expect("JSON");
    let recorded = std::fs::read(SNAPSHOT).unwrap_or_default();
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap_or_default();
    assert!(served == recorded, "docs/openapi.json is not what the gateway serves; run `cargo xtask openapi`");
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
    let refused = h.request(Method::DELETE, "/api/v1/workflows").send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert!(refused.headers()["allow"].to_str().expect("ASCII").contains("POST"));
}
