//! The wire forms: golden messages, and properties of what must cross byte for byte.

use super::*;
use domain::command::Command;
use domain::execution::command::ExecutionCommand;
use domain::ids::{Slot, new_id};
use domain::rejection::{Problem, RejectionKind};
use proptest::prelude::*;
use serde_json::json;

const LIMIT: usize = 1024 * 1024;

fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(number), number)
}

fn event(offset: u64, data: &[u8]) -> RecordedEvent {
    RecordedEvent {
        position: Position { partition: Partition(3), offset },
        stream: id(3),
        version: offset,
        tenant: TenantId::default_tenant(),
        event_type: "execution.warning".into(),
        schema_version: 1,
        id: id(offset),
        recorded_at: Timestamp::MAX,
        correlation_id: id(4),
        causation_id: id(5),
        actor: Actor::new("worker", "Zoë"),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        codec: Codec::Json,
        key_id: None,
        data: Bytes::copy_from_slice(data),
    }
}

fn batch(events: Vec<RecordedEvent>) -> CommittedBatch {
    let first_offset = events.first().map_or(8, |event| event.position.offset);
    CommittedBatch {
        partition: Partition(3),
        first_offset,
        events: events.into_iter().map(Arc::new).collect(),
    }
}

fn crossed(batch: &CommittedBatch, limit: usize) -> Vec<CommittedBatch> {
    let pieces = encode_batch(batch, limit);
    assert!(pieces.iter().all(|piece| piece.len() <= limit), "a message is larger than it may be");
    pieces.iter().map(|piece| decode_batch(piece).expect("a batch that decodes")).collect()
}

fn command(input: Value) -> CommandEnvelope {
    let command = Command::Execution(ExecutionCommand::Signal { name: "s".to_owned(), payload: input });
    CommandEnvelope {
        id: id(1),
        tenant: TenantId::default_tenant(),
        actor: Actor::system("test"),
        stream: id(2),
        correlation_id: id(3),
        causation_id: id(4),
        traceparent: None,
        digest: Some([7; 32]),
        command,
        authority: None,
    }
}

