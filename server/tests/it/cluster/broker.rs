//! NATS loses what it has stored, wholly or in part. Truth is the log: nothing is stuck, and everything is published again.

use std::path::{Path, PathBuf};
use std::time::Duration;
use test_services::NatsVersion;
use testkit::{Cluster, ClusterOptions, HttpTarget, Published};

use super::{CATCH_UP, check_what_is_left, start};
use crate::endurance::{Load, setting, workflow};

/// Executions of each part of a test.
const SHARE: usize = 20;
/// Executions that are started at the same time.
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_nats_that_comes_back_empty_is_given_everything_again() {
    comes_back_empty(NatsVersion::Old).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_nats_that_comes_back_empty_is_given_everything_again() {
    comes_back_empty(NatsVersion::New).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_nats_whose_stream_was_cut_short_is_given_the_rest_again() {
    is_cut_short(NatsVersion::Old).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_nats_whose_stream_was_cut_short_is_given_the_rest_again() {
    is_cut_short(NatsVersion::New).await;
}

async fn comes_back_empty(nats: NatsVersion) {
    let down = Duration::from_secs(setting("EVERLINE_CLUSTER_BROKER_DOWN_SECONDS", 3) as u64);
    let (mut cluster, client) = start(ClusterOptions { nats, ..ClusterOptions::default() }).await;
    let target = HttpTarget::start().await.expect("a target");
    let workflow = client.create(&workflow(&target.url)).await;
    let load = Load::start(&client, &workflow, 3 * SHARE, CLIENTS);
    load.allow(SHARE);
    until(|| load.accepted() >= SHARE / 2).await;
    cluster.nats.kill().await.expect("killed");
    cluster.nats.wipe_store().await.expect("wiped");
    load.allow(SHARE);
    tokio::time::sleep(down).await;
    cluster.nats.start_again().await.expect("a start");
    let acknowledged = load.finish().await;
    check_what_is_left(&mut cluster, &acknowledged).await;
}

async fn is_cut_short(nats: NatsVersion) {
    let (mut cluster, client) = start(ClusterOptions { nats, ..ClusterOptions::default() }).await;
    let target = HttpTarget::start().await.expect("a target");
    let workflow = client.create(&workflow(&target.url)).await;
    let load = Load::start(&client, &workflow, 2 * SHARE, CLIENTS);
    load.allow(SHARE);
    until(|| load.accepted() >= SHARE).await;
    published(&cluster).await;
    cluster.nats.kill().await.expect("killed");
    let block = last_block(&cluster.nats.store_folder());
    let bytes = std::fs::metadata(&block).expect("a block").len();
    // Not where a message ends: the last of the rest is torn.
    std::fs::File::options()
        .write(true)
        .open(&block)
        .and_then(|file| file.set_len(bytes / 2 + 7))
        .expect("cut");
    println!("{} cut from {bytes} to {} bytes", block.display(), bytes / 2 + 7);
    cluster.nats.start_again().await.expect("a start");
    if nats == NatsVersion::New {
        // Without anything new that would make the relay look.
        published(&cluster).await;
    }
    let acknowledged = load.finish().await;
    check_what_is_left(&mut cluster, &acknowledged).await;
}

/// Waits until every event of the log is published.
async fn published(cluster: &Cluster) {
    let store = cluster.store().await.expect("the store");
    let complete = Published::until_complete(&cluster.nats.url(), &*store.reader, CATCH_UP).await;
    complete.expect("every event is published");
    store.health.close().await;
}

async fn until(reached: impl Fn() -> bool) {
    let waiting = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(CATCH_UP, waiting).await.expect("the load goes on");
}

/// The newest block of the events' stream.
fn last_block(store: &Path) -> PathBuf {
    let folder = store.join("$G/streams/EVERLINE_EVENTS/msgs");
    let blocks = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    blocks
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "blk"))
        .max_by_key(number)
        .expect("a block")
}
