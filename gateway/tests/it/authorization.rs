//! Every route, without a key and with a wrong one.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::harness::Harness;

/// Every route and whether it needs a caller. A route that is missing here fails the test below.
const MATRIX: &[(&str, &str, bool)] = &[
    ("get", "/livez", false),
    ("get", "/readyz", false),
    ("get", "/metrics", false),
    ("get", "/version", false),
    ("get", "/docs", false),
    ("get", "/docs/errors/{code}", false),
    ("get", "/api/v1/openapi.json", false),
    ("post", "/api/v1/auth/register", false),
    ("post", "/api/v1/auth/login", false),
    ("post", "/api/v1/auth/refresh", false),
    ("post", "/api/v1/auth/logout", true),
    ("get", "/api/v1/auth/me", true),
    ("post", "/api/v1/workflows", true),
    ("get", "/api/v1/workflows", true),
    ("post", "/api/v1/workflows/validate", true),
    ("get", "/api/v1/workflows/{id}", true),
    ("put", "/api/v1/workflows/{id}", true),
    ("delete", "/api/v1/workflows/{id}", true),
    ("post", "/api/v1/workflows/{id}/publish", true),
    ("post", "/api/v1/workflows/{id}/enable", true),
    ("post", "/api/v1/workflows/{id}/disable", true),
    ("post", "/api/v1/workflows/{id}/restore", true),
    ("get", "/api/v1/workflows/{id}/versions", true),
    ("get", "/api/v1/workflows/{id}/versions/{v}", true),
    ("post", "/api/v1/workflows/{id}/execute", true),
    ("get", "/api/v1/executions", true),
    ("get", "/api/v1/executions/{id}", true),
    ("get", "/api/v1/executions/{id}/events", true),
    ("get", "/api/v1/executions/{id}/state", true),
    ("get", "/api/v1/executions/{id}/diff", true),
    ("get", "/api/v1/executions/{id}/diff/{other}", true),
    ("get", "/api/v1/executions/{id}/nodes", true),
    ("get", "/api/v1/dead-letters", true),
    ("get", "/api/v1/dead-letters/{id}", true),
    ("post", "/api/v1/executions/{id}/cancel", true),
    ("post", "/api/v1/executions/{id}/terminate", true),
    ("post", "/api/v1/executions/{id}/pause", true),
    ("post", "/api/v1/executions/{id}/resume", true),
    ("post", "/api/v1/executions/{id}/retry", true),
    ("post", "/api/v1/executions/{id}/fork", true),
    ("post", "/api/v1/dead-letters/{id}/redrive", true),
    ("post", "/api/v1/dead-letters/redrive", true),
    ("post", "/api/v1/executions/{id}/signals/{name}", true),
    ("get", "/api/v1/executions/{id}/stream", true),
    ("get", "/api/v1/events", true),
    ("get", "/api/v1/events/stream", true),
    ("post", "/api/v1/expressions/evaluate", true),
    ("get", "/api/v1/variables", true),
    ("post", "/api/v1/variables", true),
    ("get", "/api/v1/variables/{name}", true),
    ("put", "/api/v1/variables/{name}", true),
    ("delete", "/api/v1/variables/{name}", true),
    ("get", "/api/v1/node-types", true),
    ("get", "/api/v1/ws", true),
];

#[test]
fn the_matrix_names_every_route_of_the_document() {
    let document: Value = serde_json::from_slice(&gateway::openapi_document()).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let open = operation["security"] == serde_json::json!([{}]);
            routes.push((method.as_str(), path.as_str(), !open));
            assert!(operation["responses"]["500"].is_object(), "{method} {path} describes its problems");
        }
    }
    let mut named: Vec<_> = MATRIX.to_vec();
    named.sort_unstable();
    routes.sort_unstable();
    assert_eq!(routes, named);
}

#[tokio::test]
async fn every_route_but_the_public_ones_refuses_a_missing_or_wrong_key() {
    let harness = Harness::start().await;
    for (method, template, closed) in MATRIX {
        let path = template
            .replace("{id}", "0190b2c4-7d5e-7abc-8def-0123456789ab")
            .replace("{other}", "0190b2c4-7d5e-7abc-8def-0123456789ac")
            .replace("{code}", "internal")
            .replace("{name}", "x")
            .replace("{v}", "1");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        let wrong = ["Bearer evl_wrong", "Bearer ", "Basic eDp5", "evl_wrong", "Bearer x y"];
        let mut answers = vec![harness.bare(method.clone(), &path).send().await.expect("an answer")];
        for header in wrong {
            let request = harness.bare(method.clone(), &path).header("authorization", header);
            answers.push(request.send().await.expect("an answer"));
        }
        for answer in answers {
            if *closed {
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
                assert!(answer.headers().contains_key("www-authenticate"), "{method} {path}");
                assert_eq!(answer.headers()["content-type"], "application/problem+json");
                let problem: Value = answer.json().await.expect("JSON");
                assert_eq!(problem["code"], "unauthenticated");
            } else {
                assert!(
                    answer.headers().get("www-authenticate").is_none()
                        || answer.status() == StatusCode::UNAUTHORIZED
                );
                assert_ne!(problem_code(answer).await.as_deref(), Some("unauthenticated"), "{method} {path}");
            }
        }
    }
}

async fn problem_code(answer: reqwest::Response) -> Option<String> {
    let problem: Value = answer.json().await.ok()?;
    Some(problem["code"].as_str()?.to_owned())
}
