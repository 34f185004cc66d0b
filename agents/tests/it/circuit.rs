//! The circuit breaker before a real server that counts its calls.

use agents::AgentsConfig;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use domain::execution::event::{ErrorKind, NodeError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Worker, config, one_slot, serve};

/// A server that answers 500 while it is broken, else 200.
struct Shop {
    url: String,
    calls: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Shop {
    async fn open() -> Self {
        let (calls, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let (counted, state) = (Arc::clone(&calls), Arc::clone(&broken));
        let answer = move || async move {
            counted.fetch_add(1, Ordering::SeqCst);
            if state.load(Ordering::SeqCst) { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
        };
        let not_found = || async { StatusCode::NOT_FOUND };
        let router = Router::new().route("/", get(answer)).route("/missing", get(not_found));
        Self { url: serve(router).await, calls, broken }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn breaking_after(failures: u32, cool_down_ms: u64) -> AgentsConfig {
    AgentsConfig {
        circuit_breaker_failures: failures,
        circuit_breaker_cool_down_ms: cool_down_ms,
        circuit_breaker_max_cool_down_ms: cool_down_ms,
        ..config()
    }
}

fn is_open(result: &Result<Value, NodeError>) -> bool {
    result.as_ref().is_err_and(|error| error.details["code"] == "circuit_open")
}

#[tokio::test]
async fn a_broken_target_is_not_called_and_another_one_is() {
    let (shop, other) = (Shop::open().await, Shop::open().await);
    let mut worker = Worker::start_with(breaking_after(3, 3_600_000), None);
    for _ in 0..3 {
        let error = worker.call(json!({ "url": shop.url })).await.expect_err("it is broken");
        assert_eq!(error.kind, ErrorKind::Http5xx);
    }
    for _ in 0..5 {
        let error = worker.call(json!({ "url": format!("{}/missing", shop.url) })).await.expect_err("open");
        assert_eq!((error.kind, error.retryable), (ErrorKind::Connection, true));
        assert_eq!(
            (&error.details["code"], &error.details["target"]),
            (&json!("circuit_open"), &json!(shop.url))
        );
        assert!((1..=3_600_000).contains(&error.details["retry_after_ms"].as_u64().unwrap()));
    }
    assert_eq!(shop.calls(), 3);
    other.broken.store(false, Ordering::SeqCst);
    assert_eq!(worker.call(json!({ "url": other.url })).await.unwrap()["status"], 200);
}

#[tokio::test]
async fn once_the_pause_is_over_one_call_finds_out_and_all_go_on() {
    let shop = Shop::open().await;
    let mut worker = Worker::start_with(breaking_after(2, 100), None);
    for _ in 0..2 {
        worker.call(json!({ "url": shop.url })).await.expect_err("it is broken");
    }
    shop.broken.store(false, Ordering::SeqCst);
    let mut result = worker.call(json!({ "url": shop.url })).await;
    while is_open(&result) {
        result = worker.call(json!({ "url": shop.url })).await;
    }
    assert_eq!(result.unwrap()["status"], 200);
    assert_eq!(shop.calls(), 3, "nothing came through in between");
    for _ in 0..3 {
        assert_eq!(worker.call(json!({ "url": shop.url })).await.unwrap()["status"], 200);
    }
}

#[tokio::test]
async fn a_status_of_the_callers_own_making_is_no_failure_of_the_target() {
    let shop = Shop::open().await;
    let mut worker = Worker::start_with(breaking_after(2, 3_600_000), None);
    for _ in 0..5 {
        let error = worker.call(json!({ "url": format!("{}/missing", shop.url) })).await.expect_err("404");
        assert_eq!(error.kind, ErrorKind::Http4xx);
    }
}

#[tokio::test]
async fn a_target_that_nobody_listens_at_is_left_alone_too() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let mut worker = Worker::start_with(breaking_after(2, 3_600_000), None);
    for _ in 0..2 {
        let result = worker.call(json!({ "url": url })).await;
        assert!(!is_open(&result), "{result:?}");
        assert_eq!(result.expect_err("nobody is there").kind, ErrorKind::Connection);
    }
    assert!(is_open(&worker.call(json!({ "url": url })).await));
}

#[tokio::test]
async fn a_target_that_is_silent_until_the_attempts_deadline_is_left_alone_too() {
    let silent = Router::new().route("/", get(std::future::pending::<StatusCode>));
    let url = serve(silent).await;
    let settings = AgentsConfig { slots: one_slot().slots, ..breaking_after(2, 3_600_000) };
    let mut worker = Worker::start_with(settings, None);
    for _ in 0..2 {
        let mut task = worker.task(json!({ "url": url }));
        task.deadline = domain::time::Clock::now(&*worker.clock).plus_ms(100);
        let error = worker.call_task(task).await.expect_err("silent");
        assert_eq!(error.kind, ErrorKind::Timeout);
    }
    assert!(is_open(&worker.call(json!({ "url": url })).await));
}

#[tokio::test]
async fn a_breaker_that_is_turned_off_lets_everything_through() {
    let shop = Shop::open().await;
    let mut worker = Worker::start_with(breaking_after(0, 3_600_000), None);
    for _ in 0..15 {
        let error = worker.call(json!({ "url": shop.url })).await.expect_err("it is broken");
        assert_eq!(error.kind, ErrorKind::Http5xx);
    }
    assert_eq!(shop.calls(), 15);
}
