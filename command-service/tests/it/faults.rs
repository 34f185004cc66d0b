//! A store that fails at chosen moments: nothing acknowledged is lost, nothing hangs, nothing is made up.

use command_service::{CommandService, CommandServiceConfig, CommandServicePorts};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::in_process::{InProcessFeed, InProcessTasks};
use bus::tasks::{Beat, Task, TaskQueue};
use bus::{CommandError, CommandHandler, CommandReply};
use domain::blob::claim_check;
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::ids::{Actor, Slot, TenantId, new_id};
use domain::node_type::NodeType;
use domain::time::{Clock, Timestamp};
use domain::variables::command::VariablesCommand;
use domain::workflow::command::WorkflowCommand;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Log, LogReader};

use crate::faulty_log::FaultyLog;
use crate::harness::{PATIENCE, WallClock, chain, delay, fresh, request, start, transform, workflow_id};

/// The wall clock, until it is held.
#[derive(Default)]
struct HeldClock(AtomicI64);

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        match self.0.load(Ordering::SeqCst) {
            0 => WallClock.now(),
            held => Timestamp::from_unix_ms(held),
        }
    }
}

struct Rig {
    log: Arc<FaultyLog>,
    clock: Arc<HeldClock>,
    handler: Arc<dyn CommandHandler>,
    tasks: Arc<InProcessTasks>,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Rig {
    async fn start(config: CommandServiceConfig) -> Arc<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let inner =
            SqliteLog::open(&folder.path().join("log.db"), SqliteOptions::default()).await.expect("a log");
        let log = Arc::new(FaultyLog::new(Arc::new(inner)));
        let (clock, tasks) = (Arc::new(HeldClock::default()), Arc::new(InProcessTasks::new()));
        let feed = Arc::new(InProcessFeed::new());
        let service = CommandService::new(
            config,
            CommandServicePorts::alone(log.clone(), feed, tasks.clone(), clock.clone()),
        );
        let (handler, shutdown) = (service.handler(), CancellationToken::new());
        tokio::spawn(service.run(shutdown.clone()));
        Arc::new(Self { log, clock, handler, tasks, shutdown, _folder: folder })
    }

    async fn send(&self, stream: Uuid, command: Command) -> Result<CommandReply, CommandError> {
        self.send_as(fresh(), stream, command).await
    }

    async fn send_as(&self, id: Uuid, stream: Uuid, command: Command) -> Result<CommandReply, CommandError> {
        let envelope = CommandEnvelope {
            id,
            tenant: TenantId::default_tenant(),
            actor: Actor::new("user", "test"),
            stream,
            correlation_id: stream,
            causation_id: id,
            traceparent: None,
            digest: None,
            command,
            authority: None,
        };
        tokio::time::timeout(PATIENCE, self.handler.handle(envelope)).await.expect("an answer in time")
    }

    async fn workflow(&self, document: Value) -> Uuid {
        let id = workflow_id();
        let create = WorkflowCommand::Create { definition: document, publish: true };
        self.send(id, Command::Workflow(create)).await.expect("a workflow");
        id
    }

    async fn task(&self) -> Task {
        let pull = self.tasks.pull(&[NodeType::HttpRequest]);
        tokio::time::timeout(PATIENCE, pull).await.expect("a task in time").expect("a task")
    }

