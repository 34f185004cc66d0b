//! Tasks: scheduled nodes on their way to workers. Only delivery; truth is the execution's stream.

use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

use domain::decision::NodeRun;
use domain::ids::TenantId;
use domain::node_type::NodeType;
use domain::time::Timestamp;

/// Which attempt of which node of which execution.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskRef {
    /// The execution.
    pub execution: Uuid,
    /// The node's path, run and attempt.
    pub node: NodeRun,
}

/// One attempt of a worker node, ready to be carried out.
#[derive(Debug, Clone)]
pub struct Task {
    /// What it is.
    pub task: TaskRef,
    /// Whose it is.
    pub tenant: TenantId,
    /// The type, which names the executor.
    pub node_type: NodeType,
    /// The rendered configuration as typed parts, perhaps a claim check.
    pub config: Value,
    /// When the attempt must be done.
    pub deadline: Timestamp,
    /// How long its worker may be silent before it is lost, in milliseconds; the owner's own setting where there is none.
    pub heartbeat_timeout_ms: Option<u64>,
    /// The execution's correlation id, for the result command.
    pub correlation_id: Uuid,
    /// The event that scheduled it, for the result command.
    pub causation_id: Uuid,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
}

/// A sign of life from a worker for a task that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The task.
    pub task: TaskRef,
    /// The worker.
    pub worker: Arc<str>,
}

/// Whether a task is still in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It will be delivered.
    Yes,
    /// It was delivered, or is lost.
    No,
    /// The queue does not answer.
    Unknown,
}

/// The queue between owners and workers. Delivery is at least once; there is no order.
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Hands a ready task to the workers. The owner bounds how many are out.
    async fn publish(&self, task: Task);

    /// Whether a task that was published waits in the queue still, not yet with a worker. A queue that has lost it says
    /// [`Waiting::No`].
    async fn is_waiting(&self, task: &TaskRef) -> Waiting;

    /// Takes the next task of one of the types, and gives its first sign of life; waits until there is one. `None` when the bus is shut
    /// down. Cancel-safe.
    async fn pull(&self, types: &[NodeType]) -> Option<Task>;

    /// A worker's sign of life. May be lost.
    fn beat(&self, beat: Beat);

    /// The next sign of life, for owners. `None` when the bus is shut down. Cancel-safe.
    async fn next_beat(&self) -> Option<Beat>;

    /// Whether signs of life can reach this process now. While they cannot, silence says nothing about workers.
    fn hears(&self) -> bool {
        true
    }

    /// Takes the task out of the queue if it waits there, and asks whoever holds it to stop. May be lost on its way to
    /// another process. Final: the same attempt is not published again, and a publish on its way may be dropped.
    fn cancel(&self, task: TaskRef);

    /// Follows requests to stop, for workers.
    fn cancellations(&self) -> tokio::sync::broadcast::Receiver<TaskRef>;
}
