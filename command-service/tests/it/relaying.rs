//! Every event reaches the stream for subscribers outside, at least once and in order, whatever the stream does.

use async_trait::async_trait;
use command_service::RelayPorts;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

use bus::in_process::InProcessTasks;
use domain::command::Command;
use domain::ids::{Partition, Position};
use domain::workflow::command::WorkflowCommand;
use event_store::{Checkpoints, StoreError};

use crate::harness::{chain, fresh, start, transform, workflow_id};
use crate::publisher::FakeStream;
use crate::shared::{Node, Site, sqlite_store, until};

/// Checkpoints that must never go back.
struct Monotone {
    inner: Arc<dyn Checkpoints>,
    highest: Mutex<BTreeMap<u16, u64>>,
}

#[async_trait]
impl Checkpoints for Monotone {
    async fn checkpoint(&self, reader: &str, partition: Partition) -> Result<u64, StoreError> {
        self.inner.checkpoint(reader, partition).await
    }

    async fn move_checkpoint(
        &self,
        reader: &str,
        partition: Partition,
        from: u64,
        to: u64,
    ) -> Result<bool, StoreError> {
        assert!(to > from, "a checkpoint went from {from} to {to}");
        let moved = self.inner.move_checkpoint(reader, partition, from, to).await?;
        if moved {
            let mut highest = self.highest.lock().expect("no panic");
            let highest = highest.entry(partition.0).or_default();
            assert!(*highest <= to);
            *highest = to;
        }
        Ok(moved)
    }
}

struct Rig {
    site: Site,
    stream: Arc<FakeStream>,
    checkpoints: Arc<Monotone>,
    workflow: Uuid,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> (Self, Node) {
        let (store, folder) = sqlite_store().await;
        let checkpoints = Monotone { inner: store.checkpoints.clone(), highest: Mutex::default() };
        let site = Site::new(store, Arc::new(InProcessTasks::new()));
        let rig = Self {
            site,
            stream: Arc::default(),
            checkpoints: Arc::new(checkpoints),
            workflow: workflow_id(),
            _folder: folder,
        };
        let node = rig.node();
        node.owning(16).await;
        let definition = chain("a", json!([transform("t", json!("{{ input }}"))]));
        let create = WorkflowCommand::Create { definition, publish: true };
        rig.site.send(rig.workflow, Command::Workflow(create)).await.expect("a workflow");
        (rig, node)
    }

    fn node(&self) -> Node {
        let (events, checkpoints) = (self.stream.clone(), self.checkpoints.clone());
        self.site.node_with(Some(RelayPorts { events, checkpoints }))
    }

    /// Starts executions of three events each.
    async fn executions(&self, count: usize) {
        let all = (0..count).map(|_| self.site.send(fresh(), start(self.workflow, json!(1))));
        for answer in futures::future::join_all(all).await {
            answer.expect("accepted");
        }
    }

    async fn heads(&self) -> Vec<(Partition, u64)> {
        let heads = self.site.store.log.heads().await.expect("heads");
        heads.into_iter().map(|head| (head.partition, head.offset)).collect()
    }

    async fn seen(&self) {
        let heads = self.heads().await;
        until("every event is published", async || self.stream.has_all(&heads)).await;
    }

