//! An owner that dies or falls asleep is replaced within seconds, and what it does after it wakes up is refused.

use domain::event::{Event, ExecutionEvent};
use domain::ids::Partition;
use event_store::{LogReader, Store};
use serde_json::json;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::{Cluster, ClusterOptions, Role};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{caught_up, start};
use crate::endurance::{Chance, Insistent, setting};

/// Commands are answered again within this time after an owner was killed.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(5);
/// How long the cluster may take to come to rest.
const REST: Duration = Duration::from_secs(30);
/// Between two commands to a partition.
const PROBE_PAUSE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_a_killed_owner_are_answered_by_another_within_five_seconds() {
    let (mut cluster, client) = start(ClusterOptions::default()).await;
    let store = cluster.store().await.expect("the store");
    let probes = Probes::start(&client, &*store.reader).await;
    let (victim, owned) = busiest_owner(&cluster, &store).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let killed = Instant::now();
    cluster.kill(victim).await.expect("killed");
    until_owned_by_others(&store, &owned, &cluster, victim).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.start_again(victim).await.expect("a start after a kill");
    until_owner(&store, &cluster, victim).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let probes = probes.stop().await;
    let outage = probes.outage(killed, &owned);
    println!("{} partitions taken over; longest wait for an answer {outage:?}", owned.len());
    check(&mut cluster, &store, &probes).await;
    assert!(outage < TAKEOVER_LIMIT, "{outage:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_owner_that_wakes_up_after_it_was_replaced_gets_into_the_log() {
    let asleep = Duration::from_secs(setting("EVERLINE_CLUSTER_PAUSE_SECONDS", 0) as u64);
    let (mut cluster, client) = start(ClusterOptions::default()).await;
    let store = cluster.store().await.expect("the store");
    let probes = Probes::start(&client, &*store.reader).await;
    let (victim, owned) = busiest_owner(&cluster, &store).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let paused = Instant::now();
    cluster.pause(victim).await.expect("paused");
    until_owned_by_others(&store, &owned, &cluster, victim).await;
    tokio::time::sleep(Duration::from_secs(2).max(asleep.saturating_sub(paused.elapsed()))).await;
    cluster.resume(victim).await.expect("resumed");
    // It finds out that it was replaced, and is given its share again.
    until_owner(&store, &cluster, victim).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let probes = probes.stop().await;
    let outage = probes.outage(paused, &owned);
    println!("asleep after {:?}; longest wait for an answer {outage:?}", paused.elapsed());
    for member in cluster.of(Role::CommandService) {
        assert!(cluster.is_ready(member).await, "{}", cluster.members()[member].name);
    }
    check(&mut cluster, &store, &probes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_that_fall_asleep_for_about_as_long_as_a_lease_lose_nothing() {
    let pauses = setting("EVERLINE_CLUSTER_PAUSES", 3);
    let mut chance = Chance::from_setting("EVERLINE_CLUSTER_SEED");
    let (mut cluster, client) = start(ClusterOptions::default()).await;
    let store = cluster.store().await.expect("the store");
    let probes = Probes::start(&client, &*store.reader).await;
    busiest_owner(&cluster, &store).await;
    let owners = cluster.of(Role::CommandService);
    for _ in 0..pauses {
        let owner = owners[chance.below(owners.len() as u64) as usize];
        // The lease is 3 s: some wake up just before it ends, some just after another has taken over.
        let asleep = Duration::from_millis(2_000 + chance.below(2_500));
        cluster.pause(owner).await.expect("paused");
        tokio::time::sleep(asleep).await;
        cluster.resume(owner).await.expect("resumed");
        println!("{} slept for {asleep:?}", cluster.members()[owner].name);
        tokio::time::sleep(Duration::from_millis(chance.below(1_500))).await;
    }
    busiest_owner(&cluster, &store).await;
    let probes = probes.stop().await;
    check(&mut cluster, &store, &probes).await;
}

/// Every acknowledged signal is in the log once, epochs never go back, and all the rest is sound.
async fn check(cluster: &mut Cluster, store: &Store, probes: &Probed) {
    cluster.ensure_all_alive().await.expect("nothing ends by itself");
    let models = cluster.read_models().await.expect("the read models");
    caught_up(&*store.reader, &models).await;
    cluster.stop_all().await.expect("graceful ends");
    testkit::audit(&*store.reader).await.expect("a sound log");
    let sql =
        "select count(*) from (select epoch < lag(epoch) over (partition by partition order by head) as back
        from everline_log.commits) as c where back";
    assert_eq!(cluster.sql(sql).await.expect("the commits").trim(), "0", "epochs never go back");

    let mut found: HashMap<u64, usize> = HashMap::new();
    for head in store.reader.heads().await.expect("heads") {
        for event in store.reader.read_partition(head.partition, 0, 1_000_000).await.expect("events") {
            if let Ok(Event::Execution(ExecutionEvent::SignalReceived(signal))) = event.decode() {
                let text = serde_json::to_value(&signal).expect("JSON");
                *found.entry(text["payload"]["probe"].as_u64().expect("a probe")).or_default() += 1;
            }
        }
    }
    for answer in &probes.answers {
        assert_eq!(
            found.get(&answer.probe),
            Some(&1),
            "an acknowledged signal is in the log once: {answer:?}"
        );
    }
    println!("{} acknowledged signals", probes.answers.len());
}

/// The command-service with the most partitions, and those.
async fn busiest_owner(cluster: &Cluster, store: &Store) -> (usize, BTreeSet<Partition>) {
    let begun = Instant::now();
    loop {
        let owned: Vec<_> = cluster.of(Role::CommandService).into_iter().collect();
        let mut all = Vec::new();
        for member in owned {
            all.push((member, owned_by(store, cluster, member).await));
        }
        // Both have taken their share.
        if all.iter().map(|(_, owned)| owned.len()).sum::<usize>() == usize::from(store.reader.partitions())
            && all.iter().all(|(_, owned)| !owned.is_empty())
        {
            return all.into_iter().max_by_key(|(_, owned)| owned.len()).expect("an owner");
        }
        assert!(begun.elapsed() < REST, "the partitions are not shared: {all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The partitions of a member. The name of a node is `<host>:<process id>:<something>`.
async fn owned_by(store: &Store, cluster: &Cluster, member: usize) -> BTreeSet<Partition> {
    let pid = cluster.members()[member].pid().expect("a process").to_string();
    let membership =
        store.ownership.as_ref().expect("several processes").membership().await.expect("members");
    let is_it = |name: &str| name.rsplit(':').nth(1) == Some(&*pid);
    let nodes: HashSet<_> =
        membership.nodes.iter().filter(|node| is_it(&node.name)).map(|node| node.node).collect();
    let owners = membership.owners.iter();
    owners
        .filter(|owner| owner.node.is_some_and(|node| nodes.contains(&node)))
        .map(|owner| owner.partition)
        .collect()
}

async fn until_owned_by_others(
    store: &Store,
    partitions: &BTreeSet<Partition>,
    cluster: &Cluster,
    victim: usize,
) {
    let begun = Instant::now();
    let others: Vec<_> =
        cluster.of(Role::CommandService).into_iter().filter(|&member| member != victim).collect();
    loop {
        let mut owned = BTreeSet::new();
        for &member in &others {
            owned.extend(owned_by(store, cluster, member).await);
        }
        if owned.is_superset(partitions) {
            println!("all partitions had another owner after {:?}", begun.elapsed());
            return;
        }
        assert!(begun.elapsed() < REST, "{:?} are not taken over", partitions.difference(&owned));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_owner(store: &Store, cluster: &Cluster, member: usize) {
    let begun = Instant::now();
    while owned_by(store, cluster, member).await.is_empty() {
        assert!(begun.elapsed() < REST, "{} is given nothing", cluster.members()[member].name);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Clients that send a signal to each partition, again and again.
struct Probes {
    stop: Arc<AtomicBool>,
    probers: Vec<JoinHandle<Vec<Answer>>>,
}

/// What they were answered.
struct Probed {
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    probe: u64,
    partition: Partition,
    sent: Instant,
    answered: Instant,
}

impl Probes {
    async fn start(client: &Insistent, log: &dyn LogReader) -> Self {
        let workflow = client.create(&patient()).await;
        let mut streams: HashMap<Partition, String> = HashMap::new();
        for number in 0.. {
            if streams.len() == usize::from(log.partitions()) {
                break;
            }
            let id = client.start(&workflow, number).await;
            let uuid: Uuid = id.parse().expect("an id");
            streams.insert(Partition::of(uuid, log.partitions()), id);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let prober = |(partition, execution): (Partition, String)| {
            let (client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let probe = u64::from(partition.0) * 1_000_000 + number;
                    let path = format!("/executions/{execution}/signals/probe");
                    let sent = Instant::now();
                    let (status, answer) =
                        client.post(&path, &format!("probe-{probe}"), &json!({"probe": probe})).await;
                    assert_eq!(status, 202, "{answer}");
                    answers.push(Answer { probe, partition, sent, answered: Instant::now() });
                    tokio::time::sleep(PROBE_PAUSE).await;
                }
                answers
            })
        };
        Self { probers: streams.into_iter().map(prober).collect(), stop }
    }

    async fn stop(self) -> Probed {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for prober in self.probers {
            answers.extend(prober.await.expect("a prober that ends"));
        }
        Probed { answers }
    }
}

impl Probed {
    /// The longest that a command to one of the partitions waited for its answer after a moment.
    fn outage(&self, since: Instant, partitions: &BTreeSet<Partition>) -> Duration {
        let later = self.answers.iter().filter(|answer| answer.answered > since);
        let waits = later
            .filter(|answer| partitions.contains(&answer.partition))
            .map(|answer| answer.answered - answer.sent.max(since));
        waits.max().unwrap_or_default()
    }
}

/// A workflow that waits for an hour.
fn patient() -> serde_json::Value {
    json!({"name": "patient", "nodes": [
        {"id": "start", "type": "start"},
        {"id": "rest", "type": "delay", "config": {"duration_ms": 3_600_000}},
        {"id": "end", "type": "end"},
    ], "edges": [{"source": "start", "target": "rest"}, {"source": "rest", "target": "end"}]})
}
