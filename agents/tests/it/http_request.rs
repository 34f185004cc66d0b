//! What an `http_request` sends and gives back when all is well.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};

use crate::support::{Worker, serve};

/// Tells what it was asked.
async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let header = |name: HeaderName| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    axum::Json(json!({
        "method": parts.method.as_str(),
        "query": parts.uri.query(),
        "authorization": header(header::AUTHORIZATION),
        "content_type": header(header::CONTENT_TYPE),
        "content_length": header(header::CONTENT_LENGTH),
        "key": header(HeaderName::from_static("x-key")),
        "accept": header(header::ACCEPT),
        "body": String::from_utf8(body.to_vec()).unwrap(),
    }))
    .into_response()
}

async fn echoed(config: Value) -> Value {
    let base = serve(Router::new().route("/echo", any(echo))).await;
    let mut config = config;
    config["url"] = format!("{base}{}", config["url"].as_str().unwrap_or("/echo")).into();
    Worker::start().call(config).await.unwrap()["body"].take()
}

#[tokio::test]
async fn a_response_is_status_headers_and_parsed_body() {
    let answer = || async {
        let mut response = axum::Json(json!({"total": 120.5})).into_response();
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().append("X-Tag", "a".parse().unwrap());
        response.headers_mut().append("X-Tag", "b".parse().unwrap());
        response
    };
    let base = serve(Router::new().route("/", get(answer))).await;
    let output = Worker::start().call(json!({ "url": base })).await.unwrap();
    assert_eq!(output["status"], 201);
    assert_eq!(output["body"], json!({"total": 120.5}));
    assert_eq!(output["headers"]["x-tag"], "a, b");
    assert_eq!(output["headers"]["content-type"], "application/json");
}

#[tokio::test]
async fn bodies_that_are_not_json_are_text_or_base64_or_null() {
    let router = Router::new()
        .route("/text", get(|| async { "plain" }))
        .route(
            "/latin",
            get(|| async { ([(header::CONTENT_TYPE, "text/plain; charset=latin1")], b"caf\xe9") }),
        )
        .route("/bytes", get(|| async { ([(header::CONTENT_TYPE, "image/png")], b"\xff\x00\xfe") }))
        .route("/nothing", get(|| async { StatusCode::NO_CONTENT }));
    let base = serve(router).await;
    let mut worker = Worker::start();
    for (path, body) in [
        ("text", json!("plain")),
        ("latin", json!("café")),
        ("bytes", json!({"base64": "/wD+"})),
        ("nothing", Value::Null),
    ] {
        let output = worker.call(json!({ "url": format!("{base}/{path}") })).await.unwrap();
        assert_eq!(output["body"], body, "{path}");
    }
    let head = worker.call(json!({ "method": "HEAD", "url": format!("{base}/text") })).await.unwrap();
    assert_eq!((&head["status"], &head["body"]), (&json!(200), &Value::Null));
}

#[tokio::test]
async fn query_headers_and_json_body_are_sent() {
    let seen = echoed(json!({
        "method": "post",
        "url": "/echo?a=1",
        "query": {"b": ["x", 2], "c": true, "d": null, "e": "ü &"},
        "headers": {"X-Key": 7},
        "body": {"order": [1, 2]},
    }))
    .await;
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["query"], "a=1&b=x&b=2&c=true&e=%C3%BC+%26");
    assert_eq!(seen["key"], "7");
    assert_eq!(seen["content_type"], "application/json");
    assert_eq!(seen["body"], r#"{"order":[1,2]}"#);
}

