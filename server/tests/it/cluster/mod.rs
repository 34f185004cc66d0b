//! The cluster: services that may die, on a Postgres and a NATS that may die, too.
//!
//! Real processes of the program, one a role, each test with its own Postgres and nats-server. Short by default; the full
//! forms by environment variables:
//!
//! | test | variables of its full form |
//! |---|---|
//! | [`kills`] | `EVERLINE_CLUSTER_KILLS=100 EVERLINE_CLUSTER_EXECUTIONS=1000`; `EVERLINE_CLUSTER_SEED` repeats a run |
//! | [`broker`] | `EVERLINE_CLUSTER_BROKER_DOWN_SECONDS=30` |
//! | [`fencing`] | `EVERLINE_CLUSTER_PAUSE_SECONDS=60 EVERLINE_CLUSTER_PAUSES=50` |
//! | [`long_transactions`] | `EVERLINE_CLUSTER_HOLD_SECONDS=600` |
//! | [`subscriber`] | `EVERLINE_CLUSTER_SUBSCRIBER_KILLS=50` |

mod broker;
mod fencing;
mod gateways;
mod kills;
mod long_transactions;
mod replicas;
mod same_results;
mod subscriber;

use event_store::LogReader;
use read_models::{MAIN_PROJECTION, ReadModels};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::{Cluster, ClusterOptions, Published};

use crate::endurance::{Insistent, check_log, check_read_models};

/// How long readers may take to reach the end of a log that nobody writes any more.
const CATCH_UP: Duration = Duration::from_secs(60);

/// A running cluster and a client of its first gateway.
async fn start(options: ClusterOptions) -> (Cluster, Insistent) {
    crate::harness::install_tls();
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let cluster = Cluster::start(program, options).await.expect("a cluster");
    let client = Insistent::new(&cluster.url(), cluster.key());
    (cluster, client)
}

/// Waits until the read models have every event of the log.
async fn caught_up(log: &dyn LogReader, models: &ReadModels) {
    let begun = Instant::now();
    loop {
        let reached: HashMap<_, _> =
            models.checkpoints(MAIN_PROJECTION).await.expect("checkpoints").into_iter().collect();
        let heads = log.heads().await.expect("heads");
        let behind = heads
            .iter()
            .find(|head| head.offset > 0 && reached.get(&head.partition).copied().unwrap_or(0) < head.offset);
        let Some(behind) = behind else { return };
        assert!(begun.elapsed() < CATCH_UP, "the read models stay behind {behind:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What must be true at the end of every test: every process is well and ends well, `EVERLINE_EVENTS` has every event of
/// the log and in order, the log is sound and has what was acknowledged, and the read models equal a rebuild.
async fn check_what_is_left(cluster: &mut Cluster, acknowledged: &HashMap<usize, String>) {
    cluster.ensure_all_alive().await.expect("nothing ends by itself");
    let store = cluster.store().await.expect("the store");
    let models = cluster.read_models().await.expect("the read models");
    let published = Published::until_complete(&cluster.nats.url(), &*store.reader, CATCH_UP).await;
    let published = published.expect("every event is published");
    published.ensure_in_order().expect("in order");
    caught_up(&*store.reader, &models).await;
    cluster.stop_all().await.expect("graceful ends");
    check_log(&*store.reader, acknowledged).await;
    check_read_models(&*store.reader, &models).await;
    println!("{} events in {} messages", published.ids.len(), published.messages);
    models.close().await;
    store.health.close().await;
}
