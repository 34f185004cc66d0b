//! `kill -9` at random, while executions with worker nodes run.
//!
//! Short by default; `EVERLINE_KILLS=50 EVERLINE_KILL_EXECUTIONS=500` is the full form.

use event_store::sqlite::{SqliteLog, SqliteOptions};
use read_models::ReadModels;
use std::path::Path;
use std::time::Duration;
use testkit::{EverlineProcess, HttpTarget};

use crate::endurance::{Chance, Insistent, Load, check_log, check_read_models, setting, workflow};

/// Executions that are started at the same time.
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    let kills = setting("EVERLINE_KILLS", 5);
    let executions = setting("EVERLINE_KILL_EXECUTIONS", 80);
    let mut chance = Chance::from_setting("EVERLINE_KILL_SEED");
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let folder = tempfile::tempdir().expect("a folder");
    let target = HttpTarget::start().await.expect("a target");
    let mut process = EverlineProcess::start(program, folder.path()).await.expect("a start");
    let client = Insistent::new(&process.url, &process.key);
    let workflow_id = client.create(&workflow(&target.url)).await;

    let load = Load::start(&client, &workflow_id, executions, CLIENTS);
    for _ in 0..kills {
        // Spread over the whole run: each kill meets its share of executions.
        load.allow(executions / kills);
        tokio::time::sleep(Duration::from_millis(chance.below(150))).await;
        process.kill().await.expect("killed");
        process = EverlineProcess::start(program, folder.path()).await.expect("a start after a kill");
        client.moved(&process.url, &process.key).await;
    }
    let acknowledged = load.finish().await;
    process.stop().await.expect("a graceful end");

    let log =
        SqliteLog::open(&folder.path().join("log.db"), SqliteOptions::default()).await.expect("the log");
    check_log(&log, &acknowledged).await;
    let models = ReadModels::open(folder.path().join("read-models.db")).await.expect("the read models");
    check_read_models(&log, &models).await;
    println!("{} calls reached the target for {} planned", target.calls(), executions * 3);
}
