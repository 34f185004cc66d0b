//! Partitions that change hands: nothing acknowledged is lost, nothing happens twice, nothing stands still.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use bus::in_process::InProcessTasks;
use bus::tasks::{Beat, TaskQueue, TaskRef};
use bus::{CommandError, Commands};
use domain::command::Command;
use domain::execution::command::ExecutionCommand;
use domain::ids::{Partition, Slot, new_id};
use domain::node_type::NodeType;
use domain::workflow::command::WorkflowCommand;
use event_store::Store;
use event_store::ownership::NodeBeat;

use crate::harness::{PATIENCE, WallClock, chain, fresh, request, start, transform, workflow_id};
use crate::shared::{Site, envelope, sqlite_store, until};

const PARTITIONS: usize = 16;

fn site(store: Store) -> Arc<Site> {
    Arc::new(Site::new(store, Arc::new(InProcessTasks::new())))
}

async fn workflow(site: &Site, nodes: Value) -> Uuid {
    let id = workflow_id();
    let create = WorkflowCommand::Create { definition: chain(&id.to_string(), nodes), publish: true };
    site.send(id, Command::Workflow(create)).await.expect("a workflow");
    id
}

async fn engine_only(site: &Site) -> Uuid {
    workflow(site, json!([transform("t", json!("{{ input }}"))])).await
}

/// A stream in a partition.
pub(crate) fn in_partition(partition: u16) -> Uuid {
    use domain::time::Clock;
    new_id(WallClock.now(), Slot::from_bits(u64::from(partition)), fresh().as_u64_pair().1)
}

/// Starts executions one after another over the network until told to stop. Returns those that were acknowledged.
fn load(site: &Arc<Site>, workflow: Uuid, stop: &tokio_util::sync::CancellationToken) -> JoinSet<Vec<Uuid>> {
    let mut senders = JoinSet::new();
    for _ in 0..8 {
        let (site, stop) = (site.clone(), stop.clone());
        senders.spawn(async move {
            let mut acknowledged = Vec::new();
            while !stop.is_cancelled() {
                let execution = fresh();
                site.send(execution, start(workflow, json!(1))).await.expect("accepted");
                acknowledged.push(execution);
            }
            acknowledged
        });
    }
    senders
}

