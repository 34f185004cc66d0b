//! How an `http_request` fails: every kind, and what the error may say.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use bytes::Bytes;
use domain::execution::event::{ErrorKind, NodeError};
use serde_json::{Value, json};
use std::convert::Infallible;

use crate::support::{Worker, serve, serve_bytes};

async fn fails(config: Value) -> NodeError {
    Worker::start().call(config).await.expect_err("the call fails")
}

#[tokio::test]
async fn a_status_of_400_or_more_fails_with_its_kind_and_details() {
    let router = Router::new()
        .route("/404", get(|| async { (StatusCode::NOT_FOUND, "no such order") }))
        .route(
            "/429",
            get(|| async { (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")], "slow down") }),
        )
        .route(
            "/503",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "tomorrow")]) }),
        );
    let base = serve(router).await;
    let mut worker = Worker::start();
    for (path, kind, retryable, message, details) in [
        ("404", ErrorKind::Http4xx, false, "404 Not Found", json!({"status": 404, "body": "no such order"})),
        (
            "429",
            ErrorKind::Http429,
            true,
            "429 Too Many Requests",
            json!({"status": 429, "body": "slow down", "retry_after": 7}),
        ),
        (
            "503",
            ErrorKind::Http5xx,
            true,
            "503 Service Unavailable",
            json!({"status": 503, "body": "", "retry_after": "tomorrow"}),
        ),
    ] {
        let error = worker.call(json!({ "url": format!("{base}/{path}") })).await.expect_err(path);
        let message = format!("GET {base} answered {message}");
        assert_eq!(error, NodeError { kind, message, retryable, details });
    }
}

#[tokio::test]
async fn the_excerpt_of_a_failed_response_is_at_most_two_kibibytes() {
    let answer = || async { (StatusCode::BAD_REQUEST, "é".repeat(100_000)) };
    let base = serve(Router::new().route("/", get(answer))).await;
    let error = fails(json!({ "url": base })).await;
    assert_eq!(error.details["body"], "é".repeat(1024));
}

#[tokio::test]
async fn a_response_over_the_limit_is_cut_off() {
    let endless = || async {
        let pieces = futures::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 4096])));
        Body::from_stream(pieces)
    };
    let router =
        Router::new().route("/endless", get(endless)).route("/long", get(|| async { "x".repeat(2_000) }));
    let base = serve(router).await;
    let mut worker = Worker::start();
    for path in ["endless", "long"] {
        let config = json!({ "url": format!("{base}/{path}"), "max_response_bytes": 1_000 });
        let error = worker.call(config).await.expect_err(path);
        assert_eq!(error.kind, ErrorKind::Custom, "{path}");
        assert!(!error.retryable);
        assert!(error.message.contains("max_response_bytes"), "{}", error.message);
        assert_eq!(error.details, json!({"status": 200, "max_response_bytes": 1_000}));
    }
    let exact = json!({ "url": format!("{base}/long"), "max_response_bytes": 2_000 });
    assert_eq!(worker.call(exact).await.unwrap()["status"], 200);
}

