//! The hash chain: what it covers, byte for byte. Pure functions; who stores and reads is `sqlite`'s matter.
//!
//! ```text
//!   event ──canonical bytes──► leaf hash ─┐
//!   event ──canonical bytes──► leaf hash ─┴─ Merkle root ─┐
//!                              hash of the commit before ─┴─► hash of the commit ─► …
//! ```
//!
//! Per partition: each commit's hash covers the one before and the Merkle root of its own events, so that an
//! inclusion proof shows one event and nothing of the others. The hash covers `data` as stored (ciphertext,
//! when a key is named), so erasing a key never breaks it.
//!
//! The hashes and tree are those of RFC 6962, section 2.1: a leaf is `SHA-256(0x00 ‖ bytes)`, a node
//! `SHA-256(0x01 ‖ left ‖ right)`; a commit is `SHA-256(0x02 ‖ …)`, so that none can be passed off as another.
//!
//! Invariant: the layouts never change; another layout would be another first byte. Deliberately absent:
//! signatures and outside anchors, without which whoever rewrites a whole tail of the log is not found.

use domain::event::RecordedEvent;
use domain::ids::Partition;
use domain::time::Timestamp;
use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What stands for the commit before the first.
pub const GENESIS: Hash = [0; 32];

const LEAF: u8 = 0;
const NODE: u8 = 1;
const COMMIT: u8 = 2;

/// What the hash of a commit covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitContent {
    /// Hash of the partition's commit before; [`GENESIS`] before the first.
    pub previous: Hash,
    /// The partition.
    pub partition: Partition,
    /// Offset of its first event.
    pub first: u64,
    /// Offset of its last event.
    pub last: u64,
    /// [`merkle_root`] of its events' [`event_hash`]es, in order.
    pub root: Hash,
    /// The epoch under which it was written.
    pub epoch: u64,
    /// `recorded_at` of its last event.
    pub committed_at: Timestamp,
}

/// Writes the canonical bytes of an event to `out`, which is cleared first; `bucket` and the like, which follow
/// from other fields, are not in it.
///
/// Numbers are big-endian; *text* is a `u32` length and the UTF-8 bytes; *optional text* is `0`, or `1` and the
/// text. In this order:
///
/// | field | form | field | form |
/// |---|---|---|---|
/// | partition | `u16` | recorded_at | `i64`, milliseconds since 1970 |
/// | offset | `u64` | correlation_id | 16 bytes |
/// | stream | 16 bytes | causation_id | 16 bytes |
/// | version | `u64` | actor | text |
/// | tenant | text | traceparent | optional text |
/// | type | text | codec | `i64` |
/// | schema_version | `u16` | key_id | optional text |
/// | id | 16 bytes | data | `u32` length and the bytes |
pub fn canonical_event(event: &RecordedEvent, out: &mut Vec<u8>) {
    out.clear();
    write_event(event, out);
}

/// The hash of an event: the RFC 6962 leaf hash of its canonical bytes. `scratch` is room to write them in.
pub fn event_hash(event: &RecordedEvent, scratch: &mut Vec<u8>) -> Hash {
    scratch.clear();
    scratch.push(LEAF);
    write_event(event, scratch);
    Sha256::digest(&*scratch).into()
}

/// The RFC 6962 tree hash over leaves that are hashes already. Overwrites `leaves`; without leaves, the hash of
/// nothing.
pub fn merkle_root(leaves: &mut [Hash]) -> Hash {
    if leaves.is_empty() {
        return Sha256::digest([]).into();
    }
    // Pairing level by level, with an odd last one moved up as it is, gives the RFC's tree, which splits at
    // the largest power of two.
    let mut count = leaves.len();
    while count > 1 {
        for pair in 0..count / 2 {
            leaves[pair] = node_hash(&leaves[2 * pair], &leaves[2 * pair + 1]);
        }
        if count % 2 == 1 {
            leaves[count / 2] = leaves[count - 1];
        }
        count = count.div_ceil(2);
    }
    leaves[0]
}

/// The hash of a commit: `0x02 ‖ previous ‖ partition u16 ‖ first u64 ‖ last u64 ‖ root ‖ epoch u64 ‖
/// committed_at i64`, big-endian.
pub fn commit_hash(commit: &CommitContent) -> Hash {
    let mut bytes = Vec::with_capacity(99);
    bytes.push(COMMIT);
    bytes.extend_from_slice(&commit.previous);
    bytes.extend_from_slice(&commit.partition.0.to_be_bytes());
    bytes.extend_from_slice(&commit.first.to_be_bytes());
    bytes.extend_from_slice(&commit.last.to_be_bytes());
    bytes.extend_from_slice(&commit.root);
    bytes.extend_from_slice(&commit.epoch.to_be_bytes());
    bytes.extend_from_slice(&commit.committed_at.unix_ms().to_be_bytes());
    Sha256::digest(&bytes).into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0; 65];
    bytes[0] = NODE;
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

