//! A queue that loses tasks and signs of life: every execution completes all the same.

use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use bus::CommandError;
use bus::in_process::InProcessTasks;
use bus::tasks::{Beat, Task, TaskQueue, TaskRef, Waiting};
use domain::command::Command;
use domain::execution::command::ExecutionCommand;
use domain::node_type::NodeType;
use domain::workflow::command::WorkflowCommand;

use crate::harness::{chain, fresh, request, start, workflow_id};
use crate::shared::{Site, sqlite_store};

/// Every third task, and every second answer, is lost.
#[derive(Default)]
struct LossyTasks {
    inner: InProcessTasks,
    count: AtomicU64,
}

impl LossyTasks {
    fn every(&self, number: u64) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(number)
    }
}

#[async_trait]
impl TaskQueue for LossyTasks {
    async fn publish(&self, task: Task) {
        if !self.every(3) {
            self.inner.publish(task).await;
        }
    }
    async fn is_waiting(&self, task: &TaskRef) -> Waiting {
        if self.every(2) { Waiting::Unknown } else { self.inner.is_waiting(task).await }
    }
    async fn pull(&self, types: &[NodeType]) -> Option<Task> {
        self.inner.pull(types).await
    }
    fn beat(&self, beat: Beat) {
        self.inner.beat(beat);
    }
    async fn next_beat(&self) -> Option<Beat> {
        self.inner.next_beat().await
    }
    fn cancel(&self, task: TaskRef) {
        self.inner.cancel(task);
    }
    fn cancellations(&self) -> broadcast::Receiver<TaskRef> {
        self.inner.cancellations()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_execution_completes_though_the_queue_loses_tasks_and_an_owner_is_killed() {
    let (store, _folder) = sqlite_store().await;
    let tasks = Arc::new(LossyTasks::default());
    let mut site = Site::new(store, tasks.clone());
    site.config.release_window = 16;
    let site = Arc::new(site);
    let (a, b) = (site.node(), site.node());
    let workflow = workflow_id();
    let definition = chain("a", json!([request("a"), request("b")]));
    let create = WorkflowCommand::Create { definition, publish: true };
    site.send(workflow, Command::Workflow(create)).await.expect("a workflow");
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (site, tasks) = (site.clone(), tasks.clone());
        workers.spawn(async move {
            while let Some(task) = tasks.pull(&[NodeType::HttpRequest]).await {
                tasks.beat(Beat { task: task.task.clone(), worker: "w".into() });
                let result = Ok(json!(1));
                let command = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result };
                match site.send(task.task.execution, Command::Execution(command)).await {
                    // A task that came twice.
                    Ok(_) | Err(CommandError::Rejected(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let executions: Vec<_> = (0..60).map(|_| fresh()).collect();
    for execution in &executions {
        site.send(*execution, start(workflow, json!("x"))).await.expect("accepted");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    a.kill().await;
    for execution in &executions {
        site.wait_for(*execution, "execution.completed").await;
        let types = site.types(*execution).await;
        assert_eq!(types.iter().filter(|name| *name == "execution.node.completed").count(), 2);
    }
    site.check_log().await;
    workers.shutdown().await;
    b.stop().await;
}
