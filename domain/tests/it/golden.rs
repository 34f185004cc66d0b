//! Stored event JSON never changes: one file per type and version that is never edited.

use domain::event::{CATALOGUE, Event, ExecutionEvent, WorkflowEvent};
use domain::execution::event::{EndNotice, WaitMode};
use serde_json::Value;
use sha2::Digest;
use std::path::PathBuf;

/// The versions that are no longer written, with the SHA-256 of their files.
const RELEASED: &[(&str, u16, &str)] = &[
    ("execution.started", 1, "bb5f2ebf4454ffd88bd47ecb346bb3e7859ae3d9a61f647881256b2c53256d0c"),
    ("execution.started", 2, "38ce2a05be890e558e06452c3919651520dfda232f4f02bd8102f903d1998708"),
    ("execution.node.scheduled", 1, "983a7b31a7b9ccfc4f10556c17ddf7d095d3c41bb3f4798c4d8a6accb67a8f29"),
    ("execution.node.started", 1, "caf7ec495f00d056f6f66cd6c5dfce13490df4b5d1ed35197e157d7b1f986b21"),
    ("execution.node.waiting", 1, "0e81718fb2ce9d2f5a481165fc30ffa71a5204aa95c922c73ce4fa491089b375"),
    ("execution.node.cancelled", 1, "722ac9f38dda9fe352864b7896b37e113f92ec7130db66c36bee57d99740f4e1"),
    ("execution.completed", 1, "19c8ffea578447e158c88153b3126ca83e7b87fae18c2f41063fdeeed27e4f8f"),
    ("execution.failed", 1, "9e4e067f52c188265bdc2c64fc4fdd278abb707c729c6537e9d9319d0c693229"),
    ("execution.cancelled", 1, "b380514e27972788dd620c6e031257547d480da80e4e872f2062cfb4a0bbe816"),
    ("execution.started", 3, "4aa07e9002fbb6cf464beee183ad636cd1351abc449862430cdd4bbcfe7592c2"),
    ("execution.forked", 1, "bf3eb86d3cb564d92472f7744bb47c3fa38a07a58680cc301586f1b6dbd78fc6"),
    ("execution.child.started", 1, "5f9c529c94a0fd464b61086c90641b2e0b117267e03a69c1a1076843a3407b86"),
    ("workflow.created", 1, "b34d5dd1d6e2052b3107a0e48caa456d05e2c825fc7cdc310aa14a1ba7d5d469"),
];

fn file(event_type: &str, version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{event_type}.{version}.json"))
}

fn stored(event_type: &str, version: u16) -> Vec<u8> {
    let path = file(event_type, version);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_version_of_every_event_type_has_a_golden_file_that_decodes() {
    for entry in CATALOGUE {
        for version in 1..=entry.schema_version {
            let data = stored(entry.event_type, version);
            let event = Event::decode(entry.event_type, version, &data)
                .unwrap_or_else(|error| panic!("{} version {version}: {error:?}", entry.event_type));
            assert_eq!(event.event_type(), entry.event_type);
        }
    }
}

#[test]
fn todays_version_is_written_as_its_golden_file_says() {
    for entry in CATALOGUE {
        let data = stored(entry.event_type, entry.schema_version);
        let event = Event::decode(entry.event_type, entry.schema_version, &data).expect("decodes");
        let written: Value = serde_json::from_slice(&event.encode()).expect("JSON");
        let golden: Value = serde_json::from_slice(&data).expect("JSON");
        assert_eq!(written, golden, "{}", entry.event_type);
    }
}

#[test]
fn a_start_written_before_priorities_reads_as_one_with_the_default_priority() {
    let event = Event::decode("execution.started", 1, &stored("execution.started", 1)).expect("decodes");
    let Event::Execution(ExecutionEvent::Started(started)) = event else { panic!("{event:?}") };
    assert_eq!(started.priority, 5);
    assert_eq!(started.trigger.kind, "api");
    assert!(started.attributes.is_empty());
}

#[test]
fn an_event_of_a_newer_version_is_refused_instead_of_misread() {
    assert!(Event::decode("execution.started", 99, b"{}").is_err());
    assert!(Event::decode("execution.imagined", 1, b"{}").is_err());
}

#[test]
fn events_written_before_sub_workflows_lanes_and_waits_read_as_events_without_them() {
    let decode =
        |event_type: &str, version| match Event::decode(event_type, version, &stored(event_type, version)) {
            Ok(Event::Execution(event)) => event,
            other => panic!("{other:?}"),
        };
    let ExecutionEvent::Started(started) = decode("execution.started", 2) else { panic!() };
    assert_eq!((started.parent, started.priority), (None, 5));
    let ExecutionEvent::NodeScheduled(scheduled) = decode("execution.node.scheduled", 1) else { panic!() };
    assert_eq!(scheduled.heartbeat_timeout_ms, None);
    let ExecutionEvent::NodeStarted(started) = decode("execution.node.started", 1) else { panic!() };
    assert_eq!((started.worker.as_deref(), started.items, started.count), (Some("worker-1"), None, None));
    let ExecutionEvent::NodeWaiting(waiting) = decode("execution.node.waiting", 1) else { panic!() };
    assert!(waiting.conditions.is_empty() && waiting.mode == WaitMode::One);
    let ExecutionEvent::NodeCancelled(cancelled) = decode("execution.node.cancelled", 1) else { panic!() };
    assert_eq!(cancelled.child, None);
    let ExecutionEvent::Completed(completed) = decode("execution.completed", 1) else { panic!() };
    let ExecutionEvent::Failed(failed) = decode("execution.failed", 1) else { panic!() };
    let ExecutionEvent::Cancelled(cancelled) = decode("execution.cancelled", 1) else { panic!() };
    for notice in [completed.notice, failed.notice, cancelled.notice] {
        assert_eq!(notice, EndNotice::default());
    }
}

#[test]
fn events_written_before_owners_read_as_events_of_things_that_belong_to_nobody() {
    let decode = |event_type: &str, version| {
        Event::decode(event_type, version, &stored(event_type, version)).expect("decodes")
    };
    let Event::Execution(ExecutionEvent::Started(started)) = decode("execution.started", 3) else { panic!() };
    let Event::Execution(ExecutionEvent::Forked(forked)) = decode("execution.forked", 1) else { panic!() };
    let Event::Execution(ExecutionEvent::ChildStarted(child)) = decode("execution.child.started", 1) else {
        panic!()
    };
    let Event::Workflow(WorkflowEvent::Created(created)) = decode("workflow.created", 1) else { panic!() };
    assert_eq!((started.owner, forked.owner, child.owner, created.owner), (None, None, None, None));
}

/// Files of versions that were once released: a change to any byte of one is a change to somebody's log.
#[test]
fn golden_files_of_raised_versions_are_as_they_were_first_written() {
    for (event_type, version, sha256) in RELEASED {
        let digest = sha2::Sha256::digest(stored(event_type, *version));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex, sha256, "{event_type} version {version}");
    }
}
