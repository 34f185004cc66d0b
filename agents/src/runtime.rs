//! The worker: a fixed number of slots that pull tasks and carry them out.
//!
//! Invariants: no task of ours outlives [`WorkerRuntime::run`]; at most `slots` attempts run at once; an executor
//! that panics fails its node and nothing else. At shutdown nothing is pulled any more, running attempts get a
//! grace, and what is left is abandoned: its owner misses the beats and delivers it again.

use bus::{Commands, TaskQueue};
use domain::ids::Actor;
use domain::node_type::NodeType;
use domain::time::Clock;
use event_store::Blobs;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::circuit::CircuitCounts;
use crate::config::AgentsConfig;
use crate::error::Error;
use crate::nodes::Executors;
use crate::running::Running;

/// A worker that has not started.
pub struct WorkerRuntime {
    shared: Arc<Shared>,
}

/// What all slots use.
pub(crate) struct Shared {
    pub(crate) config: AgentsConfig,
    pub(crate) actor: Actor,
    pub(crate) executors: Executors,
    pub(crate) types: Vec<NodeType>,
    pub(crate) tasks: Arc<dyn TaskQueue>,
    pub(crate) commands: Arc<dyn Commands>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) running: Running,
}

impl WorkerRuntime {
    /// A worker with the executors of this build. A process-wide rustls provider must be installed before.
    pub fn new(
        config: AgentsConfig,
        tasks: Arc<dyn TaskQueue>,
        commands: Arc<dyn Commands>,
        blobs: Arc<dyn Blobs>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let executors = Executors::standard(&config)?;
        Ok(Self::with_executors(config, executors, tasks, commands, blobs, clock))
    }

    /// A worker with other executors; it pulls tasks of their types only.
    pub fn with_executors(
        config: AgentsConfig,
        executors: Executors,
        tasks: Arc<dyn TaskQueue>,
        commands: Arc<dyn Commands>,
        blobs: Arc<dyn Blobs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let shared = Shared {
            actor: Actor::new("worker", &config.worker),
            types: executors.types(),
            running: Running::default(),
            config,
            executors,
            tasks,
            commands,
            blobs,
            clock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What the circuit breakers of this worker's calls have done.
    pub fn circuits(&self) -> CircuitCounts {
        self.shared.executors.circuits()
    }

    /// Carries out tasks until `shutdown`, or until the bus is shut down.
    pub async fn run(self, shutdown: CancellationToken) {
        let shared = self.shared;
        // Subscribed before the first pull, so that no request for a task that is held is missed.
        let requests = shared.tasks.cancellations();
        let mut slots = JoinSet::new();
        for _ in 0..shared.config.slots.get() {
            slots.spawn(slot(Arc::clone(&shared), shutdown.clone()));
        }
        tracing::info!(worker.name = %shared.config.worker, worker.slots = slots.len(), "the worker is running");

        let grace = async {
            shutdown.cancelled().await;
            tokio::time::sleep(shared.config.shutdown_grace()).await;
        };
        let follow = async {
            shared.running.follow(requests).await;
            std::future::pending::<()>().await;
        };
        let abandoned = tokio::select! {
            biased;
            () = join_all(&mut slots) => false,
            () = grace => true,
            () = follow => false,
        };
        if abandoned {
            tracing::warn!(
                worker.attempts = slots.len(),
                "the worker abandons attempts that were not done at shutdown; they are delivered again"
            );
        }
        slots.shutdown().await;
    }
}

async fn join_all(slots: &mut JoinSet<()>) {
    while let Some(ended) = slots.join_next().await {
        if let Err(error) = ended {
            // Only the bus's own code runs outside the guard in `slot`, so this cannot be mended by going on.
            tracing::error!(%error, "a worker slot ended by a defect; restart the process");
        }
    }
}

async fn slot(shared: Arc<Shared>, shutdown: CancellationToken) {
    loop {
        let pulled = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            pulled = shared.tasks.pull(&shared.types) => pulled,
        };
        let Some(task) = pulled else { return };
        // Executors have a guard of their own; this one is for a command that panics in the same process.
        if AssertUnwindSafe(shared.carry_out(task)).catch_unwind().await.is_err() {
            tracing::error!("a worker slot met a defect while it reported an attempt; the attempt is lost");
        }
    }
}
