//! One concurrency key under `kill -9` at random: never more executions at once than it allows, none lost, none stuck.
//!
//! Short by default; `EVERLINE_LANE_EXECUTIONS=2000 EVERLINE_LANE_KILLS=60` is the full form.

use domain::event::{Event, LaneEvent};
use domain::ids::TenantId;
use domain::lane::{LaneState, evolve, stream_of};
use event_store::LogReader;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use testkit::{EverlineProcess, HttpTarget};
use uuid::Uuid;

use crate::endurance::{Chance, Insistent, Load, check_log, setting, workflow};

/// Executions that are started at the same time.
const CLIENTS: usize = 8;
/// Executions that may run at the same time.
const LIMIT: u32 = 3;
/// Events read from the log at a time.
const PAGE: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_a_concurrency_key_is_never_exceeded_and_nobody_is_lost_or_stuck() {
    let kills = setting("EVERLINE_LANE_KILLS", 5);
    let executions = setting("EVERLINE_LANE_EXECUTIONS", 60);
    let mut chance = Chance::from_setting("EVERLINE_LANE_SEED");
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let folder = tempfile::tempdir().expect("a folder");
    let target = HttpTarget::start().await.expect("a target");
    let mut process = EverlineProcess::start(program, folder.path()).await.expect("a start");
    let client = Insistent::new(&process.url, &process.key);
    let mut definition = workflow(&target.url);
    definition["concurrency"] = json!({"key": "all", "limit": LIMIT});
    let workflow_id = client.create(&definition).await;

    let load = Load::start(&client, &workflow_id, executions, CLIENTS);
    // All at once: what is killed is a lane with a long queue.
    load.allow(executions);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(chance.below(600))).await;
        process.kill().await.expect("killed");
        process = EverlineProcess::start(program, folder.path()).await.expect("a start after a kill");
        client.moved(&process.url, &process.key).await;
    }
    let acknowledged = load.finish().await;
    process.stop().await.expect("a graceful end");

    let log =
        SqliteLog::open(&folder.path().join("log.db"), SqliteOptions::default()).await.expect("the log");
    check_log(&log, &acknowledged).await;
    let workflow_id = workflow_id.parse().expect("an id");
    let (granted, state) = fold(&log, stream_of(&TenantId::default_tenant(), workflow_id, "all")).await;
    let all: BTreeSet<Uuid> = acknowledged.values().map(|id| id.parse().expect("an id")).collect();
    assert_eq!(granted, all, "each has had a slot");
    assert!(state.waiting.is_empty(), "somebody waits: {:?}", state.waiting);
    // The last ones may have ended so shortly before the process that the lane was not told.
    for holder in state.holders.keys() {
        let last = log.read_stream(*holder, 0, PAGE).await.expect("events").pop().expect("an event");
        assert_eq!(last.event_type, "execution.completed", "a slot is held by one that runs");
    }
}

/// A lane's log: at every grant there was room, and nobody had a slot twice. Who had one, and what is left.
async fn fold(log: &dyn LogReader, lane: Uuid) -> (BTreeSet<Uuid>, LaneState) {
    let (mut state, mut granted) = (LaneState::default(), BTreeSet::new());
    loop {
        let page = log.read_stream(lane, state.version, PAGE).await.expect("a page");
        for recorded in &page {
            let Ok(Event::Lane(event)) = recorded.decode() else { panic!("{recorded:?}") };
            state = evolve(state, &event);
            if let LaneEvent::Granted(e) = event {
                assert!(state.holders.len() <= LIMIT as usize, "{} at once", state.holders.len());
                assert!(granted.insert(e.execution_id), "{} has had two slots", e.execution_id);
            }
        }
        if page.len() < PAGE {
            return (granted, state);
        }
    }
}
