//! What crosses between processes: JSON with a version around it.
//!
//! Every message is `{"v": 1, "body": …}`. A process that meets a version which it does not know says so instead of
//! guessing: during a rolling upgrade the other side sends again or reads the log. The data of an event crosses byte
//! for byte, because it is what hashes and readers are held to: as it stands where it is JSON, else as base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

use domain::command::CommandEnvelope;
use domain::decision::NodeRun;
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, TenantId};
use domain::node_type::NodeType;
use domain::rejection::Rejection;
use domain::time::Timestamp;

use crate::commands::{CommandError, CommandReply};
use crate::feed::CommittedBatch;
use crate::tasks::{Beat, Task, TaskRef};

/// The version that this build writes, and the only one that it reads.
const VERSION: u32 = 1;

/// A message that this build cannot read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// Written by another version of Everline.
    #[error(
        "the message has wire version {0} and this Everline reads version {VERSION}; run the same version everywhere"
    )]
    Version(u32),
    /// Not what the version says.
    #[error("the message does not decode")]
    Malformed(#[from] serde_json::Error),
    /// The data of an event is not base64 where it should be, or has an unknown codec.
    #[error("the event {0} does not decode")]
    Event(Position),
}

#[derive(Serialize)]
struct SealedOut<T> {
    v: u32,
    body: T,
}

#[derive(Deserialize)]
struct SealedIn<'a> {
    v: u32,
    #[serde(borrow)]
    body: &'a RawValue,
}

fn seal<T: Serialize>(body: T) -> Bytes {
    let json = serde_json::to_vec(&SealedOut { v: VERSION, body });
    Bytes::from(json.expect("messages have string keys and finite numbers"))
}

fn open<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let sealed: SealedIn<'a> = serde_json::from_slice(bytes)?;
    if sealed.v != VERSION {
        return Err(WireError::Version(sealed.v));
    }
    Ok(serde_json::from_str(sealed.body.get())?)
}

/// A command to its owner.
pub(super) fn encode_command(command: &CommandEnvelope) -> Bytes {
    seal(command)
}

/// Reads [`encode_command`].
pub(super) fn decode_command(bytes: &[u8]) -> Result<CommandEnvelope, WireError> {
    open(bytes)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireReply {
    Done { answer: Value, position: Option<Position>, repeated: bool },
    Rejected(Rejection),
    DigestMismatch,
    Overloaded,
    NotOwner,
    Unknown(Arc<str>),
}

/// What a command's sender is told, in at most `limit` bytes: a rejection that is larger loses its single problems.
pub(super) fn encode_reply(reply: Result<CommandReply, CommandError>, limit: usize) -> Bytes {
    let wire = match reply {
        Ok(CommandReply { answer, position, repeated }) => WireReply::Done { answer, position, repeated },
        Err(CommandError::Rejected(rejection)) => WireReply::Rejected(rejection),
        Err(CommandError::DigestMismatch) => WireReply::DigestMismatch,
        Err(CommandError::Overloaded) => WireReply::Overloaded,
        Err(CommandError::NotOwner) => WireReply::NotOwner,
        Err(CommandError::Unknown(reason)) => WireReply::Unknown(reason),
    };
    let bytes = seal(&wire);
    if bytes.len() <= limit {
        return bytes;
    }
    match wire {
        WireReply::Rejected(mut rejection) => {
            rejection.problems.clear();
            rejection.detail.truncate(rejection.detail.floor_char_boundary(4_096));
            seal(WireReply::Rejected(rejection))
        }
        _ => seal(WireReply::Unknown("the answer is larger than a message of NATS may be".into())),
    }
}

/// Reads [`encode_reply`].
pub(super) fn decode_reply(bytes: &[u8]) -> Result<Result<CommandReply, CommandError>, WireError> {
    Ok(match open(bytes)? {
        WireReply::Done { answer, position, repeated } => Ok(CommandReply { answer, position, repeated }),
        WireReply::Rejected(rejection) => Err(CommandError::Rejected(rejection)),
        WireReply::DigestMismatch => Err(CommandError::DigestMismatch),
        WireReply::Overloaded => Err(CommandError::Overloaded),
        WireReply::NotOwner => Err(CommandError::NotOwner),
        WireReply::Unknown(reason) => Err(CommandError::Unknown(reason)),
    })
}

#[derive(Serialize)]
struct TaskOut<'a> {
    execution: Uuid,
    node: &'a NodeRun,
    tenant: &'a TenantId,
    node_type: NodeType,
    config: &'a Value,
    deadline: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_timeout_ms: Option<u64>,
    correlation_id: Uuid,
    causation_id: Uuid,
    traceparent: &'a Option<Arc<str>>,
}

