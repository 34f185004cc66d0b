//! A server for workflows to call: answers at once and counts.

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::routing::any;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinHandle;

/// A running server. Ends when it is dropped.
pub struct HttpTarget {
    /// Where it listens.
    pub url: String,
    calls: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl HttpTarget {
    /// Listens on a free local port; every request is answered `{"ok": true, "call": n}`.
    pub async fn start() -> Result<Self> {
        let calls = Arc::new(AtomicU64::new(0));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new().fallback(any(answer)).with_state(calls.clone());
        let serving = tokio::spawn(async move {
            // It ends with the test, never by itself.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, calls, serving })
    }

    /// How many requests it has answered.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for HttpTarget {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(calls): State<Arc<AtomicU64>>) -> ([(&'static str, &'static str); 1], String) {
    let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
    ([("content-type", "application/json")], format!(r#"{{"ok":true,"call":{call}}}"#))
}
