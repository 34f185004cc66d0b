//! Lines of an export file: JSON, and what it stands for. `docs/transfer.md` describes them for others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use domain::blob::{Blob, BlobRef, hex};
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, TenantId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::error::Error;
use uuid::Uuid;

use super::record::{BlobRow, ClaimRow, CommandRow, CommitRow, Counts, PartitionRow, Record, WakeupRow};
use crate::verifiers::Verifier;

/// `format` of every export.
pub(crate) const FORMAT: &str = "everline-log";
/// `version` of the lines below.
pub(crate) const VERSION: u64 = 1;

type Text<'t> = Cow<'t, str>;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub(crate) format: String,
    pub(crate) version: u64,
    /// How many partitions the log has.
    pub partitions: u16,
    /// When it was exported.
    pub exported_at: Timestamp,
}

/// Every other line, without the checksum at its end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line<'l> {
    Partition(PartitionLine),
    #[serde(borrow)]
    Event(EventLine<'l>),
    Commit(CommitLine<'l>),
    Command(CommandLine<'l>),
    Claim(ClaimLine<'l>),
    Wakeup(WakeupLine<'l>),
    Blob(BlobLine<'l>),
    /// The next piece of a large value whose line says that there are pieces.
    Piece(Content<'l>),
    Verifier(VerifierLine<'l>),
    End(Counts),
}

/// Bytes: as text where they are UTF-8.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content<'l> {
    #[serde(borrow)]
    Text(Text<'l>),
    Base64(Text<'l>),
}

impl<'l> Content<'l> {
    /// As text, unless it is full of what must be escaped: no line is longer than three times what it holds.
    pub(crate) fn of(bytes: &'l [u8]) -> Self {
        // Any other character takes one byte more at most, a control character five.
        let controls = bytes.iter().filter(|byte| matches!(byte, 0..0x20)).count();
        match std::str::from_utf8(bytes) {
            Ok(text) if controls <= bytes.len() / 5 => Self::Text(text.into()),
            _ => Self::Base64(BASE64.encode(bytes).into()),
        }
    }

    pub(crate) fn into_bytes(self) -> Result<Bytes, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into()),
            Self::Base64(text) => Ok(BASE64.decode(text.as_bytes())?.into()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartitionLine {
    partition: Partition,
    epoch: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventLine<'l> {
    position: Position,
    stream: Uuid,
    version: u64,
    #[serde(borrow)]
    tenant: Text<'l>,
    #[serde(rename = "type", borrow)]
    event_type: Text<'l>,
    schema_version: u16,
    id: Uuid,
    recorded_at: i64,
    correlation_id: Uuid,
    causation_id: Uuid,
    #[serde(borrow)]
    actor: Text<'l>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    traceparent: Option<Text<'l>>,
    codec: i64,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    key_id: Option<Text<'l>>,
    #[serde(borrow)]
    data: Content<'l>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommitLine<'l> {
    partition: Partition,
    head: u64,
    epoch: u64,
    events: u64,
    #[serde(borrow)]
    merkle_root: Text<'l>,
    #[serde(borrow)]
    hash: Text<'l>,
    committed_at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandLine<'l> {
    command_id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    digest: Option<Text<'l>>,
    #[serde(borrow)]
    answer: Content<'l>,
    position: Position,
    day: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimLine<'l> {
    #[serde(borrow)]
    tenant: Text<'l>,
    #[serde(borrow)]
    kind: Text<'l>,
    #[serde(borrow)]
    key: Text<'l>,
    stream: Uuid,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WakeupLine<'l> {
    partition: Partition,
    due_at: i64,
    stream: Uuid,
    #[serde(borrow)]
    kind: Text<'l>,
    #[serde(borrow)]
    tenant: Text<'l>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlobLine<'l> {
    #[serde(borrow)]
    tenant: Text<'l>,
    #[serde(borrow)]
    sha256: Text<'l>,
    #[serde(borrow)]
    media_type: Text<'l>,
    bytes: u64,
    /// Absent where it comes in pieces.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    content: Option<Content<'l>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifierLine<'l> {
    #[serde(borrow)]
    kind: Text<'l>,
    #[serde(borrow)]
    lookup: Text<'l>,
    #[serde(borrow)]
    tenant: Text<'l>,
    #[serde(borrow)]
    principal: Text<'l>,
    #[serde(borrow)]
    name: Text<'l>,
    #[serde(borrow)]
    hash: Text<'l>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    family: Option<Uuid>,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_at: Option<i64>,
}

/// Without the lookup and hash: they must not reach a log.
impl std::fmt::Debug for VerifierLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifierLine").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a line stands for.
#[derive(Debug)]
pub(crate) enum Meaning {
    Record(Record),
    /// A large value whose content follows in pieces.
    BlobInPieces(BlobRow),
    Piece(Bytes),
    End(Counts),
}

impl<'l> Line<'l> {
    /// The line of a record. Of a large value longer than `piece` the content is left out.
    pub(crate) fn of(record: &'l Record, piece: usize) -> Self {
        match record {
            Record::Partition(row) => {
                Self::Partition(PartitionLine { partition: row.partition, epoch: row.epoch })
            }
            Record::Event(event) => Self::Event(event_line(event)),
            Record::Commit(row) => Self::Commit(CommitLine {
                partition: row.partition,
                head: row.head,
                epoch: row.epoch,
                events: row.events,
                merkle_root: hex(&row.root).into(),
                hash: hex(&row.hash).into(),
                committed_at: row.committed_at.unix_ms(),
            }),
            Record::Command(row) => Self::Command(CommandLine {
                command_id: row.command_id,
                digest: row.digest.map(|digest| hex(&digest).into()),
                answer: Content::of(&row.answer),
                position: row.position,
                day: row.day,
            }),
            Record::Claim(row) => Self::Claim(ClaimLine {
                tenant: (&row.tenant).into(),
                kind: (&row.kind).into(),
                key: (&row.key).into(),
                stream: row.stream,
            }),
            Record::Wakeup(row) => Self::Wakeup(WakeupLine {
                partition: row.partition,
                due_at: row.due_at,
                stream: row.stream,
                kind: (&row.kind).into(),
                tenant: (&row.tenant).into(),
            }),
            Record::Blob(BlobRow { tenant, blob: Blob { reference, content } }) => Self::Blob(BlobLine {
                tenant: tenant.into(),
                sha256: (&reference.sha256).into(),
                media_type: (&reference.media_type).into(),
                bytes: reference.bytes,
                content: (content.len() <= piece).then(|| Content::of(content)),
            }),
            Record::Verifier(verifier) => Self::Verifier(verifier_line(verifier)),
        }
    }

    /// What the line stands for.
    pub(crate) fn into_meaning(self) -> Result<Meaning, Box<dyn Error + Send + Sync>> {
        Ok(Meaning::Record(match self {
            Self::Partition(PartitionLine { partition, epoch }) => {
                Record::Partition(PartitionRow { partition, epoch })
            }
            Self::Event(line) => Record::Event(event(line)?),
            Self::Commit(line) => Record::Commit(CommitRow {
                partition: line.partition,
                head: line.head,
                epoch: line.epoch,
                events: line.events,
                root: unhex(&line.merkle_root)?,
                hash: unhex(&line.hash)?,
                committed_at: Timestamp::from_unix_ms(line.committed_at),
            }),
            Self::Command(line) => Record::Command(CommandRow {
                command_id: line.command_id,
                digest: line.digest.map(|digest| unhex(&digest)).transpose()?,
                answer: line.answer.into_bytes()?,
                position: line.position,
                day: line.day,
            }),
            Self::Claim(ClaimLine { tenant, kind, key, stream }) => Record::Claim(ClaimRow {
                tenant: tenant.into_owned(),
                kind: kind.into_owned(),
                key: key.into_owned(),
                stream,
            }),
            Self::Wakeup(line) => Record::Wakeup(WakeupRow {
                partition: line.partition,
                due_at: line.due_at,
                stream: line.stream,
                kind: line.kind.into_owned(),
                tenant: line.tenant.into_owned(),
            }),
            Self::Blob(line) => return blob(line),
            Self::Piece(content) => return Ok(Meaning::Piece(content.into_bytes()?)),
            Self::Verifier(line) => Record::Verifier(verifier(line)?),
            Self::End(counts) => return Ok(Meaning::End(counts)),
        }))
    }
}

fn event_line(event: &RecordedEvent) -> EventLine<'_> {
    EventLine {
        position: event.position,
        stream: event.stream,
        version: event.version,
        tenant: event.tenant.as_str().into(),
        event_type: (&*event.event_type).into(),
        schema_version: event.schema_version,
        id: event.id,
        recorded_at: event.recorded_at.unix_ms(),
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        actor: event.actor.as_str().into(),
        traceparent: event.traceparent.as_deref().map(Into::into),
        codec: event.codec.number(),
        key_id: event.key_id.as_deref().map(Into::into),
        data: Content::of(&event.data),
    }
}

fn event(line: EventLine<'_>) -> Result<RecordedEvent, Box<dyn Error + Send + Sync>> {
    Ok(RecordedEvent {
        position: line.position,
        stream: line.stream,
        version: line.version,
        tenant: TenantId::try_from(line.tenant.into_owned())?,
        event_type: RecordedEvent::interned_type(&line.event_type),
        schema_version: line.schema_version,
        id: line.id,
        recorded_at: Timestamp::from_unix_ms(line.recorded_at),
        correlation_id: line.correlation_id,
        causation_id: line.causation_id,
        actor: Actor::recorded(&line.actor),
        traceparent: line.traceparent.as_deref().map(Into::into),
        codec: Codec::from_number(line.codec).ok_or_else(|| format!("codec {} is not known", line.codec))?,
        key_id: line.key_id.as_deref().map(Into::into),
        data: line.data.into_bytes()?,
    })
}

fn blob(line: BlobLine<'_>) -> Result<Meaning, Box<dyn Error + Send + Sync>> {
    let reference = BlobRef {
        sha256: line.sha256.into_owned(),
        bytes: line.bytes,
        media_type: line.media_type.into_owned(),
    };
    let row = |content| BlobRow { tenant: line.tenant.into_owned(), blob: Blob { reference, content } };
    Ok(match line.content {
        Some(content) => Meaning::Record(Record::Blob(row(content.into_bytes()?))),
        None => Meaning::BlobInPieces(row(Bytes::new())),
    })
}

fn verifier_line(verifier: &Verifier) -> VerifierLine<'_> {
    VerifierLine {
        kind: verifier.kind.as_str().into(),
        lookup: (&verifier.lookup).into(),
        tenant: verifier.tenant.as_str().into(),
        principal: (&verifier.principal).into(),
        name: (&verifier.name).into(),
        hash: (&verifier.hash).into(),
        family: verifier.family,
        created_at: verifier.created_at.unix_ms(),
        expires_at: verifier.expires_at.map(Timestamp::unix_ms),
        used_at: verifier.used_at.map(Timestamp::unix_ms),
    }
}

fn verifier(line: VerifierLine<'_>) -> Result<Verifier, Box<dyn Error + Send + Sync>> {
    Ok(Verifier {
        kind: line.kind.parse()?,
        lookup: line.lookup.into_owned(),
        tenant: TenantId::try_from(line.tenant.into_owned())?,
        principal: line.principal.into_owned(),
        name: line.name.into_owned(),
        hash: line.hash.into_owned(),
        family: line.family,
        created_at: Timestamp::from_unix_ms(line.created_at),
        expires_at: line.expires_at.map(Timestamp::from_unix_ms),
        used_at: line.used_at.map(Timestamp::from_unix_ms),
    })
}

/// 32 bytes of lower-case hexadecimal.
fn unhex(text: &str) -> Result<[u8; 32], String> {
    let refuse = || "a hash is not 64 hexadecimal digits".to_owned();
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(refuse());
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| refuse())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_that_is_readable_and_come_back_in_any_case() {
        let control = vec![1; 10];
        for (bytes, is_text) in [
            (&b"{\"a\":1}"[..], true),
            ("größe und mehr\n\0".as_bytes(), true),
            (&[0xff], false),
            (&control, false),
            (b"", true),
        ] {
            let content = Content::of(bytes);
            assert_eq!(matches!(content, Content::Text(_)), is_text, "{bytes:?}");
            let json = serde_json::to_vec(&content).unwrap();
            let back: Content<'_> = serde_json::from_slice(&json).unwrap();
            assert_eq!(back.into_bytes().unwrap(), bytes);
        }
    }
}
