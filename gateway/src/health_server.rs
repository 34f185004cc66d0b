//! Health, version and metrics of a process that has no gateway.
//!
//! Its life is not that of a gateway: it begins before the parts that it tells of and ends after them, and says
//! `draining` from the moment at which the process is asked to stop.

use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::gateway::Readiness;
use crate::listener::BoundedListener;
use crate::routes::health::{self, Health};
use crate::serving;

/// Whoever asks for health is a probe or a scraper, of which there are few.
const MAX_CONNECTIONS: u32 = 64;
/// How long answers under way may take at the end.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Serves `/livez`, `/readyz`, `/metrics` and `/version`, and nothing else.
pub struct HealthServer {
    health: Health,
}

impl HealthServer {
    /// A server that tells what `readiness` says, and that the process drains once `draining` is cancelled.
    pub fn new(readiness: Arc<dyn Readiness>, draining: CancellationToken) -> Self {
        Self { health: Health { readiness, draining, gateway: None } }
    }

    /// Serves until the shutdown.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let listener = BoundedListener::new(listener, MAX_CONNECTIONS);
        let stopped = shutdown.clone();
        tokio::select! {
            () = serving::serve(listener, health::alone(self.health), shutdown) => {}
            () = async { stopped.cancelled().await; tokio::time::sleep(END_PATIENCE).await } => {}
        }
    }
}
