//! Bad requests, each with its status, code and pointers; the process lives.

use gateway::GatewayConfig;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::harness::{Harness, echo, text};

async fn problem(request: reqwest::RequestBuilder, status: u16, code: &str) -> Value {
    let answer = request.send().await.expect("an answer");
    let found = answer.status().as_u16();
    let kind = answer.headers().get("content-type").cloned();
    let body = answer.text().await.expect("a body");
    assert_eq!(found, status, "{body}");
    assert_eq!(kind.expect("a content type"), "application/problem+json", "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(body["status"], status);
    for field in ["type", "title", "detail", "instance", "trace_id"] {
        assert!(body[field].is_string(), "{field} is missing in {body}");
    }
    body
}

#[tokio::test]
async fn every_bad_request_is_a_problem_with_its_status() {
    let h = Harness::start().await;
    let post = |path: &str| h.request(Method::POST, path);
    let get = |path: &str| h.request(Method::GET, path);
    let id = "0190b2c4-7d5e-7abc-8def-0123456789ab";
    problem(get("/api/v1/nothing"), 404, "not_found").await;
    problem(h.bare(Method::GET, "/nothing"), 404, "not_found").await;
    problem(h.request(Method::PATCH, "/api/v1/workflows"), 405, "method_not_allowed").await;
    problem(get("/api/v1/executions/not-an-id/events"), 404, "not_found").await;
    problem(get(&format!("/api/v1/executions/{id}/events")), 404, "execution_not_found").await;
    problem(get(&format!("/api/v1/executions/{id}/state?at_version=1")), 404, "execution_not_found").await;
    problem(get("/api/v1/executions/%FF/events"), 400, "invalid_utf8").await;
    problem(get("/api/v1/events?category=%FF"), 400, "invalid_utf8").await;
    problem(get("/api/v1/events?limit=201"), 400, "invalid_parameter").await;
    problem(get("/api/v1/events?after_position=16:1"), 400, "invalid_position").await;
    problem(get("/api/v1/executions?cursor=zzz"), 400, "invalid_cursor").await;
    problem(get("/api/v1/executions?statsu=failed"), 400, "invalid_parameter").await;
    problem(get("/api/v1/ws"), 426, "upgrade_required").await;
    problem(post("/api/v1/workflows").body("not json"), 400, "invalid_json").await;
    problem(post("/api/v1/workflows"), 400, "invalid_json").await;
    problem(post("/api/v1/workflows").body(&b"{\"name\": \"\xff\"}"[..]), 400, "invalid_utf8").await;
    problem(post("/api/v1/workflows").body("[".repeat(100_000)), 400, "invalid_json").await;
    problem(
        post("/api/v1/workflows").header("content-type", "text/plain").body("{}"),
        415,
        "unsupported_media_type",
    )
    .await;
    problem(post("/api/v1/workflows").json(&json!([])), 422, "invalid_body").await;
    problem(
        post("/api/v1/workflows").json(&json!({"$blob": {"sha256": "x", "bytes": 1, "media_type": "y"}})),
        422,
        "reserved_value",
    )
    .await;
    problem(
        post("/api/v1/workflows").header("idempotency-key", "a b").json(&echo("x")),
        400,
        "invalid_idempotency_key",
    )
    .await;
    problem(post(&format!("/api/v1/executions/{id}/cancel")), 404, "execution_not_found").await;
    problem(post(&format!("/api/v1/workflows/{id}/execute")), 404, "workflow_not_found").await;
    problem(
        h.request(Method::PUT, &format!("/api/v1/workflows/{id}")).json(&echo("x")),
        428,
        "precondition_required",
    )
    .await;
    let put = h.request(Method::PUT, &format!("/api/v1/workflows/{id}")).header("if-match", "\"1\"");
    problem(put.json(&echo("x")), 404, "workflow_not_found").await;
    problem(h.bare(Method::POST, "/api/v1/auth/register").json(&json!({})), 403, "registration_closed").await;
    assert_eq!(h.get("/livez").await.status(), StatusCode::OK, "the process lives");
}

#[tokio::test]
async fn a_body_of_2_mib_is_refused_and_its_sender_reads_why() {
    let h = Harness::start().await;
    let body = json!({"name": "x".repeat(2 * 1024 * 1024)}).to_string();
    let request =
        h.request(Method::POST, "/api/v1/workflows").header("content-type", "application/json").body(body);
    problem(request, 413, "body_too_large").await;
}

#[tokio::test]
async fn defects_of_a_definition_have_their_pointers() {
    let h = Harness::start().await;
    let mut definition = echo("broken");
    definition["nodes"][1]["type"] = json!("teleport");
    definition["edges"][1]["target"] = json!("nowhere");
    definition["surprise"] = json!(1);
    let found =
        problem(h.request(Method::POST, "/api/v1/workflows").json(&definition), 422, "invalid_definition")
            .await;
    let pointers: Vec<_> =
        found["errors"].as_array().expect("errors").iter().map(|e| text(e, "pointer")).collect();
    assert!(pointers.contains(&"/nodes/1/type".to_owned()), "{pointers:?}");
    assert!(pointers.contains(&"/surprise".to_owned()), "{pointers:?}");

    let checked = h.post("/api/v1/workflows/validate", &definition).await;
    assert_eq!(checked.status(), StatusCode::OK);
    let checked: Value = checked.json().await.expect("JSON");
    assert_eq!((checked["valid"].clone(), &checked["errors"]), (json!(false), &found["errors"]));
    let fine: Value = h.post("/api/v1/workflows/validate", &echo("fine")).await.json().await.expect("JSON");
    assert_eq!(fine, json!({"valid": true, "errors": []}));
}

#[tokio::test]
async fn fields_that_nobody_knows_are_refused_with_their_pointers() {
    let h = Harness::start().await;
    let workflow = h.create(&echo("strict")).await;
    let request = h.request(Method::POST, &format!("/api/v1/workflows/{workflow}/execute"));
    let found = problem(request.json(&json!({"inptu": {}, "wait_ms": 60_001})), 422, "invalid_body").await;
    let pointers: Vec<_> =
        found["errors"].as_array().expect("errors").iter().map(|e| text(e, "pointer")).collect();
    assert_eq!(pointers, ["/wait_ms", "/inptu"]);
}

#[tokio::test]
async fn expressions_are_evaluated_within_bounds() {
    let h = Harness::start().await;
    let evaluate = |body: Value| h.request(Method::POST, "/api/v1/expressions/evaluate").json(&body);
    let answer =
        evaluate(json!({"expression": "a + 1", "context": {"a": 1}})).send().await.expect("an answer");
    assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({"value": 2}));
    let answer =
        evaluate(json!({"template": "n: {{ a }}", "context": {"a": 1}})).send().await.expect("an answer");
    assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({"value": "n: 1"}));
    problem(evaluate(json!({"expression": "a +"})), 422, "invalid_expression").await;
    problem(evaluate(json!({"expression": "a.b", "context": {"a": {}}})), 422, "expression_failed").await;
    problem(evaluate(json!({"template": "{{ credentials.x }}"})), 422, "invalid_expression").await;
    problem(evaluate(json!({"expression": "1", "language": "lua"})), 422, "invalid_body").await;
    problem(evaluate(json!({})), 422, "invalid_body").await;
    let bomb = format!("{}1{}", "(".repeat(50_000), ")".repeat(50_000));
    problem(evaluate(json!({"expression": bomb})), 422, "invalid_expression").await;
}