    async fn complete(&self, task: &Task, output: Value) -> Result<CommandReply, CommandError> {
        let command = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result: Ok(output) };
        self.send(task.task.execution, Command::Execution(command)).await
    }

    /// Waits until a stream ends with an event of a type.
    async fn ends_with(&self, stream: Uuid, event_type: &str) {
        let seen = async {
            loop {
                let events = self.log.inner.read_stream(stream, 0, 5_000).await.expect("events");
                if events.last().is_some_and(|event| event.event_type == event_type) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("no {event_type} in time"));
    }

    /// Waits until this many commands wait for the store.
    async fn settle() {
        // There is no event to wait for: commands that are held leave no trace. Too short a pause only makes the
        // test weaker, never wrong.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_append_beside_a_refused_one_leaves_no_gap_in_a_stream() {
    for _ in 0..5 {
        let rig = Rig::start(CommandServiceConfig::default()).await;
        rig.workflow(chain("taken", json!([delay("d", 1)]))).await;
        let variables = domain::variables::stream_of(&TenantId::default_tenant());
        let set = |n: usize| {
            Command::Variables(VariablesCommand::Set { name: format!("v{}", n % 900), value: json!(n) })
        };
        let gate = rig.log.gate.write().await;
        let create =
            WorkflowCommand::Create { definition: chain("taken", json!([delay("d", 1)])), publish: true };
        let loser = tokio::spawn({
            let rig = rig.clone();
            async move { rig.send(workflow_id(), Command::Workflow(create)).await }
        });
        Rig::settle().await;
        let sets: Vec<_> = (0..1_000)
            .map(|n| {
                let (rig, command) = (rig.clone(), set(n));
                tokio::spawn(async move { rig.send(variables, command).await })
            })
            .collect();
        Rig::settle().await;
        rig.log.append_fails_in.store(1, Ordering::SeqCst);
        drop(gate);
        assert!(loser.await.expect("no panic").is_err());
        for set in sets {
            // Whatever the answer, there is one.
            let _ = set.await.expect("no panic");
        }
        rig.send(variables, set(5)).await.expect("accepted");
        let events = rig.log.inner.read_stream(variables, 0, 5_000).await.expect("events");
        let versions: Vec<u64> = events.iter().map(|event| event.version).collect();
        assert_eq!(versions, (1..=events.len() as u64).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_is_durable_but_reported_as_failed_is_gone_on_with() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let workflow = rig.workflow(chain("a", json!([request("a")]))).await;
    rig.log.durable_but_failed.store(true, Ordering::SeqCst);
    rig.log.append_fails_in.store(0, Ordering::SeqCst);
    let (execution, id) = (fresh(), fresh());
    let first = rig.send_as(id, execution, start(workflow, json!("x"))).await;
    assert!(matches!(first, Err(CommandError::Unknown(_))), "{first:?}");
    let again = rig.send_as(id, execution, start(workflow, json!("x"))).await.expect("the first answer");
    assert!(again.repeated);
    let task = rig.task().await;
    rig.complete(&task, json!(1)).await.expect("accepted");
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_becomes_durable_after_it_was_given_up_is_gone_on_with() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let workflow = rig.workflow(chain("a", json!([request("a")]))).await;
    rig.log.durable_later.store(true, Ordering::SeqCst);
    rig.log.append_fails_in.store(0, Ordering::SeqCst);
    let execution = fresh();
    let first = rig.send(execution, start(workflow, json!("x"))).await;
    assert!(matches!(first, Err(CommandError::Unknown(_))), "{first:?}");
    // Nobody asks again; its task is handed out all the same.
    let task = rig.task().await;
    rig.complete(&task, json!(1)).await.expect("accepted");
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_never_rests_on_what_is_not_durable() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let workflow = rig.workflow(chain("a", json!([delay("d", 100_000)]))).await;
    let execution = fresh();
    let gate = rig.log.gate.write().await;
    let send = || {
        let rig = rig.clone();
        tokio::spawn(async move { rig.send(execution, start(workflow, json!("x"))).await })
    };
    let first = send();
    Rig::settle().await;
    let second = send();
    Rig::settle().await;
    rig.log.append_fails_in.store(0, Ordering::SeqCst);
    drop(gate);
    assert!(matches!(first.await.expect("no panic"), Err(CommandError::Unknown(_))));
    // The first left no trace, so the second is not refused as a repetition.
    second.await.expect("no panic").expect("accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wakeup_whose_row_could_not_be_read_fires_when_it_can() {
    let config = CommandServiceConfig { timer_horizon_ms: 200, ..CommandServiceConfig::default() };
    let rig = Rig::start(config).await;
    let workflow = rig.workflow(chain("a", json!([delay("d", 700)]))).await;
    let execution = fresh();
    rig.send(execution, start(workflow, Value::Null)).await.expect("accepted");
    rig.log.wakeups_fail.store(true, Ordering::SeqCst);
    // Past its time: every sweep until now has failed.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    rig.log.wakeups_fail.store(false, Ordering::SeqCst);
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yields_in_the_same_millisecond_are_not_taken_for_one() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let failing = |n: usize| {
        let mut node = transform(&format!("t{n}"), json!("{{ 1 / 0 }}"));
        node["on_error"] = json!("continue");
        node
    };
    let nodes: Vec<Value> = (0..990).map(failing).collect();
    let workflow = rig.workflow(chain("a", json!(nodes))).await;
    // As after a step back of the clock: `now` stays at the last recorded time.
    rig.clock.0.store(WallClock.now().unix_ms() + 1_000, Ordering::SeqCst);
    let execution = fresh();
    rig.send(execution, start(workflow, Value::Null)).await.expect("accepted");
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_stream_does_not_keep_its_neighbours_from_being_picked_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let id = |n| new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(3), n);
    let before = crate::harness::Service::start(folder.path()).await;
    let workflow = before.create_workflow(chain("a", json!([request("a")]))).await;
    for n in 1..=4 {
        before.send(id(n), start(workflow, json!("x"))).await.expect("accepted");
    }
    before.stop().await;
    let inner = SqliteLog::open(&path, SqliteOptions::default()).await.expect("a log");
    let log = FaultyLog::new(Arc::new(inner));
    *log.unreadable.lock().expect("no panic") = Some(id(1));
    let tasks = Arc::new(InProcessTasks::new());
    let service = CommandService::new(
        CommandServiceConfig::default(),
        CommandServicePorts::alone(
            Arc::new(log),
            Arc::new(InProcessFeed::new()),
            tasks.clone(),
            Arc::new(WallClock),
        ),
    );
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run(shutdown.clone()));
    for _ in 2..=4 {
        let pull = tasks.pull(&[NodeType::HttpRequest]);
        tokio::time::timeout(PATIENCE, pull).await.expect("a task in time").expect("a task");
    }
    shutdown.cancel();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_values_in_one_decision_are_spread_over_appends() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let mut nodes = vec![request("first")];
    nodes.extend((0..80).map(|n| transform(&format!("t{n}"), json!("{{ input }}"))));
    let workflow = rig.workflow(chain("a", json!(nodes))).await;
    let execution = fresh();
    rig.send(execution, start(workflow, json!("x".repeat(60_000)))).await.expect("accepted");
    let task = rig.task().await;
    rig.complete(&task, json!(1)).await.expect("accepted");
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_may_use_more_large_values_than_there_are_rounds() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let mut nodes: Vec<Value> = (0..70).map(|n| request(&format!("h{n}"))).collect();
    let sizes = (0..70).map(|n| (format!("h{n}"), json!(format!("{{{{ size(nodes.h{n}.output) }}}}"))));
    nodes.push(transform("sum", Value::Object(sizes.collect())));
    let workflow = rig.workflow(chain("a", json!(nodes))).await;
    let execution = fresh();
    rig.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    for n in 0..70 {
        let task = rig.task().await;
        let (value, blob) = claim_check(json!(n.to_string().repeat(70_000)));
        let blob = blob.expect("a blob");
        rig.log.write_blob(&TenantId::default_tenant(), &blob).await.expect("stored");
        rig.complete(&task, value).await.expect("accepted");
    }
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_may_be_ahead_of_the_log_than_are_cached() {
    let config = CommandServiceConfig { cached_streams: 4, ..CommandServiceConfig::default() };
    let rig = Rig::start(config).await;
    let workflow = rig.workflow(chain("a", json!([transform("t", json!(1))]))).await;
    let gate = rig.log.gate.write().await;
    let all: Vec<_> = (0..20)
        .map(|n| {
            let id = new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(3), n);
            let rig = rig.clone();
            tokio::spawn(async move { rig.send(id, start(workflow, json!("x"))).await })
        })
        .collect();
    Rig::settle().await;
    drop(gate);
    for sent in all {
        sent.await.expect("no panic").expect("accepted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_found_empty_before_a_late_commit_is_folded_anew_after_it() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let workflow = rig.workflow(chain("a", json!([request("a")]))).await;
    rig.log.durable_later.store(true, Ordering::SeqCst);
    rig.log.append_fails_in.store(0, Ordering::SeqCst);
    let execution = fresh();
    let first = rig.send(execution, start(workflow, json!("x"))).await;
    assert!(matches!(first, Err(CommandError::Unknown(_))), "{first:?}");
    let early = rig.send(execution, Command::Execution(ExecutionCommand::Cancel { reason: None })).await;
    assert!(matches!(early, Err(CommandError::Rejected(_))), "{early:?}");
    let task = rig.task().await;
    rig.complete(&task, json!(1)).await.expect("accepted");
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_was_committed_unheard_is_not_handed_out_again_after_its_repetition() {
    let config = CommandServiceConfig { redeliver_after_ms: 1_000, ..CommandServiceConfig::default() };
    let rig = Rig::start(config).await;
    let workflow = rig.workflow(chain("a", json!([request("a")]))).await;
    let execution = fresh();
    rig.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    let task = rig.task().await;
    rig.tasks.beat(Beat { task: task.task.clone(), worker: "w".into() });
    rig.log.durable_but_failed.store(true, Ordering::SeqCst);
    rig.log.append_fails_in.store(0, Ordering::SeqCst);
    let done = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result: Ok(json!(1)) };
    let (id, done) = (fresh(), Command::Execution(done));
    let first = rig.send_as(id, execution, done.clone()).await;
    assert!(matches!(first, Err(CommandError::Unknown(_))), "{first:?}");
    assert!(rig.send_as(id, execution, done).await.expect("the first answer").repeated);
    let again = tokio::time::timeout(Duration::from_secs(3), rig.tasks.pull(&[NodeType::HttpRequest])).await;
    assert!(again.is_err(), "a task was handed out again though its result is here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wakeup_of_an_unheard_commit_is_read_though_a_sweep_was_under_way() {
    let config = CommandServiceConfig { timer_horizon_ms: 2_000, ..CommandServiceConfig::default() };
    let rig = Rig::start(config).await;
    let workflow = rig.workflow(chain("a", json!([delay("d", 600)]))).await;
    let gate = rig.log.wakeups_gate.write().await;
    // The next sweep has read the first partition and goes on when it may.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    rig.log.wakeups_fail.store(true, Ordering::SeqCst);
    rig.log.durable_but_failed.store(true, Ordering::SeqCst);
    rig.log.append_fails_in.store(0, Ordering::SeqCst);
    let execution = new_id(WallClock.now(), Slot::from_bits(0), 7);
    let first = rig.send(execution, start(workflow, Value::Null)).await;
    assert!(matches!(first, Err(CommandError::Unknown(_))), "{first:?}");
    // What follows from the commit cannot be read either, until later.
    tokio::time::sleep(Duration::from_millis(400)).await;
    drop(gate);
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.log.wakeups_fail.store(false, Ordering::SeqCst);
    rig.ends_with(execution, "execution.completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_to_one_stream_are_decided_while_the_first_is_on_its_way() {
    let rig = Rig::start(CommandServiceConfig::default()).await;
    let workflow = rig.workflow(chain("a", json!([delay("d", 100_000)]))).await;
    let execution = fresh();
    rig.send(execution, start(workflow, Value::Null)).await.expect("accepted");
    let before = rig.log.batches.load(Ordering::SeqCst);
    let gate = rig.log.gate.write().await;
    let mut sent = Vec::new();
    for n in 0..20 {
        let signal = ExecutionCommand::Signal { name: format!("s{n}"), payload: json!(n) };
        let rig = rig.clone();
        sent.push(tokio::spawn(async move { rig.send(execution, Command::Execution(signal)).await }));
    }
    Rig::settle().await;
    drop(gate);
    for signal in sent {
        signal.await.expect("no panic").expect("accepted");
    }
    let events = rig.log.inner.read_stream(execution, 0, 100).await.expect("events");
    let signals = events.iter().filter(|event| event.event_type == "execution.signal.received").count();
    assert_eq!(signals, 20);
    // One that was being written, and one with all that was decided on it meanwhile.
    let batches = rig.log.batches.load(Ordering::SeqCst) - before;
    assert!(batches <= 3, "20 commands took {batches} batches: each waited for the one before");
}
