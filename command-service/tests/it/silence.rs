//! Workers that are silent, or only seem to be: who gets their tasks, and what becomes of copies.

use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use uuid::Uuid;

use bus::in_process::InProcessTasks;
use bus::tasks::{Beat, Task, TaskQueue, TaskRef, Waiting};
use domain::command::Command;
use domain::execution::command::ExecutionCommand;
use domain::node_type::NodeType;
use domain::workflow::command::WorkflowCommand;

use crate::harness::{PATIENCE, chain, fresh, request, start, workflow_id};
use crate::shared::{Node, Site, sqlite_store, until};

/// A queue whose signs of life a test can keep from the owner.
struct Tasks {
    inner: InProcessTasks,
    hears: AtomicBool,
}

#[async_trait]
impl TaskQueue for Tasks {
    async fn publish(&self, task: Task) {
        self.inner.publish(task).await;
    }
    async fn is_waiting(&self, task: &TaskRef) -> Waiting {
        self.inner.is_waiting(task).await
    }
    async fn pull(&self, types: &[NodeType]) -> Option<Task> {
        self.inner.pull(types).await
    }
    fn beat(&self, beat: Beat) {
        if self.hears() {
            self.inner.beat(beat);
        }
    }
    async fn next_beat(&self) -> Option<Beat> {
        self.inner.next_beat().await
    }
    fn hears(&self) -> bool {
        self.hears.load(Ordering::SeqCst)
    }
    fn cancel(&self, task: TaskRef) {
        self.inner.cancel(task);
    }
    fn cancellations(&self) -> broadcast::Receiver<TaskRef> {
        self.inner.cancellations()
    }
}

struct Rig {
    site: Site,
    tasks: Arc<Tasks>,
    node: Node,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> (Self, Uuid) {
        let (store, folder) = sqlite_store().await;
        let tasks = Arc::new(Tasks { inner: InProcessTasks::new(), hears: AtomicBool::new(true) });
        let site = Site::new(store, tasks.clone());
        let node = site.node();
        let workflow = workflow_id();
        let definition = chain("a", json!([request("a")]));
        let create = WorkflowCommand::Create { definition, publish: true };
        site.send(workflow, Command::Workflow(create)).await.expect("a workflow");
        let execution = fresh();
        site.send(execution, start(workflow, Value::Null)).await.expect("accepted");
        (Self { site, tasks, node, _folder: folder }, execution)
    }

    /// The next task, with a first sign of life.
    async fn task(&self) -> Task {
        let pull = self.tasks.pull(&[NodeType::HttpRequest]);
        let task = tokio::time::timeout(PATIENCE, pull).await.expect("a task in time").expect("a task");
        self.beat(&task);
        task
    }

    fn beat(&self, task: &Task) {
        self.tasks.beat(Beat { task: task.task.clone(), worker: "w".into() });
    }

    async fn is_handed_out_again(&self, task: &Task) {
        until("it is handed out again", async || self.tasks.is_waiting(&task.task).await == Waiting::Yes)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_taken_back_when_the_worker_that_was_silent_brings_the_result() {
    let (rig, execution) = Rig::start().await;
    let task = rig.task().await;
    rig.is_handed_out_again(&task).await;
    rig.beat(&task);
    // No state tells that a beat was heard. Too short a pause only makes the test weaker, never wrong.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let done = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result: Ok(json!(1)) };
    rig.site.send(execution, Command::Execution(done)).await.expect("accepted");
    until("the copy is gone", async || rig.tasks.is_waiting(&task.task).await == Waiting::No).await;
    rig.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_signs_of_life_cannot_be_heard_nobody_is_called_silent() {
    let (rig, _) = Rig::start().await;
    let task = rig.task().await;
    // Heard once, so that the task is known to be with a worker.
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.tasks.hears.store(false, Ordering::SeqCst);
    // Far longer than a worker may be silent.
    for _ in 0..30 {
        assert_eq!(rig.tasks.is_waiting(&task.task).await, Waiting::No);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rig.tasks.hears.store(true, Ordering::SeqCst);
    // Now its silence counts.
    rig.is_handed_out_again(&task).await;
    rig.node.stop().await;
}