#[tokio::test]
async fn scripts_go_through_their_port_and_come_back_as_values_or_problems() {
    let h = Harness::start().await;
    let evaluate = |body: Value| h.request(Method::POST, "/api/v1/expressions/evaluate").json(&body);
    let script = |word: &str| evaluate(json!({"expression": word, "language": "js", "context": {"a": 1}}));
    let answer = script("echo").send().await.expect("an answer");
    assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({"value": {"a": 1}}));
    for (word, status, code, inner) in [
        ("syntax", 422, "invalid_expression", "expression_syntax"),
        ("failed", 422, "expression_failed", "expression_error"),
        ("limit", 422, "expression_failed", "sandbox_limit"),
    ] {
        let found = problem(script(word), status, code).await;
        assert_eq!(
            (&found["errors"][0]["pointer"], &found["errors"][0]["code"]),
            (&json!("/expression"), &json!(inner))
        );
    }
    for (word, code) in [("busy", "overloaded"), ("unavailable", "scripts_unavailable")] {
        problem(script(word), 503, code).await;
        let answer = script(word).send().await.expect("an answer");
        assert!(answer.headers().contains_key("retry-after"), "{word}");
    }
    let template =
        problem(evaluate(json!({"template": "{{ a }}", "language": "js"})), 422, "invalid_body").await;
    assert_eq!(template["errors"][0]["code"], "conflicting_fields");
    problem(evaluate(json!({"expression": 1, "language": "js"})), 422, "invalid_body").await;
    problem(evaluate(json!({"expression": "echo", "language": "js", "context": []})), 422, "invalid_body")
        .await;
}

