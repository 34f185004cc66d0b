//! A nats-server with buses on it.

use bus::nats::{NatsBus, NatsOptions};
use std::error::Error;
use std::future::Future;
use std::time::Duration;
use test_services::{NatsServer, NatsVersion};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a server.
pub(crate) async fn server(version: NatsVersion) -> NatsServer {
    NatsServer::start(version).await.expect("a nats-server")
}

/// Options for tests: a short deadline, streams that fit everywhere.
pub(crate) fn options(server: &NatsServer) -> NatsOptions {
    NatsOptions {
        command_deadline: Duration::from_secs(2),
        events_max_bytes: 64 * 1024 * 1024,
        ..NatsOptions::new(server.url(), 16)
    }
}

/// A process's bus.
pub(crate) async fn bus(server: &NatsServer) -> NatsBus {
    connected(options(server)).await
}

/// A process's bus with other options.
pub(crate) async fn connected(options: NatsOptions) -> NatsBus {
    NatsBus::connect(options).await.unwrap_or_else(|error| panic!("{}", told(&error)))
}

/// An error with all its sources.
pub(crate) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Waits for something, and names it if it does not come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    soon(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Makes of each function a test on the oldest server and one on a new server.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_2_9 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(test_services::NatsVersion::Old).await;
            })+
        }
        mod on_new {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(test_services::NatsVersion::New).await;
            })+
        }
    };
}
pub(crate) use on_both;
