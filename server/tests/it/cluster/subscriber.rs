//! The example subscriber, killed and started again: every event once and in order per partition, whatever it missed.

use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::{Cluster, ClusterOptions, HttpTarget};
use tokio::process::{Child, Command};

use super::{CATCH_UP, check_what_is_left, start};
use crate::endurance::{Chance, Load, setting, workflow};

/// Executions per life of the subscriber.
const SHARE: usize = 16;
/// Executions that are started at the same time.
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_in_python_gets_every_event_once_and_in_order_through_kills_of_its_own() {
    let kills = setting("EVERLINE_CLUSTER_SUBSCRIBER_KILLS", 5);
    let mut chance = Chance::from_setting("EVERLINE_CLUSTER_SEED");
    let (mut cluster, client) = start(ClusterOptions::default()).await;
    let target = HttpTarget::start().await.expect("a target");
    let workflow = client.create(&workflow(&target.url)).await;
    let file = cluster.folder().join("events.jsonl");

    let load = Load::start(&client, &workflow, (kills + 1) * SHARE, CLIENTS);
    for _ in 0..kills {
        let mut subscriber = subscribe(&cluster, &file);
        load.allow(SHARE);
        let enough = lines(&file).len() + 1 + chance.below(100) as usize;
        until_lines(&file, enough).await;
        assert_eq!(subscriber.try_wait().expect("a child"), None, "it ended by itself");
        subscriber.kill().await.expect("killed");
        println!("killed after {} lines", lines(&file).len());
    }
    let mut subscriber = subscribe(&cluster, &file);
    let acknowledged = load.finish().await;
    until_complete(&cluster, &file).await;
    assert_eq!(subscriber.try_wait().expect("a child"), None, "it ended by itself");
    subscriber.kill().await.expect("killed");
    check_what_is_left(&mut cluster, &acknowledged).await;
}

fn subscribe(cluster: &Cluster, file: &Path) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/subscriber/subscriber.py");
    let said = cluster.folder().join("subscriber.log");
    let said = std::fs::File::options().create(true).append(true).open(said).expect("a log");
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", crate::clients::python_path()).arg(script).arg(file);
    command.args(["--nats", &cluster.nats.url(), "--subject", "everline.evt.>", "--ack-wait", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).kill_on_drop(true);
    command.spawn().expect("python3")
}

/// Waits until the subscriber is in the middle of its work.
async fn until_lines(file: &Path, enough: usize) {
    let begun = Instant::now();
    while lines(file).len() < enough {
        assert!(begun.elapsed() < CATCH_UP, "the subscriber gets no further than {}", lines(file).len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The whole lines of the subscriber's file.
fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Waits until the file has the events of the log, each once, and those of a partition in order.
async fn until_complete(cluster: &Cluster, file: &Path) {
    let store = cluster.store().await.expect("the store");
    let begun = Instant::now();
    loop {
        let events = lines(file);
        let (mut ids, mut reached) = (HashSet::new(), BTreeMap::<u16, u64>::new());
        for event in &events {
            assert!(ids.insert(event["id"].to_string()), "twice: {event}");
            let (partition, offset) = event["position"].as_str().unwrap().split_once(':').unwrap();
            let last = reached.entry(partition.parse().unwrap()).or_default();
            *last += 1;
            assert_eq!(offset.parse::<u64>().unwrap(), *last, "in partition {partition}: {event}");
        }
        let heads = store.reader.heads().await.expect("heads");
        let behind =
            heads.iter().find(|head| reached.get(&head.partition.0).copied().unwrap_or(0) < head.offset);
        let Some(behind) = behind else { break };
        assert!(begun.elapsed() < CATCH_UP, "{} events, and none at {behind:?}", events.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    store.health.close().await;
}