#[derive(Deserialize)]
struct TaskIn {
    execution: Uuid,
    node: NodeRun,
    tenant: TenantId,
    node_type: NodeType,
    config: Value,
    deadline: Timestamp,
    /// Absent in tasks of Everline before it knew such a time.
    #[serde(default)]
    heartbeat_timeout_ms: Option<u64>,
    correlation_id: Uuid,
    causation_id: Uuid,
    traceparent: Option<Arc<str>>,
}

/// A task to a worker.
pub(super) fn encode_task(task: &Task) -> Bytes {
    seal(TaskOut {
        execution: task.task.execution,
        node: &task.task.node,
        tenant: &task.tenant,
        node_type: task.node_type,
        config: &task.config,
        deadline: task.deadline,
        heartbeat_timeout_ms: task.heartbeat_timeout_ms,
        correlation_id: task.correlation_id,
        causation_id: task.causation_id,
        traceparent: &task.traceparent,
    })
}

/// Reads [`encode_task`].
pub(super) fn decode_task(bytes: &[u8]) -> Result<Task, WireError> {
    let task: TaskIn = open(bytes)?;
    Ok(Task {
        task: TaskRef { execution: task.execution, node: task.node },
        tenant: task.tenant,
        node_type: task.node_type,
        config: task.config,
        deadline: task.deadline,
        heartbeat_timeout_ms: task.heartbeat_timeout_ms,
        correlation_id: task.correlation_id,
        causation_id: task.causation_id,
        traceparent: task.traceparent,
    })
}

#[derive(Serialize, Deserialize)]
struct WireBeat {
    execution: Uuid,
    node: NodeRun,
    /// Absent in a request to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<Arc<str>>,
}

/// A worker's sign of life.
pub(super) fn encode_beat(beat: &Beat) -> Bytes {
    let node = beat.task.node.clone();
    seal(WireBeat { execution: beat.task.execution, node, worker: Some(beat.worker.clone()) })
}

/// Reads [`encode_beat`].
pub(super) fn decode_beat(bytes: &[u8]) -> Result<Beat, WireError> {
    let beat: WireBeat = open(bytes)?;
    let task = TaskRef { execution: beat.execution, node: beat.node };
    Ok(Beat { task, worker: beat.worker.unwrap_or_else(|| "".into()) })
}

/// A request to stop.
pub(super) fn encode_cancel(task: &TaskRef) -> Bytes {
    seal(WireBeat { execution: task.execution, node: task.node.clone(), worker: None })
}

/// Reads [`encode_cancel`].
pub(super) fn decode_cancel(bytes: &[u8]) -> Result<TaskRef, WireError> {
    let beat: WireBeat = open(bytes)?;
    Ok(TaskRef { execution: beat.execution, node: beat.node })
}

/// A task's name in a header: the same for the same attempt, and nothing but visible ASCII.
pub(super) fn task_name(task: &TaskRef) -> String {
    let NodeRun { node_id, run, attempt } = &task.node;
    format!("{}:{run}:{attempt}:{}", task.execution, visible(node_id))
}

/// Text as a header may hold it: what is not visible ASCII is percent-encoded, and so are `"` and `%`, as the HTTP
/// binding of CloudEvents does it.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match plain(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    Cow::Owned(encoded)
}

#[derive(Serialize, Deserialize)]
struct WireEvent<'a> {
    position: Position,
    stream: Uuid,
    version: u64,
    tenant: TenantId,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    schema_version: u16,
    id: Uuid,
    recorded_at: Timestamp,
    correlation_id: Uuid,
    causation_id: Uuid,
    actor: Actor,
    traceparent: Option<Arc<str>>,
    codec: i64,
    key_id: Option<Arc<str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// Data that can cross as it stands. JSON with space around it cannot: the reader would lose that.
