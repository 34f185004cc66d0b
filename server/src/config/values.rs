//! Types of single settings, whose `Deserialize` says what is wrong in words.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use event_store::sealing::MasterKey;

use crate::secret::Secret;

/// Shape of log lines on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// How many partitions a new store gets: 1 to 4096, the number of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(u16);

impl Partitions {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Partitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ranged(deserializer, 1, domain::ids::SLOTS).map(Self)
    }
}

/// A whole number within bounds.
pub(super) fn ranged<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: u16,
    most: u16,
) -> Result<u16, D::Error> {
    let value = i64::deserialize(deserializer)?;
    match u16::try_from(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Error::custom(format_args!("{value} is out of range; use {least} to {most}"))),
    }
}

/// `master_key`. What is wrong with it is said without quoting it.
pub(super) fn master_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MasterKey>, D::Error> {
    let Some(text) = Option::<Secret>::deserialize(deserializer)? else { return Ok(None) };
    MasterKey::parse(text.expose()).map(Some).map_err(Error::custom)
}

/// Defines a reader of a key that this release knows and refuses.
macro_rules! later_release {
    ($($(#[$doc:meta])* $name:ident = $message:literal;)+) => {
        $(
            $(#[$doc])*
            pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
                match Option::<Secret>::deserialize(deserializer)? {
                    None => Ok(None),
                    Some(_) => Err(Error::custom($message)),
                }
            }
        )+
    };
}

later_release! {
    /// `qdrant_url`.
    vector_release = "Qdrant comes in a later release; leave it out";
    /// `grpc_addr`.
    grpc_release = "gRPC comes in a later release; leave it out and use HTTP";
    /// `otlp_endpoint`.
    telemetry_release = "OpenTelemetry export comes in a later release; leave it out and read the logs";
}