    async fn held(&self) {
        let heads = self.heads().await;
        until("the stream holds every event", async || self.stream.holds_all(&heads)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_published_in_order_and_a_successor_goes_on_from_the_checkpoint() {
    let (rig, node) = Rig::start().await;
    rig.executions(300).await;
    rig.seen().await;
    let heads = rig.heads().await;
    until("the handle shows no lag", async || {
        node.handle.owned().iter().all(|held| held.relayed == Some(held.head))
    })
    .await;
    assert_eq!(
        node.handle.owned().iter().map(|held| held.head).collect::<Vec<_>>(),
        heads.iter().map(|h| h.1).collect::<Vec<_>>()
    );
    let published = rig.stream.stored();
    node.stop().await;
    let node = rig.node();
    node.owning(16).await;
    rig.executions(10).await;
    rig.seen().await;
    assert_eq!(rig.stream.stored(), published + 30, "what was published is not published again");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_fails_anywhere_loses_nothing() {
    let (rig, node) = Rig::start().await;
    for (round, fails_in) in [0, 1, 7, 20, 33, 59].into_iter().enumerate() {
        rig.stream.fail_in(fails_in);
        rig.executions(20 + round).await;
        rig.seen().await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_emptied_or_cut_is_filled_again() {
    let (rig, node) = Rig::start().await;
    rig.executions(200).await;
    rig.held().await;
    for keep in [0, 100, 1, 599] {
        rig.stream.keep(keep);
        rig.executions(1).await;
        rig.held().await;
        rig.seen().await;
    }
    node.stop().await;
    // While nobody looks.
    rig.stream.keep(10);
    let node = rig.node();
    rig.held().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_away_costs_lag_and_nothing_else() {
    let (rig, node) = Rig::start().await;
    rig.seen().await;
    rig.stream.go_away();
    // Far more than the relay may hold: 6 KiB of input, three times.
    let input = json!("x".repeat(6_000));
    for _ in 0..20 {
        let all = (0..100).map(|_| rig.site.send(fresh(), start(rig.workflow, input.clone())));
        for answer in futures::future::join_all(all).await {
            answer.expect("commands go on");
        }
    }
    let lag: u64 = node.handle.owned().iter().map(|held| held.head - held.relayed.unwrap_or(0)).sum();
    assert!(lag >= 5_900, "{lag}");
    rig.stream.come_back();
    let calls = rig.stream.calls();
    rig.seen().await;
    assert!(rig.stream.calls() - calls < 600, "it is published in batches");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_change_hands_while_the_stream_fails_miss_nothing() {
    let (rig, mut node) = Rig::start().await;
    for round in 0..4 {
        rig.executions(50).await;
        rig.stream.fail_in(round * 13);
        let next = rig.node();
        if round % 2 == 0 {
            node.kill().await;
        } else {
            node.stop().await;
        }
        node = next;
        rig.executions(50).await;
    }
    node.owning(16).await;
    rig.seen().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_older_than_the_stream_may_keep_is_published_from_that_age_on() {
    let (store, _folder) = sqlite_store().await;
    let site = Site::new(store, Arc::new(InProcessTasks::new()));
    let node = site.node();
    node.owning(16).await;
    let workflow = workflow_id();
    let definition = chain("a", json!([transform("t", json!("{{ input }}"))]));
    let create = WorkflowCommand::Create { definition, publish: true };
    site.send(workflow, Command::Workflow(create)).await.expect("a workflow");
    site.send(fresh(), start(workflow, json!(1))).await.expect("accepted");
    node.stop().await;
    let stream = Arc::new(FakeStream::default());
    stream.keep_events_for(Duration::ZERO);
    let checkpoints = site.store.checkpoints.clone();
    let node = site.node_with(Some(RelayPorts { events: stream.clone(), checkpoints }));
    node.owning(16).await;
    until("the relay knows where it is", async || {
        node.handle.owned().iter().all(|held| held.relayed == Some(held.head))
    })
    .await;
    assert_eq!(stream.stored(), 0);
    site.send(fresh(), start(workflow, json!(1))).await.expect("accepted");
    until("what is new is published", async || stream.stored() == 3).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_ahead_of_the_log_is_not_believed() {
    let (rig, node) = Rig::start().await;
    rig.executions(10).await;
    rig.seen().await;
    node.stop().await;
    for partition in (0..16).map(Partition) {
        rig.stream.is_ahead(Position { partition, offset: 1_000_000 });
    }
    let node = rig.node();
    node.owning(16).await;
    rig.executions(30).await;
    rig.seen().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_the_one_it_was_is_filled_again_whatever_its_end_says() {
    let (rig, node) = Rig::start().await;
    rig.executions(100).await;
    rig.held().await;
    rig.stream.keep_only_ends();
    rig.executions(1).await;
    rig.held().await;
    until("the relay is through", async || {
        node.handle.owned().iter().all(|held| held.relayed == Some(held.head))
    })
    .await;
    // Once: the next failure says nothing of the kind.
    let stored = rig.stream.stored();
    rig.stream.fail_in(0);
    rig.executions(1).await;
    rig.seen().await;
    assert_eq!(rig.stream.stored(), stored + 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_answer_does_not_keep_a_process_from_ending() {
    let (rig, node) = Rig::start().await;
    rig.seen().await;
    rig.stream.get_stuck();
    let calls = rig.stream.calls();
    rig.executions(1).await;
    until("something is being published", async || rig.stream.calls() > calls).await;
    let asked = std::time::Instant::now();
    node.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
}