#[tokio::test]
async fn a_command_is_sent_again_while_nobody_owns_the_partition() {
    let h = Harness::start().await;
    h.owner.refusals.store(2, Ordering::Relaxed);
    assert_eq!(h.post("/api/v1/workflows", &echo("patient")).await.status(), StatusCode::CREATED);
    let strict = Harness::with(gateway::GatewayConfig { command_retry_ms: 20, ..Default::default() }).await;
    strict.owner.refusals.store(usize::MAX, Ordering::Relaxed);
    let answer = strict.post("/api/v1/workflows", &echo("hopeless")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn variables_live_in_the_log() {
    let h = Harness::start().await;
    assert_eq!(h.post("/api/v1/variables", &json!({"name": "b", "value": [1]})).await.status(), 201);
    let put = h
        .request(Method::PUT, "/api/v1/variables/a")
        .json(&json!({"value": "x"}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(put.status(), 200);
    assert!(put.headers().contains_key("everline-position"));
    assert_eq!(h.get_json("/api/v1/variables/a").await, json!({"name": "a", "value": "x"}));
    let page = h.get_json("/api/v1/variables?limit=1").await;
    assert_eq!(page["items"], json!([{"name": "a", "value": "x"}]));
    let next = h.get_json(&format!("/api/v1/variables?limit=1&cursor={}", text(&page, "next_cursor"))).await;
    assert_eq!((&next["items"][0]["name"], &next["next_cursor"]), (&json!("b"), &Value::Null));
    let gone = h.request(Method::DELETE, "/api/v1/variables/a").send().await.expect("an answer");
    assert_eq!(gone.status(), 204);
    problem(h.request(Method::GET, "/api/v1/variables/a"), 404, "variable_not_found").await;
    problem(h.request(Method::DELETE, "/api/v1/variables/a"), 404, "variable_not_found").await;
    problem(
        h.request(Method::PUT, "/api/v1/variables/1a").json(&json!({"value": 1})),
        422,
        "invalid_variable",
    )
    .await;
}

#[tokio::test]
async fn health_and_metrics_answer_without_a_key() {
    let h = Harness::start().await;
    let ready: Value =
        h.bare(Method::GET, "/readyz").send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&ready["status"], &ready["checks"]["log"]["status"]), (&json!("ready"), &json!("ok")));
    let metrics =
        h.bare(Method::GET, "/metrics").send().await.expect("an answer").text().await.expect("text");
    assert!(
        metrics.contains("everline_http_requests_total{method=\"GET\",route=\"/readyz\",status=\"200\"} 1")
    );
    let docs = h.bare(Method::GET, "/docs").send().await.expect("an answer");
    assert!(docs.headers()["content-type"].to_str().expect("text").starts_with("text/html"));
}

#[tokio::test]
async fn a_connection_that_sends_no_whole_head_is_closed_and_others_are_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let h = Harness::start().await;
    let address = h.address;
    let slow = ["", "GET", "PRI * HT", "GET /livez HTTP/1.1\r\nhost: x\r\nx-a: "].map(|start| async move {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        stream.write_all(start.as_bytes()).await.expect("sent");
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "{start:?} is still connected");
    });
    let other = async { assert_eq!(h.get("/livez").await.status(), StatusCode::OK) };
    tokio::join!(futures::future::join_all(slow), other);
}