#[test]
fn a_batch_has_its_golden_form() {
    let pieces = encode_batch(&batch(vec![event(7, br#"{"b": 1,  "a":1.50}"#)]), LIMIT);
    assert_eq!(pieces.len(), 1);
    assert_eq!(
        std::str::from_utf8(&pieces[0]).expect("text"),
        r#"{"v":1,"body":{"partition":3,"first_offset":7,"events":[{"position":"3:7","stream":"01a1ee56-5e00-7003-8000-000000000003","version":7,"tenant":"default","type":"execution.warning","schema_version":1,"id":"01a1ee56-5e00-7007-8000-000000000007","recorded_at":"9999-12-31T23:59:59.999Z","correlation_id":"01a1ee56-5e00-7004-8000-000000000004","causation_id":"01a1ee56-5e00-7005-8000-000000000005","actor":"worker:Zoë","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","codec":0,"key_id":null,"data":{"b": 1,  "a":1.50}}]}}"#
    );
}

#[test]
fn a_sign_of_life_crosses_without_events() {
    let crossed = crossed(&batch(vec![]), LIMIT);
    assert_eq!((crossed.len(), crossed[0].first_offset, crossed[0].events.len()), (1, 8, 0));
}

#[test]
fn a_batch_that_is_too_large_is_cut_and_an_event_that_is_becomes_a_head() {
    let large = format!(r#""{}""#, "x".repeat(4_000));
    let events = (1..=6).map(|offset| match offset {
        3 => event(offset, large.as_bytes()),
        _ => event(offset, b"{}"),
    });
    let crossed = crossed(&batch(events.collect()), 1_400);
    let seen: Vec<_> = crossed.iter().map(|batch| (batch.first_offset, batch.events.len())).collect();
    assert_eq!(seen, [(1, 2), (4, 0), (4, 2), (6, 1)]);
}

#[test]
fn another_version_is_refused_with_its_number() {
    let error = decode_task(br#"{"v":2,"body":{}}"#).expect_err("another version");
    assert!(error.to_string().contains("wire version 2"), "{error}");
    assert!(decode_beat(b"not JSON").is_err());
}

#[test]
fn replies_cross_in_all_their_kinds() {
    let position = Some(Position { partition: Partition(1), offset: 9 });
    let done = CommandReply { answer: json!({"a": 1}), position, repeated: true };
    let read = decode_reply(&encode_reply(Ok(done.clone()), LIMIT)).expect("a reply");
    assert_eq!(read.expect("done"), done);
    let problem = Problem::new("/a", "unknown_field", "no such field");
    let rejection = Rejection::invalid("invalid_definition", "it has defects", vec![problem; 1_000]);
    let errors = [
        CommandError::Rejected(rejection.clone()),
        CommandError::DigestMismatch,
        CommandError::Overloaded,
        CommandError::NotOwner,
        CommandError::Unknown("why".into()),
    ];
    for error in errors {
        let read =
            decode_reply(&encode_reply(Err(error.clone()), LIMIT)).expect("a reply").expect_err("an error");
        assert_eq!(format!("{read:?}"), format!("{error:?}"));
    }
    let small = encode_reply(Err(CommandError::Rejected(rejection)), 1_000);
    assert!(small.len() <= 1_000);
    let read = decode_reply(&small).expect("a reply").expect_err("a rejection");
    assert!(matches!(read, CommandError::Rejected(Rejection { kind: RejectionKind::Invalid, .. })), "{read}");
}

#[test]
fn a_task_crosses_with_every_field() {
    let task = Task {
        task: TaskRef { execution: id(1), node: NodeRun { node_id: "a/b ü".into(), run: 2, attempt: 3 } },
        tenant: TenantId::default_tenant(),
        node_type: NodeType::HttpRequest,
        config: json!({"url": ["x", 1.5, null]}),
        deadline: Timestamp::MAX,
        heartbeat_timeout_ms: Some(1_500),
        correlation_id: id(2),
        causation_id: id(3),
        traceparent: Some("t".into()),
    };
    let read = decode_task(&encode_task(&task)).expect("a task");
    assert_eq!(format!("{read:?}"), format!("{task:?}"));
    let beat = Beat { task: task.task.clone(), worker: "w".into() };
    assert_eq!(decode_beat(&encode_beat(&beat)).expect("a beat"), beat);
    assert_eq!(decode_cancel(&encode_cancel(&task.task)).expect("a cancel"), task.task);
    assert_eq!(task_name(&task.task), format!("{}:2:3:a/b%20%C3%BC", id(1)));
}

#[test]
fn a_task_of_a_build_that_knew_no_heartbeat_timeout_is_read_without_one() {
    let old = format!(
        r#"{{"v":1,"body":{{"execution":"{0}","node":{{"node_id":"loop/3/a","run":2,"attempt":1}},"tenant":"default",
        "node_type":"http_request","config":null,"deadline":"2026-11-21T09:00:00.000Z","correlation_id":"{0}",
        "causation_id":"{0}","traceparent":null}}}}"#,
        id(1)
    );
    let read = decode_task(old.as_bytes()).expect("a task");
    assert_eq!((read.task.node.node_id.as_str(), read.heartbeat_timeout_ms), ("loop/3/a", None));
    let written = encode_task(&read);
    let written = std::str::from_utf8(&written).expect("JSON");
    assert!(!written.contains("heartbeat"), "{written}");
}

#[test]
fn a_command_with_a_deep_value_crosses() {
    let mut deep = json!(1);
    for _ in 0..96 {
        deep = json!([deep]);
    }
    let sent = command(deep);
    let read = decode_command(&encode_command(&sent)).expect("a command");
    assert_eq!(format!("{read:?}"), format!("{sent:?}"));
}

proptest! {
    #[test]
    fn the_data_of_an_event_crosses_byte_for_byte(data in prop_oneof![
        any::<Vec<u8>>(),
        any::<f64>().prop_map(|number| format!("{{\"n\":{number:e}}}").into_bytes()),
        "[ \t\n]*\\{[ \n]*\"[a-zé\u{1F600}]*\" *: *-?[0-9]{1,40}\\.[0-9]{1,40}[ \n]*\\}[ \n]*".prop_map(String::into_bytes),
    ], key in proptest::option::of("[a-z]{1,8}")) {
        let mut sent = event(7, &data);
        sent.key_id = key.map(Into::into);
        let read = crossed(&batch(vec![sent.clone()]), LIMIT);
        prop_assert_eq!(&*read[0].events[0], &sent);
    }

    #[test]
    fn numbers_in_a_command_cross_exactly(number in any::<f64>().prop_filter("finite", |n| n.is_finite()), whole in any::<i64>()) {
        let sent = command(json!({"number": number, "whole": whole}));
        let read = decode_command(&encode_command(&sent)).expect("a command");
        prop_assert_eq!(format!("{:?}", read), format!("{:?}", sent));
    }

    #[test]
    fn every_cut_of_a_batch_keeps_every_event_or_says_where_the_head_is(
        sizes in proptest::collection::vec(0usize..3_000, 1..20), limit in 900usize..4_000,
    ) {
        let events: Vec<_> = sizes.iter().enumerate()
            .map(|(index, size)| event(index as u64 + 1, format!("\"{}\"", "x".repeat(*size)).as_bytes())).collect();
        let mut expected = 1;
        for piece in crossed(&batch(events), limit) {
            prop_assert!(piece.first_offset >= expected);
            expected = piece.first_offset + piece.events.len() as u64;
        }
        prop_assert_eq!(expected, sizes.len() as u64 + 1);
    }
}