#[tokio::test]
async fn a_text_body_is_sent_as_it_is() {
    let seen = echoed(json!({"method": "PUT", "body": "a=1"})).await;
    assert_eq!((&seen["content_type"], &seen["body"]), (&json!("text/plain; charset=utf-8"), &json!("a=1")));
    let form = json!({"content-type": "application/x-www-form-urlencoded"});
    let seen = echoed(json!({"method": "PUT", "body": "a=1", "headers": form})).await;
    assert_eq!(seen["content_type"], "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn auth_becomes_an_authorization_header() {
    let basic = json!({"type": "basic", "username": "ann", "password": "s3cret"});
    assert_eq!(echoed(json!({ "auth": basic })).await["authorization"], "Basic YW5uOnMzY3JldA==");
    let bearer = json!({"type": "bearer", "token": "t0ken"});
    let config = json!({ "auth": bearer, "headers": {"authorization": "other"} });
    assert_eq!(echoed(config).await["authorization"], "Bearer t0ken");
}

#[tokio::test]
async fn text_that_looks_like_a_credential_is_sent_as_text() {
    let data = json!({"$parts": [{"$credential": "shop_token", "field": "value"}]});
    let seen = echoed(json!({
        "method": "POST",
        "headers": {"x-key": "{{ credentials.shop_token }}"},
        "body": {"note": "{{ credentials.shop_token }}", "data": {"$data": data}},
    }))
    .await;
    assert_eq!(seen["key"], "{{ credentials.shop_token }}");
    let body: Value = serde_json::from_str(seen["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({"note": "{{ credentials.shop_token }}", "data": data}));
}

#[tokio::test]
async fn redirects_are_followed_as_browsers_do() {
    let router = Router::new()
        .route("/echo", any(echo))
        .route("/other", any(|| async { Redirect::to("/echo") }))
        .route("/same", any(|| async { Redirect::temporary("/echo") }));
    let base = serve(router).await;
    let mut worker = Worker::start();
    let config = |path: &str| {
        let auth = json!({"type": "bearer", "token": "t0ken"});
        json!({ "method": "POST", "url": format!("{base}{path}"), "body": {"a": 1}, "auth": auth })
    };
    let seen = worker.call(config("/other")).await.unwrap()["body"].take();
    assert_eq!(
        (&seen["method"], &seen["body"], &seen["content_type"]),
        (&json!("GET"), &json!(""), &Value::Null)
    );
    assert_eq!(seen["authorization"], "Bearer t0ken");
    let seen = worker.call(config("/same")).await.unwrap()["body"].take();
    assert_eq!((&seen["method"], &seen["body"]), (&json!("POST"), &json!(r#"{"a":1}"#)));
}

#[tokio::test]
async fn a_redirect_is_an_output_where_it_is_not_followed() {
    let base = serve(Router::new().route("/", get(|| async { Redirect::to("/next") }))).await;
    let output = Worker::start().call(json!({ "url": base, "follow_redirects": false })).await.unwrap();
    assert_eq!(output["status"], 303);
    assert_eq!(output["headers"]["location"], "/next");
}

#[tokio::test]
async fn a_redirect_to_another_origin_does_not_carry_who_the_caller_is() {
    let other = serve(Router::new().route("/echo", any(echo))).await;
    let target = format!("{other}/echo");
    let base = serve(Router::new().route("/", get(|| async move { Redirect::to(&target) }))).await;
    let headers = json!({"x-key": "k3y", "accept": "text/csv"});
    for auth in [json!({"type": "bearer", "token": "t0ken"}), Value::Null] {
        let url = if auth.is_null() { base.replace("http://", "http://ann:s3cret@") } else { base.clone() };
        let output =
            Worker::start().call(json!({ "url": url, "auth": auth, "headers": headers })).await.unwrap();
        let seen = &output["body"];
        assert_eq!((&seen["authorization"], &seen["key"]), (&Value::Null, &Value::Null));
        assert_eq!(seen["accept"], "text/csv");
    }
}

#[tokio::test]
async fn a_large_response_within_the_limit_arrives_whole() {
    let large = "x".repeat(3 * 1024 * 1024);
    let answer = {
        let large = large.clone();
        || async { Body::from(large) }
    };
    let base = serve(Router::new().route("/", get(answer))).await;
    let mut worker = Worker::start();
    let output = worker.call(json!({ "url": base })).await.unwrap();
    let reference = domain::blob::BlobRef::from_value(&output).expect("a claim check");
    let stored = worker.blobs.stored.lock().unwrap();
    let content = stored.values().next().unwrap();
    assert_eq!(content.len() as u64, reference.bytes);
    assert_eq!(serde_json::from_slice::<Value>(content).unwrap()["body"], large);
}