#[tokio::test]
async fn a_body_for_a_session_is_small() {
    let h = Harness::start().await;
    let body = json!({"email": "a@example.test", "password": "x".repeat(8 * 1024)});
    problem(h.bare(Method::POST, "/api/v1/auth/login").json(&body), 413, "body_too_large").await;
}

#[tokio::test]
async fn bodies_beyond_the_room_for_all_are_refused_until_there_is_room() {
    let config =
        GatewayConfig { max_body_bytes: 1024, max_body_bytes_in_flight: 1024, ..GatewayConfig::default() };
    let h = Harness::with(config).await;
    // A body of unknown length that does not come to its end.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let first = tokio::spawn(h.request(Method::POST, "/api/v1/workflows").body(body).send());
    let evaluate = || {
        let body = json!({"expression": "1 + 1"});
        h.request(Method::POST, "/api/v1/expressions/evaluate").json(&body)
    };
    let mut refused = None;
    for _ in 0..100 {
        let answer = evaluate().send().await.expect("an answer");
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.headers().contains_key("retry-after"));
            refused = Some(answer);
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused.is_some(), "the room is taken");
    drop(sender);
    assert_eq!(first.await.expect("no panic").expect("an answer").status(), StatusCode::BAD_REQUEST);
    assert_eq!(evaluate().send().await.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stale_if_match_is_refused_by_every_change_of_a_workflow() {
    let h = Harness::start().await;
    let etag = |response: &reqwest::Response| response.headers()["etag"].to_str().expect("ASCII").to_owned();
    let created = h.post("/api/v1/workflows", &echo("guarded")).await;
    let stale = etag(&created);
    let path = format!("/api/v1/workflows/{}", text(&created.json().await.expect("JSON"), "id"));
    let change = |verb: &str, tags: &str| {
        h.request(Method::POST, &format!("{path}/{verb}")).header("if-match", tags).json(&json!({}))
    };
    let disabled = change("disable", &stale).header("idempotency-key", "k").send().await.expect("an answer");
    assert_eq!(disabled.status(), StatusCode::OK);
    let again = change("disable", &stale).header("idempotency-key", "k").send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::OK, "a repetition is answered what the first was");
    for verb in ["publish", "enable", "disable", "restore"] {
        problem(change(verb, &stale), 412, "version_mismatch").await;
    }
    let list = format!("{stale}, {}", etag(&disabled));
    let enabled = change("enable", &list).send().await.expect("an answer");
    assert_eq!(enabled.status(), StatusCode::OK);
    let put = |tags: &str| h.request(Method::PUT, &path).header("if-match", tags).json(&echo("guarded"));
    problem(put(&list), 412, "version_mismatch").await;
    let list = format!("{list}, {}", etag(&enabled));
    assert_eq!(put(&list).send().await.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn parameters_of_a_write_and_parameters_given_twice_are_refused() {
    let h = Harness::start().await;
    let create = h.request(Method::POST, "/api/v1/workflows?draft=true").json(&echo("parameters"));
    problem(create, 400, "invalid_parameter").await;
    problem(h.request(Method::GET, "/api/v1/workflows?limit=1&limit=2"), 400, "invalid_parameter").await;
    let mut definition = echo("parameters");
    definition["draft"] = json!("yes");
    let answer = h.post("/api/v1/workflows/validate", &definition).await;
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!((&answer["valid"], &answer["errors"][0]["pointer"]), (&json!(false), &json!("/draft")));
}