fn write_event(event: &RecordedEvent, out: &mut Vec<u8>) {
    out.extend_from_slice(&event.position.partition.0.to_be_bytes());
    out.extend_from_slice(&event.position.offset.to_be_bytes());
    out.extend_from_slice(event.stream.as_bytes());
    out.extend_from_slice(&event.version.to_be_bytes());
    write_bytes(event.tenant.as_str().as_bytes(), out);
    write_bytes(event.event_type.as_bytes(), out);
    out.extend_from_slice(&event.schema_version.to_be_bytes());
    out.extend_from_slice(event.id.as_bytes());
    out.extend_from_slice(&event.recorded_at.unix_ms().to_be_bytes());
    out.extend_from_slice(event.correlation_id.as_bytes());
    out.extend_from_slice(event.causation_id.as_bytes());
    write_bytes(event.actor.as_str().as_bytes(), out);
    write_optional(event.traceparent.as_deref(), out);
    out.extend_from_slice(&event.codec.number().to_be_bytes());
    write_optional(event.key_id.as_deref(), out);
    write_bytes(&event.data, out);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // An append is at most 4 MiB, so that the length always fits.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn write_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None => out.push(0),
        Some(text) => {
            out.push(1);
            write_bytes(text.as_bytes(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::blob::hex;
    use domain::event::Codec;
    use domain::ids::{Actor, Position, TenantId};
    use uuid::Uuid;

    fn event() -> RecordedEvent {
        RecordedEvent {
            position: Position { partition: Partition(3), offset: 7 },
            stream: Uuid::from_u128(1),
            version: 2,
            tenant: TenantId::default_tenant(),
            event_type: "execution.started".into(),
            schema_version: 1,
            id: Uuid::from_u128(2),
            recorded_at: Timestamp::from_unix_ms(1_795_000_000_000),
            correlation_id: Uuid::from_u128(3),
            causation_id: Uuid::from_u128(4),
            actor: Actor::system("timer"),
            traceparent: Some("00-a-b-01".into()),
            codec: Codec::Json,
            key_id: None,
            data: bytes::Bytes::from_static(b"{}"),
        }
    }

    fn hash(event: &RecordedEvent) -> Hash {
        event_hash(event, &mut Vec::new())
    }

    #[test]
    fn the_layout_of_an_event_is_the_one_ever_written() {
        assert_eq!(hex(&hash(&event())), "6b5e0bea9404b55f41338e8802d3af260fac182dbfb572cd51026f6859c591ad");
        let commit = CommitContent {
            previous: GENESIS,
            partition: Partition(3),
            first: 1,
            last: 7,
            root: [9; 32],
            epoch: 1,
            committed_at: Timestamp::from_unix_ms(1_795_000_000_000),
        };
        assert_eq!(
            hex(&commit_hash(&commit)),
            "2762ea4d2ecf136c1f276f0f0ad59d21a2cec83a20ecf7dd60cec8e02a55879d"
        );
    }

    #[test]
    fn every_field_of_an_event_is_covered() {
        let changes: Vec<fn(&mut RecordedEvent)> = vec![
            |e| e.position.partition = Partition(4),
            |e| e.position.offset = 8,
            |e| e.stream = Uuid::from_u128(9),
            |e| e.version = 3,
            |e| e.tenant = TenantId::try_from("other".to_owned()).unwrap(),
            |e| e.event_type = "execution.failed".into(),
            |e| e.schema_version = 2,
            |e| e.id = Uuid::from_u128(9),
            |e| e.recorded_at = Timestamp::from_unix_ms(0),
            |e| e.correlation_id = Uuid::from_u128(9),
            |e| e.causation_id = Uuid::from_u128(9),
            |e| e.actor = Actor::system("other"),
            |e| e.traceparent = None,
            |e| e.key_id = Some("k1".into()),
            |e| e.data = bytes::Bytes::from_static(b"{ }"),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = event();
            change(&mut changed);
            assert_ne!(hash(&changed), hash(&event()), "change {index}");
        }
    }

    #[test]
    fn an_absent_text_is_not_an_empty_one() {
        let empty = RecordedEvent { traceparent: Some("".into()), ..event() };
        let absent = RecordedEvent { traceparent: None, ..event() };
        assert_ne!(hash(&empty), hash(&absent));
    }

    #[test]
    fn the_tree_is_that_of_rfc_6962() {
        // Recomputed by the RFC's own recursion: split at the largest power of two below the count.
        fn reference(leaves: &[Hash]) -> Hash {
            if leaves.len() == 1 {
                return leaves[0];
            }
            let split = leaves.len().next_power_of_two() / 2;
            node_hash(&reference(&leaves[..split]), &reference(&leaves[split..]))
        }
        for count in 1..70u8 {
            let leaves: Vec<Hash> = (0..count).map(|n| [n; 32]).collect();
            assert_eq!(merkle_root(&mut leaves.clone()), reference(&leaves), "{count} leaves");
        }
        assert_eq!(
            hex(&merkle_root(&mut [])),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