#[tokio::test]
async fn a_server_that_does_not_answer_times_out_at_the_deadline() {
    let base = serve(Router::new().route("/", get(std::future::pending::<()>))).await;
    let mut worker = Worker::start();
    let mut task = worker.task(json!({ "url": base }));
    task.deadline = domain::time::Clock::now(&*worker.clock).plus_ms(100);
    let deadline = task.deadline;
    let error = worker.call_task(task).await.expect_err("it is never answered");
    assert_eq!((error.kind, error.retryable), (ErrorKind::Timeout, true));
    assert!(domain::time::Clock::now(&*worker.clock) >= deadline);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_hangs_up_is_a_connection_failure() {
    let unused = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for url in [
        unused,
        serve_bytes(b"").await,
        serve_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await,
        serve_bytes(b"not http at all\r\n\r\n").await,
        serve_bytes(b"not tls at all").await.replace("http://", "https://"),
    ] {
        let error = fails(json!({ "url": url })).await;
        assert_eq!((error.kind, error.retryable), (ErrorKind::Connection, true), "{error:?}");
        assert!(error.message.starts_with(&format!("the request to {url} failed: ")), "{}", error.message);
    }
}

#[tokio::test]
async fn redirects_without_end_fail() {
    let base = serve(Router::new().route("/", get(|| async { Redirect::to("/") }))).await;
    let error = fails(json!({ "url": base })).await;
    assert_eq!((error.kind, error.details), (ErrorKind::Custom, json!({"redirects": 10})));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_says_which_field_and_not_its_value() {
    let url = "http://127.0.0.1:1/";
    let mut worker = Worker::start();
    for (config, field) in [
        (json!({}), "url"),
        (json!({"url": 7}), "url"),
        (json!({"url": "hunter2"}), "url"),
        (json!({"url": "http://ann:hunter2@:80/"}), "url"),
        (json!({"url": url, "method": "hunter2"}), "method"),
        (json!({"url": url, "query": "hunter2"}), "query"),
        (json!({"url": url, "query": {"q": {"a": "hunter2"}}}), "query"),
        (json!({"url": url, "headers": ["hunter2"]}), "headers"),
        (json!({"url": url, "headers": {"x": "hunter2\n"}}), "headers"),
        (json!({"url": url, "headers": {"x y": "hunter2"}}), "headers"),
        (json!({"url": url, "headers": {"Content-Length": "hunter2"}}), "headers"),
        (json!({"url": url, "auth": "hunter2"}), "auth"),
        (json!({"url": url, "auth": {"type": "hunter2"}}), "auth"),
        (json!({"url": url, "auth": {"type": "basic", "username": "hunter2"}}), "auth"),
        (json!({"url": url, "auth": {"type": "bearer", "token": "hunter2\n"}}), "auth"),
        (json!({"url": url, "follow_redirects": "hunter2"}), "follow_redirects"),
        (json!({"url": url, "max_response_bytes": "hunter2"}), "max_response_bytes"),
    ] {
        let error = worker.call(config.clone()).await.expect_err("it cannot be used");
        assert_eq!((error.kind, error.retryable), (ErrorKind::InvalidConfig, false), "{config}");
        assert!(error.message.contains(&format!("`{field}`")), "{config}: {}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
}

#[tokio::test]
async fn a_credential_fails_the_node_by_its_name_because_there_are_none_yet() {
    let parts = json!({"$parts": ["Bearer ", {"$credential": "shop_token", "field": "value"}]});
    let error = fails(json!({ "url": "http://127.0.0.1:1/", "headers": {"authorization": parts} })).await;
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert_eq!(error.message, "credential `shop_token` does not exist");
}

#[tokio::test]
async fn no_error_repeats_a_credential() {
    let reflect =
        |request: Request| async move { (StatusCode::UNAUTHORIZED, format!("{:?}", request.headers())) };
    let plain = |request: Request| async move {
        let sent = request.headers().get(header::AUTHORIZATION).unwrap().to_str().unwrap().to_owned();
        (StatusCode::INTERNAL_SERVER_ERROR, format!("you sent {sent}")).into_response()
    };
    let router = Router::new()
        .route("/reflect", any(reflect))
        .route("/plain", any(plain))
        .route("/away", get(|| async { Redirect::to("http://ann:s3cret@127.0.0.1:1/?key=s3cret") }))
        .route("/odd", get(|| async { Redirect::to("ftp://ann:s3cret@example.com/?key=s3cret") }))
        .route("/nowhere", get(|| async { Redirect::to("http://:s3cret") }))
        .route("/slow", get(std::future::pending::<()>));
    let base = serve(router).await.replace("http://", "http://ann:s3cret@");
    let mut worker = Worker::start();
    let urls = ["reflect", "plain", "away", "odd", "nowhere", "slow"]
        .map(|path| format!("{base}/{path}?key=s3cret"));
    for url in urls.into_iter().chain(["http://ann:s3cret@127.0.0.1:1/?key=s3cret".to_owned()]) {
        for auth in [
            Value::Null,
            json!({"type": "basic", "username": "ann", "password": "s3cret"}),
            json!({"type": "bearer", "token": "s3cret"}),
        ] {
            let mut task = worker.task(json!({ "url": url, "auth": auth }));
            if url.contains("/slow") {
                task.deadline = domain::time::Clock::now(&*worker.clock).plus_ms(20);
            }
            let error = worker.call_task(task).await.expect_err("the call fails");
            let told = serde_json::to_string(&error).unwrap();
            for secret in ["s3cret", "YW5uOnMzY3JldA"] {
                assert!(!told.contains(secret), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_does_not_carry_a_body_to_another_origin() {
    let other = serve(Router::new().route("/", any(|body: String| async move { body }))).await;
    let to = |status: StatusCode, target: String| {
        move || async move { (status, [(header::LOCATION, target)]).into_response() }
    };
    let router = Router::new()
        .route("/307", any(to(StatusCode::TEMPORARY_REDIRECT, format!("{other}/?key=s3cret"))))
        .route("/308", any(to(StatusCode::PERMANENT_REDIRECT, format!("{other}/?key=s3cret"))))
        .route("/303", any(to(StatusCode::SEE_OTHER, format!("{other}/"))))
        .route("/here", any(to(StatusCode::TEMPORARY_REDIRECT, "/echo".to_owned())))
        .route("/echo", any(|body: String| async move { body }));
    let base = serve(router).await;
    let mut worker = Worker::start();
    let post =
        |path: &str| json!({ "url": format!("{base}/{path}"), "method": "POST", "body": "for you alone" });
    for path in ["307", "308"] {
        let error = worker.call(post(path)).await.expect_err(path);
        assert_eq!((error.kind, error.retryable), (ErrorKind::Custom, false), "{error:?}");
        assert!(error.message.contains("another origin"), "{}", error.message);
        assert!(!error.message.contains("s3cret"), "{}", error.message);
        let get = worker.call(json!({ "url": format!("{base}/{path}") })).await.expect("it has no body");
        assert_eq!(get["body"], Value::Null);
    }
    assert_eq!(worker.call(post("303")).await.expect("it became a GET")["body"], Value::Null);
    assert_eq!(worker.call(post("here")).await.expect("the same origin")["body"], "for you alone");
}
