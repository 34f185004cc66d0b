//! `kill -9` of any process at random, NATS and Postgres included, while executions with worker nodes run.

use std::time::Duration;
use test_services::{Durability, NatsVersion};
use testkit::{Cluster, ClusterOptions, HttpTarget};

use super::{check_what_is_left, start};
use crate::endurance::{Chance, Load, setting, workflow};

/// Executions that are started at the same time.
const CLIENTS: usize = 8;
/// A kill comes up to this long after its share of executions was let go.
const BEFORE_MS: u64 = 400;
/// What was killed stays away for up to this long.
const AWAY_MS: u64 = 1_500;

/// Whom a kill meets.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Member(usize),
    Nats,
    Postgres,
    /// All of them at once, as when the machine fails.
    Everything,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    let kills = setting("EVERLINE_CLUSTER_KILLS", 8);
    let executions = setting("EVERLINE_CLUSTER_EXECUTIONS", 64);
    let mut chance = Chance::from_setting("EVERLINE_CLUSTER_SEED");
    let nats = if chance.below(2) == 0 { NatsVersion::Old } else { NatsVersion::New };
    println!("{kills} kills, {executions} executions, NATS {nats:?}");
    let options = ClusterOptions { durability: Durability::Fsync, nats, ..ClusterOptions::default() };
    let (mut cluster, client) = start(options).await;
    let target = HttpTarget::start().await.expect("a target");
    let workflow = client.create(&workflow(&target.url)).await;

    let load = Load::start(&client, &workflow, executions, CLIENTS);
    let mut victims = Vec::new();
    for kill in 0..kills {
        load.allow(executions / kills);
        if victims.is_empty() {
            victims.extend((0..cluster.members().len()).map(Victim::Member));
            victims.extend([Victim::Nats, Victim::Postgres, Victim::Everything]);
            chance.shuffle(&mut victims);
        }
        let victim = victims.pop().expect("a victim");
        tokio::time::sleep(Duration::from_millis(chance.below(BEFORE_MS))).await;
        let away = Duration::from_millis(chance.below(AWAY_MS));
        println!("kill {kill}: {victim:?} for {away:?}, {} executions accepted", load.accepted());
        kill_and_start(&mut cluster, victim, away).await;
        cluster.ensure_all_alive().await.expect("nobody ends because another has");
    }
    let acknowledged = load.finish().await;
    assert_eq!(acknowledged.len(), executions);
    check_what_is_left(&mut cluster, &acknowledged).await;
    println!("{} calls reached the target for {} planned", target.calls(), executions * 3);
}

async fn kill_and_start(cluster: &mut Cluster, victim: Victim, away: Duration) {
    match victim {
        Victim::Member(member) => {
            cluster.kill(member).await.expect("killed");
            tokio::time::sleep(away).await;
            cluster.start_again(member).await.expect("a start after a kill");
        }
        Victim::Nats => {
            cluster.nats.kill().await.expect("killed");
            tokio::time::sleep(away).await;
            cluster.nats.start_again().await.expect("a start after a kill");
        }
        Victim::Postgres => {
            cluster.postgres.stop_immediately().await.expect("a crash");
            tokio::time::sleep(away).await;
            cluster.postgres.start_again().await.expect("a recovery");
        }
        Victim::Everything => {
            cluster.crash().await.expect("killed");
            tokio::time::sleep(away).await;
            cluster.start_after_crash().await.expect("a start after a crash");
        }
    }
}