/// Every acknowledged execution is in the log once and whole.
async fn check(site: &Site, acknowledged: &[Uuid]) {
    let events = site.check_log().await;
    let mut by_stream: HashMap<Uuid, Vec<&str>> = HashMap::new();
    for event in &events {
        by_stream.entry(event.stream).or_default().push(&event.event_type);
    }
    for execution in acknowledged {
        let types = by_stream.get(execution).expect("an acknowledged execution");
        assert_eq!(types.len(), 3, "{types:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_a_node_that_is_killed_are_taken_over_and_nothing_acknowledged_is_lost() {
    let (store, _folder) = sqlite_store().await;
    a_killed_node_is_replaced(store.clone(), store).await;
}

/// Each node has a store of its own on the same database.
pub(crate) async fn a_killed_node_is_replaced(store: Store, other: Store) {
    let site = site(store);
    let (a, b) = (site.node_on(&other, None), site.node());
    until("a share for both", async || a.owns() + b.owns() == PARTITIONS && a.owns() > 0 && b.owns() > 0)
        .await;
    let workflow = engine_only(&site).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let senders = load(&site, workflow, &stop);
    tokio::time::sleep(Duration::from_millis(300)).await;
    a.kill().await;
    let killed = Instant::now();
    b.owning(PARTITIONS).await;
    assert!(killed.elapsed() < Duration::from_secs(5));
    for partition in 0..PARTITIONS as u16 {
        site.send(in_partition(partition), start(workflow, json!(1))).await.expect("accepted");
    }
    stop.cancel();
    check(&site, &senders.join_all().await.concat()).await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_is_given_its_share_and_gives_it_back_when_it_leaves() {
    let (store, _folder) = sqlite_store().await;
    let site = site(store);
    let a = site.node();
    a.owning(PARTITIONS).await;
    let workflow = engine_only(&site).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let senders = load(&site, workflow, &stop);
    for _ in 0..3 {
        let b = site.node();
        until("a share for both", async || b.owns() > 0 && a.owns() + b.owns() == PARTITIONS).await;
        b.stop().await;
        a.owning(PARTITIONS).await;
    }
    stop.cancel();
    check(&site, &senders.join_all().await.concat()).await;
    a.stop().await;
    let membership = site.store.ownership.as_ref().expect("shared").membership().await.expect("who lives");
    assert!(membership.nodes.is_empty() && membership.owners.iter().all(|owner| owner.node.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_believes_that_it_still_owns_is_fenced_and_nothing_is_lost() {
    let (store, _folder) = sqlite_store().await;
    two_believers_have_one_effect(store.clone(), store).await;
}

/// Each node has a store of its own on the same database.
pub(crate) async fn two_believers_have_one_effect(store: Store, other: Store) {
    let site = site(store);
    let a = site.node_on(&other, None);
    a.owning(PARTITIONS).await;
    let workflow = engine_only(&site).await;
    a.silence();
    until("the lost beats are noticed", async || !a.handle.last_beat_succeeded()).await;
    let b = site.node();
    b.owning(PARTITIONS).await;
    // Both are sent the same commands, at the same time.
    let mut sent = JoinSet::new();
    for number in 0..200 {
        let (id, execution) = (fresh(), in_partition(number % PARTITIONS as u16));
        let command = envelope(id, execution, start(workflow, json!(1)));
        let (first, second, network) = (a.handler.clone(), b.handler.clone(), site.network.clone());
        sent.spawn(async move {
            let (at_a, at_b) = tokio::join!(first.handle(command.clone()), second.handle(command.clone()));
            let reply = at_b.expect("accepted");
            match at_a {
                Err(CommandError::NotOwner) => {}
                // It has found the answer in the log.
                Ok(first) => assert!(first.repeated && first.answer == reply.answer),
                Err(error) => panic!("{error}"),
            }
            let again = network.send(command).await.expect("the same answer");
            assert!(again.repeated && again.answer == reply.answer);
            execution
        });
    }
    let executions = sent.join_all().await;
    check(&site, &executions).await;
    for partition in 0..PARTITIONS as u16 {
        let command = envelope(fresh(), in_partition(partition), start(workflow, json!(1)));
        assert!(matches!(a.handler.handle(command).await, Err(CommandError::NotOwner)));
    }
    until("what it was fenced on is dropped", async || a.owns() == 0).await;
    a.heard_again();
    until("both share", async || a.owns() > 0 && a.owns() + b.owns() == PARTITIONS).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_was_accepted_before_a_shutdown_is_answered() {
    let (store, _folder) = sqlite_store().await;
    let site = site(store);
    let a = site.node();
    a.owning(PARTITIONS).await;
    let workflow = engine_only(&site).await;
    let mut sent = JoinSet::new();
    for _ in 0..500 {
        let (handler, execution) = (a.handler.clone(), fresh());
        let command = envelope(fresh(), execution, start(workflow, json!(1)));
        sent.spawn(async move { (execution, handler.handle(command).await) });
    }
    until("commands are under way", async || a.handle.commands_in_flight() > 50).await;
    a.shut_down();
    let mut acknowledged = Vec::new();
    while let Some(answer) = sent.join_next().await {
        match answer.expect("no panic") {
            (execution, Ok(_)) => acknowledged.push(execution),
            (_, Err(CommandError::NotOwner)) => {}
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert!(!acknowledged.is_empty());
    a.ended().await;
    let started =
        site.check_log().await.iter().filter(|event| event.event_type == "execution.started").count();
    assert_eq!(started, acknowledged.len(), "a command that was turned away has left something");
    check(&site, &acknowledged).await;
    // Nobody has to wait for a lease.
    let (b, asked) = (site.node(), Instant::now());
    b.owning(PARTITIONS).await;
    assert!(asked.elapsed() < Duration::from_millis(550), "{:?}", asked.elapsed());
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_lost_disturbs_no_other_and_is_taken_again() {
    let (store, _folder) = sqlite_store().await;
    let site = site(store);
    let a = site.node();
    a.owning(PARTITIONS).await;
    let workflow = engine_only(&site).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let senders = load(&site, workflow, &stop);
    let home = Partition::of(workflow, PARTITIONS as u16);
    for partition in (0..PARTITIONS as u16).map(Partition).filter(|partition| *partition != home) {
        let epoch = |held: &[command_service::OwnedPartition], of| {
            held.iter().find(|held| held.partition == of).map(|held| held.epoch)
        };
        let before = a.handle.owned();
        site.store.log.take_over(partition, fresh()).await.expect("a new epoch");
        let other = Partition((partition.0 + 1) % PARTITIONS as u16);
        let command = envelope(fresh(), in_partition(other.0), start(workflow, json!(1)));
        a.handler.handle(command).await.expect("the others go on");
        until("it is taken again", async || {
            let held = a.handle.owned();
            epoch(&held, partition).is_some_and(|now| Some(now) > epoch(&before, partition))
        })
        .await;
        assert_eq!(epoch(&a.handle.owned(), other), epoch(&before, other));
        site.send(in_partition(partition.0), start(workflow, json!(1))).await.expect("accepted");
    }
    stop.cancel();
    check(&site, &senders.join_all().await.concat()).await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_published_on_one_node_counts_for_the_next_start_on_another() {
    let (store, _folder) = sqlite_store().await;
    let site = site(store);
    let (a, b) = (site.node(), site.node());
    until("a share for both", async || a.owns() + b.owns() == PARTITIONS && a.owns() > 0 && b.owns() > 0)
        .await;
    let workflow = engine_only(&site).await;
    for version in 2..10_u64 {
        let definition = chain(&workflow.to_string(), json!([transform("t", json!(version))]));
        let update = WorkflowCommand::Update { definition, publish: true, expected_version: None };
        site.send(workflow, Command::Workflow(update)).await.expect("accepted");
        for partition in 0..PARTITIONS as u16 {
            let execution = in_partition(partition);
            site.send(execution, start(workflow, Value::Null)).await.expect("accepted");
            let events = site.store.log.read_stream(execution, 0, 1).await.expect("events");
            let started: Value = serde_json::from_slice(&events[0].data).expect("JSON");
            assert_eq!(started["workflow_version"], version);
        }
    }
    a.stop().await;
    b.stop().await;
}

/// Gives signs of life for a task, for ever.
async fn beat(tasks: Arc<InProcessTasks>, task: TaskRef) {
    loop {
        tasks.beat(Beat { task: task.clone(), worker: "w".into() });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_worker_lives_is_not_handed_out_again_after_a_takeover() {
    let (store, _folder) = sqlite_store().await;
    let tasks = Arc::new(InProcessTasks::new());
    let site = Arc::new(Site::new(store, tasks.clone()));
    let a = site.node();
    a.owning(PARTITIONS).await;
    let workflow = workflow(&site, json!([request("a")])).await;
    let (kept, silent) = (fresh(), fresh());
    for execution in [kept, silent] {
        site.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    }
    let pull =
        async || tokio::time::timeout(PATIENCE, tasks.pull(&[NodeType::HttpRequest])).await.expect("in time");
    let mut held = [pull().await.expect("a task"), pull().await.expect("a task")];
    held.sort_by_key(|task| task.task.execution != kept);
    let mut beating = JoinSet::new();
    beating.spawn(beat(tasks.clone(), held[0].task.clone()));
    a.kill().await;
    let b = site.node();
    b.owning(PARTITIONS).await;
    // The silent one's task comes again, the other's does not.
    let again = pull().await.expect("a task");
    assert_eq!(again.task.execution, silent);
    beating.spawn(beat(tasks.clone(), again.task.clone()));
    let more = tokio::time::timeout(Duration::from_secs(2), tasks.pull(&[NodeType::HttpRequest])).await;
    assert!(more.is_err(), "a task was handed out twice though its worker lives");
    beating.shutdown().await;
    for task in [&held[0], &again] {
        let command = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result: Ok(json!(1)) };
        site.send(task.task.execution, Command::Execution(command)).await.expect("accepted");
    }
    for execution in [kept, silent] {
        site.wait_for(execution, "execution.completed").await;
    }
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_holder_that_does_not_let_go_is_overruled_after_a_while() {
    let (store, _folder) = sqlite_store().await;
    let ownership = store.ownership.clone().expect("shared");
    let holder = Uuid::new_v4();
    for number in 0..PARTITIONS as u16 {
        store.log.take_over(Partition(number), holder).await.expect("taken");
    }
    let mut holding = JoinSet::new();
    holding.spawn(async move {
        let (name, lease) = ("holder".to_owned(), Duration::from_secs(1));
        let beat = NodeBeat { node: holder, name, draining: false, lease };
        loop {
            ownership.beat(&beat).await.expect("heard");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let site = site(store);
    let (node, joined) = (site.node(), Instant::now());
    until("its share", async || node.owns() > 0).await;
    assert!(joined.elapsed() > Duration::from_secs(9), "{:?}", joined.elapsed());
    assert!(node.owns() < PARTITIONS, "the rest is not its own");
    holding.shutdown().await;
    node.owning(PARTITIONS).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_the_database_closes_its_doors_until_it_is_heard_again() {
    let (store, _folder) = sqlite_store().await;
    let site = site(store);
    let node = site.node();
    until("every door is open", async || site.network.open_doors() == PARTITIONS).await;
    for _ in 0..2 {
        node.silence();
        until("every door is closed", async || site.network.open_doors() == 0).await;
        assert_eq!(node.owns(), PARTITIONS, "nobody else has taken them");
        node.heard_again();
        until("every door is open again", async || site.network.open_doors() == PARTITIONS).await;
    }
    let workflow = engine_only(&site).await;
    site.send(fresh(), start(workflow, json!(1))).await.expect("accepted");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_delays_a_shutdown_by_seconds_at_most() {
    let (store, _folder) = sqlite_store().await;
    let mut site = Site::new(store, Arc::new(InProcessTasks::new()));
    site.config.lease_ms = 60_000;
    let node = site.node();
    node.owning(PARTITIONS).await;
    node.hang();
    // Until a beat is on its way.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = Instant::now();
    node.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
