//! How attempts run, end and are reported, with executors that do as the test says.

use agents::{Executors, NodeContext, NodeExecutor};
use async_trait::async_trait;
use bus::{CommandError, TaskQueue};
use domain::blob::{BlobRef, INLINE_LIMIT, claim_check};
use domain::command::Command;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::Slot;
use domain::node_type::NodeType;
use domain::rejection::{Rejection, RejectionKind};
use domain::time::Clock;
use event_store::Blobs;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

use crate::support::{Worker, config, one_slot};

/// Says what begins and is dropped, and does what the config says: `echo`, `panic` or `wait`.
struct Told {
    said: mpsc::UnboundedSender<&'static str>,
    released: Arc<Semaphore>,
}

struct SaysDropped(mpsc::UnboundedSender<&'static str>);

impl Drop for SaysDropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[async_trait]
impl NodeExecutor for Told {
    async fn execute(&self, context: NodeContext<'_>) -> Result<Value, NodeError> {
        let _ = self.said.send("began");
        let _dropped = SaysDropped(self.said.clone());
        match context.config["do"].as_str() {
            Some("panic") => panic!("a secret in a panic"),
            Some("wait") => self.released.acquire().await.unwrap().forget(),
            _ => {}
        }
        Ok(context.config)
    }
}

struct Stage {
    worker: Worker,
    said: mpsc::UnboundedReceiver<&'static str>,
    released: Arc<Semaphore>,
}

impl Stage {
    fn set(config: agents::AgentsConfig) -> Self {
        let (sender, said) = mpsc::unbounded_channel();
        let released = Arc::new(Semaphore::new(0));
        let told = Told { said: sender, released: Arc::clone(&released) };
        let executors = Executors::default().with(NodeType::HttpRequest, Arc::new(told));
        Self { worker: Worker::start_with(config, Some(executors)), said, released }
    }

    async fn publish(&self, config: Value) -> bus::Task {
        let task = self.worker.task(config);
        self.worker.tasks.publish(task.clone()).await;
        task
    }

    async fn heard(&mut self, expected: &str) {
        assert_eq!(self.said.recv().await, Some(expected));
    }

    /// What the worker does next is another task's: what came before left nothing to send.
    async fn assert_goes_on(&mut self) {
        let next = self.publish(json!({"do": "echo"})).await;
        let (of, result) = self.worker.result().await;
        assert_eq!((of, result), (next.task.execution, Ok(json!({"do": "echo"}))));
    }
}

fn rejected(code: &'static str) -> CommandError {
    CommandError::Rejected(Rejection::new(RejectionKind::Conflict, code, "it is over"))
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_long_beats_and_says_once_that_it_is_running() {
    let mut stage = Stage::set(config());
    let started = tokio::time::Instant::now();
    let task = stage.publish(json!({"do": "wait"})).await;
    for second in 1..=4 {
        let beat = stage.worker.tasks.next_beat().await.unwrap();
        assert_eq!((&beat.task, &*beat.worker), (&task.task, "w1"));
        assert_eq!(started.elapsed().as_secs(), second);
    }
    stage.released.add_permits(1);
    let first = stage.worker.command().await;
    let Command::Execution(ExecutionCommand::StartNode { node, worker }) = first.command else {
        panic!("expected StartNode, not {}", first.command.name());
    };
    assert_eq!((node, &*worker), (task.task.node.clone(), "w1"));
    let second = stage.worker.command().await;
    let Command::Execution(ExecutionCommand::CompleteNode { node, result }) = second.command else {
        panic!("expected CompleteNode, not {}", second.command.name());
    };
    assert_eq!((node, result), (task.task.node, Ok(json!({"do": "wait"}))));
    assert_ne!(first.id, second.id);
    assert!(stage.worker.sent_nothing_more());
}

#[tokio::test(start_paused = true)]
async fn a_result_says_whose_it_is_and_lives_with_its_execution() {
    let mut stage = Stage::set(config());
    let task = stage.publish(json!({"do": "echo"})).await;
    let command = stage.worker.command().await;
    assert_eq!(command.command.name(), "CompleteNode");
    assert_eq!((command.stream, command.tenant), (task.task.execution, task.tenant));
    assert_eq!(
        (command.correlation_id, command.causation_id, command.traceparent, command.actor.as_str()),
        (task.correlation_id, task.causation_id, task.traceparent, "worker:w1")
    );
    assert_eq!(Slot::of(command.id), Slot::of(task.task.execution));
    assert_eq!(command.digest, None);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_deadline() {
    let mut stage = Stage::set(config());
    let task = stage.publish(json!({"do": "wait"})).await;
    let (_, result) = stage.worker.result().await;
    assert_eq!(result.map_err(|error| (error.kind, error.retryable)), Err((ErrorKind::Timeout, true)));
    assert!(stage.worker.clock.now().since_ms(task.deadline) < 10);
    stage.heard("began").await;
    stage.heard("dropped").await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waited_past_its_deadline_is_not_begun() {
    let mut stage = Stage::set(one_slot());
    let mut task = stage.worker.task(json!({"do": "echo"}));
    task.deadline = stage.worker.clock.now();
    let result = stage.worker.call_task(task).await;
    assert_eq!(result.map_err(|error| error.kind), Err(ErrorKind::Timeout));
    assert!(stage.said.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_asked_to_stop_stops_and_sends_nothing() {
    let mut stage = Stage::set(one_slot());
    let task = stage.publish(json!({"do": "wait"})).await;
    stage.heard("began").await;
    stage.worker.tasks.cancel(task.task);
    stage.heard("dropped").await;
    stage.assert_goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_not_answered_is_sent_again_with_the_same_id() {
    let mut stage = Stage::set(one_slot());
    stage.worker.answer([
        CommandError::Unknown(Arc::from("the store went away")),
        CommandError::NotOwner,
        CommandError::Overloaded,
    ]);
    stage.publish(json!({"do": "echo"})).await;
    let first = stage.worker.command().await;
    for _ in 0..3 {
        let again = stage.worker.command().await;
        assert_eq!((again.id, again.command.name()), (first.id, "CompleteNode"));
    }
    stage.assert_goes_on().await;
    assert!(stage.worker.sent_nothing_more());
}

#[tokio::test(start_paused = true)]
async fn two_attempts_have_two_command_ids() {
    let mut stage = Stage::set(one_slot());
    let task = stage.publish(json!({"do": "echo"})).await;
    let first = stage.worker.command().await;
    // The same attempt, delivered again after it was done: a new id, for the engine to judge.
    stage.worker.tasks.publish(task).await;
    assert_ne!(stage.worker.command().await.id, first.id);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_late_is_dropped() {
    let mut stage = Stage::set(one_slot());
    for code in ["stale_attempt", "execution_finished", "execution_not_found"] {
        stage.worker.answer([rejected(code)]);
        stage.publish(json!({"do": "echo"})).await;
        stage.worker.command().await;
        stage.assert_goes_on().await;
    }
    assert!(stage.worker.sent_nothing_more());
}

#[tokio::test(start_paused = true)]
async fn a_result_that_nobody_takes_is_given_up_some_time_after_the_deadline() {
    let mut stage = Stage::set(agents::AgentsConfig { started_after_ms: 60_000, ..one_slot() });
    stage.worker.answer(std::iter::repeat_n(CommandError::NotOwner, 10_000));
    let task = stage.publish(json!({"do": "echo"})).await;
    let first = stage.worker.command().await;
    stage.publish(json!({"do": "echo"})).await;
    let mut sent = 1;
    while stage.worker.command().await.id == first.id {
        sent += 1;
    }
    let waited = stage.worker.clock.now().since_ms(task.deadline);
    assert!((10_000..10_100).contains(&waited), "{waited}");
    assert!(sent < 60, "pauses grow, so {sent} is too many");
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_panics_fails_its_node_and_nothing_else() {
    let mut stage = Stage::set(one_slot());
    stage.publish(json!({"do": "panic"})).await;
    let error = stage.worker.result().await.1.expect_err("it panicked");
    assert_eq!((error.kind, error.retryable), (ErrorKind::Custom, false));
    assert!(!error.message.contains("secret"), "{}", error.message);
    stage.assert_goes_on().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_delivered_twice_is_carried_out_once() {
    let mut stage = Stage::set(config());
    let task = stage.publish(json!({"do": "wait"})).await;
    stage.heard("began").await;
    stage.worker.tasks.publish(task).await;
    stage.assert_goes_on().await;
    stage.heard("began").await;
    stage.heard("dropped").await;
    stage.released.add_permits(1);
    stage.worker.result().await.1.unwrap();
    stage.heard("dropped").await;
    assert!(stage.said.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_run_at_once_than_there_are_slots() {
    let mut stage = Stage::set(agents::AgentsConfig { slots: NonZeroUsize::new(2).unwrap(), ..config() });
    for _ in 0..3 {
        stage.publish(json!({"do": "wait"})).await;
    }
    // Paused time moves on to the beats only when no slot has anything else to do.
    stage.worker.tasks.next_beat().await;
    stage.heard("began").await;
    stage.heard("began").await;
    assert!(stage.said.is_empty());
    stage.released.add_permits(3);
    for _ in 0..3 {
        stage.worker.result().await.1.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_config_and_an_output_that_travel_by_reference_are_fetched_and_stored() {
    let mut stage = Stage::set(one_slot());
    let large = json!({"do": "echo", "text": "x".repeat(INLINE_LIMIT)});
    let (reference, blob) = claim_check(large.clone());
    let blob = blob.unwrap();
    let task = stage.worker.task(reference);
    stage.worker.blobs.put(&task.tenant, &blob).await.unwrap();
    stage.worker.blobs.failures.store(2, Ordering::SeqCst);
    let output = stage.worker.call_task(task.clone()).await.unwrap();
    assert_eq!(BlobRef::from_value(&output), Some(blob.reference));

    // A new content: it must be there by the time the command is, also when the store fails first.
    stage.worker.blobs.failures.store(3, Ordering::SeqCst);
    let larger = json!({"do": "echo", "text": "y".repeat(3 * 1024 * 1024)});
    let output = stage.worker.call(larger.clone()).await.unwrap();
    let reference = BlobRef::from_value(&output).unwrap();
    let stored = stage.worker.blobs.get(&task.tenant, &reference).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), larger);
}

#[tokio::test(start_paused = true)]
async fn a_config_whose_content_is_missing_fails_the_node() {
    let mut stage = Stage::set(one_slot());
    let (reference, _) = claim_check(json!("x".repeat(INLINE_LIMIT)));
    let error = stage.worker.call(reference).await.expect_err("there is no content");
    assert_eq!(error.kind, ErrorKind::Custom);
    assert!(stage.said.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_running_attempts_finish_and_pulls_no_more() {
    let mut stage = Stage::set(one_slot());
    stage.publish(json!({"do": "wait"})).await;
    stage.heard("began").await;
    stage.worker.shutdown.cancel();
    let left = stage.publish(json!({"do": "echo"})).await;
    stage.released.add_permits(1);
    (&mut stage.worker.ended).await.unwrap();
    assert_eq!(stage.worker.result().await.1, Ok(json!({"do": "wait"})));
    let pulled = stage.worker.tasks.pull(&[NodeType::HttpRequest]).await.unwrap();
    assert_eq!(pulled.task, left.task);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_abandons_attempts_after_its_grace() {
    let mut stage = Stage::set(agents::AgentsConfig { started_after_ms: 60_000, ..config() });
    stage.publish(json!({"do": "wait"})).await;
    stage.heard("began").await;
    let before = tokio::time::Instant::now();
    stage.worker.shutdown.cancel();
    (&mut stage.worker.ended).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), Duration::from_secs(10).as_secs());
    stage.heard("dropped").await;
    assert!(stage.worker.sent_nothing_more());
}

/// Counts, so that the measurement below has something to call.
async fn counted(count: Arc<AtomicUsize>) -> axum::Json<Value> {
    count.fetch_add(1, Ordering::Relaxed);
    axum::Json(json!({"ok": true}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone, in release"]
async fn a_worker_makes_more_than_three_thousand_requests_a_second() {
    const REQUESTS: usize = 20_000;
    let count = Arc::new(AtomicUsize::new(0));
    let route = axum::routing::get({
        let count = Arc::clone(&count);
        move || counted(count)
    });
    let base = crate::support::serve(axum::Router::new().route("/", route)).await;
    let mut worker = Worker::start();
    let started = std::time::Instant::now();
    for _ in 0..REQUESTS {
        worker.tasks.publish(worker.task(json!({ "url": base }))).await;
    }
    for _ in 0..REQUESTS {
        worker.result().await.1.unwrap();
    }
    let rate = REQUESTS as f64 / started.elapsed().as_secs_f64();
    println!("{rate:.0} requests a second");
    assert_eq!(count.load(Ordering::Relaxed), REQUESTS);
    assert!(rate > 3_000.0, "{rate:.0} requests a second");
}
