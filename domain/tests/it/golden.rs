//! Stored event JSON never changes: one file per type and version that is never edited.

use domain::event::{CATALOGUE, Event, ExecutionEvent};
use serde_json::Value;
use std::path::PathBuf;

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
