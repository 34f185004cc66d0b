//! Identifiers that say where their stream lives.
//!
//! Every id is a UUIDv7 whose 12 `rand_a` bits hold a [`Slot`]; a slot maps to a [`Partition`] by modulo.
//! So routing a command or reading a stream needs nothing but the id. Ids that must be the same whoever
//! computes them (derived commands, creates with an idempotency key) are v7-shaped hashes: [`derived_id`].

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

use crate::time::Timestamp;

/// How many slots there are: the 12 `rand_a` bits of a UUIDv7.
pub const SLOTS: u16 = 4096;

/// Partitions of a store that does not say otherwise. Fixed when a store is created.
pub const DEFAULT_PARTITIONS: u16 = 16;

/// The 12-bit value inside an id that decides its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// The slot in the `rand_a` bits of `id`.
    pub fn of(id: Uuid) -> Self {
        let bytes = id.as_bytes();
        Self((u16::from(bytes[6] & 0x0f) << 8) | u16::from(bytes[7]))
    }

    /// A slot from the low 12 bits of a number; used for random slots.
    pub fn from_bits(bits: u64) -> Self {
        Self((bits & 0x0fff) as u16)
    }

    /// The slot that a set of names hashes to: the home of what is found by name.
    pub fn hashed(parts: &[&[u8]]) -> Self {
        let digest = hash_parts(parts);
        Self::from_bits(u64::from(digest[0]) << 8 | u64::from(digest[1]))
    }

    /// The home slot of a tenant: its workflows, variables and names live there.
    pub fn of_tenant(tenant: &TenantId) -> Self {
        Self::hashed(&[b"tenant", tenant.as_str().as_bytes()])
    }

    /// The partition of this slot in a store with `partitions` partitions.
    pub fn partition(self, partitions: u16) -> Partition {
        Partition(self.0 % partitions.max(1))
    }
}

/// One of the store's independent, densely numbered sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition in which the stream `id` lives.
    pub fn of(id: Uuid, partitions: u16) -> Self {
        Slot::of(id).partition(partitions)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an event is in the log: a partition and a dense offset in it, from 1. Written `"p:off"`.
///
/// Offsets of one partition are in commit order. Positions of different partitions have no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The offset in the partition; the first event has offset 1.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition.0, self.offset)
    }
}

/// The text is not a position of the form `partition:offset`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position; expected `partition:offset`, for instance `7:1204`")]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || PositionError(text.chars().take(64).collect());
        let (partition, offset) = text.split_once(':').ok_or_else(refuse)?;
        Ok(Self {
            partition: Partition(partition.parse().map_err(|_| refuse())?),
            offset: offset.parse().map_err(|_| refuse())?,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A tenant's slug: `[a-z0-9-]{1,40}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The only tenant until tenants are managed.
    pub fn default_tenant() -> Self {
        Self(Arc::from("default"))
    }

    /// The slug.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a tenant slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tenant; use 1 to 40 of a-z, 0-9 and -")]
pub struct TenantIdError(String);

impl TryFrom<String> for TenantId {
    type Error = TenantIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=40).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(Arc::from(text))) } else { Err(TenantIdError(text.chars().take(64).collect())) }
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0.to_string()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who caused an event: `user:<id>`, `key:<id>`, `worker:<name>` or `system:<part>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(Arc<str>);

impl Actor {
    /// An actor of a kind, such as `("user", "0190…")`.
    pub fn new(kind: &str, id: impl fmt::Display) -> Self {
        Self(Arc::from(format!("{kind}:{id}")))
    }

    /// The actor as recorded earlier.
    pub fn recorded(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// A part of Everline itself, such as `timer`.
    pub fn system(part: &str) -> Self {
        Self::new("system", part)
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A UUIDv7 for `at` in `slot`; `random` fills the 62 remaining bits.
pub fn new_id(at: Timestamp, slot: Slot, random: u64) -> Uuid {
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&(at.unix_ms().max(0) as u64).to_be_bytes()[2..]);
    bytes[6] = 0x70 | (slot.0 >> 8) as u8;
    bytes[7] = slot.0 as u8;
    bytes[8..].copy_from_slice(&random.to_be_bytes());
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// A v7-shaped id that is the same whoever derives it from the same parts.
pub fn derived_id(at: Timestamp, slot: Slot, parts: &[&[u8]]) -> Uuid {
    let digest = hash_parts(parts);
    let mut low = [0u8; 8];
    low.copy_from_slice(&digest[..8]);
    new_id(at, slot, u64::from_be_bytes(low))
}

/// The id of the event that a command appends to a stream at a version: derived, so that a command decided again gives
/// the same ids.
pub fn event_id(at: Timestamp, stream: Uuid, command: Uuid, version: u64) -> Uuid {
    derived_id(at, Slot::of(stream), &[command.as_bytes(), &version.to_be_bytes()])
}

/// Reads an id from text. Only UUIDv7 in the hyphenated form is an id here.
pub fn parse_id(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok().filter(|id| id.get_version_num() == 7)
}

/// The time inside a UUIDv7.
pub fn id_time(id: Uuid) -> Timestamp {
    let bytes = id.as_bytes();
    let mut ms = [0u8; 8];
    ms[2..].copy_from_slice(&bytes[..6]);
    Timestamp::from_unix_ms(u64::from_be_bytes(ms) as i64)
}

/// The birth bucket of a stream: months since January 1970, from the time in its id.
pub fn birth_bucket(stream: Uuid) -> i32 {
    id_time(stream).months_since_epoch()
}

/// SHA-256 over length-prefixed parts, so that no two lists of parts collide by concatenation.
fn hash_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_slot_and_time() {
        let at = Timestamp::from_unix_ms(1_795_000_000_123);
        let id = new_id(at, Slot::from_bits(0xabc), u64::MAX);
        assert_eq!(Slot::of(id), Slot(0xabc));
        assert_eq!(id_time(id), at);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(parse_id(&id.to_string()), Some(id));
    }

    #[test]
    fn a_derived_id_depends_on_every_part_and_its_borders() {
        let at = Timestamp::from_unix_ms(1);
        let slot = Slot::from_bits(1);
        assert_eq!(derived_id(at, slot, &[b"a", b"b"]), derived_id(at, slot, &[b"a", b"b"]));
        assert_ne!(derived_id(at, slot, &[b"ab"]), derived_id(at, slot, &[b"a", b"b"]));
    }

    #[test]
    fn a_position_reads_back_and_refuses_other_text() {
        let position: Position = "7:1204".parse().expect("a position");
        assert_eq!(position.to_string(), "7:1204");
        assert!("7".parse::<Position>().is_err());
        assert!("-1:3".parse::<Position>().is_err());
    }

    #[test]
    fn a_tenant_is_a_slug() {
        assert!(TenantId::try_from("acme-2".to_owned()).is_ok());
        assert!(TenantId::try_from("Acme".to_owned()).is_err());
        assert!(TenantId::try_from(String::new()).is_err());
    }
}
