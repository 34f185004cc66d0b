//! Where requests may go if nobody allowed more.

use agents::EgressConfig;
use axum::Router;
use axum::routing::get;
use domain::execution::event::ErrorKind;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Worker, config, serve};

#[tokio::test]
async fn no_spelling_of_this_machine_is_called() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = {
        let called = Arc::clone(&called);
        || async move {
            called.fetch_add(1, Ordering::SeqCst);
        }
    };
    let base = serve(Router::new().route("/", get(count))).await;
    let port = base.rsplit(':').next().unwrap();
    let mut settings = config();
    settings.egress = EgressConfig::default();
    let mut worker = Worker::start_with(settings, None);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "0.0.0.0",
        "[::]",
        "localhost",
        "LOCALHOST",
    ] {
        let error = worker.call(json!({ "url": format!("http://{host}:{port}/") })).await.expect_err(host);
        assert_eq!((error.kind, error.retryable), (ErrorKind::InvalidConfig, false), "{host}: {error:?}");
        assert!(error.message.contains("EVERLINE_EGRESS__ALLOW_PRIVATE"), "{host}: {}", error.message);
    }
    assert_eq!(called.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn only_http_and_https_are_called_whatever_is_allowed() {
    let error = Worker::start().call(json!({ "url": "file:///etc/passwd" })).await.expect_err("a file");
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains("use http or https"), "{}", error.message);
}

#[tokio::test]
async fn a_name_of_this_machine_is_called_where_that_is_allowed() {
    let base = serve(Router::new().route("/", get(|| async { "here" }))).await;
    let output =
        Worker::start().call(json!({ "url": base.replace("127.0.0.1", "localhost") })).await.unwrap();
    assert_eq!(output["body"], "here");
}
