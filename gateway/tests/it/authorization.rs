//! Every route, without a key and with a wrong one.

use gateway::{RULES, Rule};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::harness::Harness;

/// Every route of the document: method, template, and whether it needs a caller as the table of rules says.
fn routes() -> Vec<(String, String, bool)> {
    let document: Value = serde_json::from_slice(&gateway::openapi_document()).expect("JSON");
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            let method = method.to_uppercase();
            let rule = RULES.iter().find(|(verb, route, _)| *verb == method && route == path);
            if let Some((_, _, rule)) = rule {
                routes.push((method, path.clone(), *rule != Rule::Public));
            }
        }
    }
    routes
}

#[test]
fn the_document_and_the_rules_agree_on_who_needs_credentials() {
    let document: Value = serde_json::from_slice(&gateway::openapi_document()).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let open = operation["security"] == serde_json::json!([{}]);
            let listed =
                routes().into_iter().find(|(verb, route, _)| verb.to_lowercase() == *method && route == path);
            let (_, _, closed) = listed.unwrap_or_else(|| panic!("{method} {path} has no rule"));
            assert_eq!(open, !closed, "{method} {path}");
            assert!(operation["responses"]["500"].is_object(), "{method} {path} describes its problems");
        }
    }
}

#[tokio::test]
async fn every_route_but_the_public_ones_refuses_a_missing_or_wrong_key() {
    let harness = Harness::start().await;
    for (method, template, closed) in routes() {
        let path = template
            .replace("{id}", "0190b2c4-7d5e-7abc-8def-0123456789ab")
            .replace("{other}", "0190b2c4-7d5e-7abc-8def-0123456789ac")
            .replace("{code}", "internal")
            .replace("{name}", "x")
            .replace("{slug}", "x")
            .replace("{provider}", "x")
            .replace("{v}", "1");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let wrong = ["Bearer evl_wrong", "Bearer ", "Basic eDp5", "evl_wrong", "Bearer x y"];
        let mut answers = vec![harness.bare(method.clone(), &path).send().await.expect("an answer")];
        for header in wrong {
            let request = harness.bare(method.clone(), &path).header("authorization", header);
            answers.push(request.send().await.expect("an answer"));
        }
        for answer in answers {
            if closed {
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