fn as_it_stands(event: &RecordedEvent) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_slice(&event.data).ok()?;
    (raw.get().len() == event.data.len()).then_some(raw)
}

fn encode_event(event: &RecordedEvent) -> Vec<u8> {
    let data = as_it_stands(event);
    let wire = WireEvent {
        position: event.position,
        stream: event.stream,
        version: event.version,
        tenant: event.tenant.clone(),
        event_type: Cow::Borrowed(&event.event_type),
        schema_version: event.schema_version,
        id: event.id,
        recorded_at: event.recorded_at,
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        actor: event.actor.clone(),
        traceparent: event.traceparent.clone(),
        codec: event.codec.number(),
        key_id: event.key_id.clone(),
        data,
        data_base64: data.is_none().then(|| BASE64.encode(&event.data)),
    };
    serde_json::to_vec(&wire).expect("an event has string keys and finite numbers")
}

fn recorded(wire: WireEvent<'_>) -> Result<RecordedEvent, WireError> {
    let position = wire.position;
    let data = match (wire.data, wire.data_base64) {
        (Some(raw), None) => Bytes::copy_from_slice(raw.get().as_bytes()),
        (None, Some(text)) => BASE64.decode(text).map_err(|_| WireError::Event(position))?.into(),
        _ => return Err(WireError::Event(position)),
    };
    Ok(RecordedEvent {
        position,
        stream: wire.stream,
        version: wire.version,
        tenant: wire.tenant,
        event_type: RecordedEvent::interned_type(&wire.event_type),
        schema_version: wire.schema_version,
        id: wire.id,
        recorded_at: wire.recorded_at,
        correlation_id: wire.correlation_id,
        causation_id: wire.causation_id,
        actor: wire.actor,
        traceparent: wire.traceparent,
        codec: Codec::from_number(wire.codec).ok_or(WireError::Event(position))?,
        key_id: wire.key_id,
        data,
    })
}

#[derive(Deserialize)]
struct WireBatch<'a> {
    partition: Partition,
    first_offset: u64,
    #[serde(borrow)]
    events: Vec<WireEvent<'a>>,
}

/// A committed batch as messages of at most `limit` bytes each: cut between events where it is larger. An event that is
/// too large by itself becomes a batch without events, which says that the partition reaches behind it.
pub(super) fn encode_batch(batch: &CommittedBatch, limit: usize) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(1);
    let mut piece = Piece::new(batch.partition, batch.first_offset);
    for event in &batch.events {
        let offset = event.position.offset;
        let json = encode_event(event);
        if piece.count > 0 && !piece.has_room(json.len(), limit) {
            pieces.push(std::mem::replace(&mut piece, Piece::new(batch.partition, offset)).finish());
        }
        if piece.has_room(json.len(), limit) {
            piece.push(&json);
        } else {
            pieces.push(Piece::new(batch.partition, offset + 1).finish());
            piece = Piece::new(batch.partition, offset + 1);
        }
    }
    if piece.count > 0 || batch.events.is_empty() {
        pieces.push(piece.finish());
    }
    pieces
}

/// A message of the feed while it is put together.
struct Piece {
    json: Vec<u8>,
    count: usize,
}

impl Piece {
    const END: &'static [u8] = b"]}}";

    fn new(partition: Partition, first_offset: u64) -> Self {
        let head = format!(
            r#"{{"v":{VERSION},"body":{{"partition":{partition},"first_offset":{first_offset},"events":["#
        );
        Self { json: head.into_bytes(), count: 0 }
    }

    fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.json.len() + 1 + bytes + Self::END.len() <= limit
    }

    fn push(&mut self, event: &[u8]) {
        if self.count > 0 {
            self.json.push(b',');
        }
        self.json.extend_from_slice(event);
        self.count += 1;
    }

    fn finish(mut self) -> Bytes {
        self.json.extend_from_slice(Self::END);
        self.json.into()
    }
}

/// Reads one message of [`encode_batch`].
pub(super) fn decode_batch(bytes: &[u8]) -> Result<CommittedBatch, WireError> {
    let batch: WireBatch<'_> = open(bytes)?;
    let events = batch.events.into_iter().map(|event| recorded(event).map(Arc::new));
    Ok(CommittedBatch {
        partition: batch.partition,
        first_offset: batch.first_offset,
        events: events.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests;
