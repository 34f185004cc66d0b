//! Types of single settings, whose `Deserialize` says what is wrong in words.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};

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

/// The path of an SQLite database, written `sqlite://<path>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteUrl(PathBuf);

impl SqliteUrl {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SqliteUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as a secret, because a Postgres URL holds a password that no message may quote.
        let text = Secret::deserialize(deserializer)?;
        let text = text.expose();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Err(Error::custom(
                "Postgres comes in a later release; use sqlite://<path>, or leave it out for a file in the data directory",
            ));
        }
        let path = text
            .strip_prefix("sqlite://")
            .ok_or_else(|| Error::custom("not a database URL; write sqlite://<path>"))?;
        if path.is_empty() || path.contains('?') || path == ":memory:" {
            return Err(Error::custom("sqlite:// needs the path of a file and no parameters"));
        }
        Ok(Self(PathBuf::from(path)))
    }
}

fn ranged<'de, D: Deserializer<'de>>(deserializer: D, least: u16, most: u16) -> Result<u16, D::Error> {
    let value = i64::deserialize(deserializer)?;
    match u16::try_from(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Error::custom(format_args!("{value} is out of range; use {least} to {most}"))),
    }
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
    /// `nats_url`.
    cluster_release = "NATS comes in a later release; leave it out, and commands, events and tasks stay inside this process";
    /// `blob_url`.
    blob_release = "a blob store of its own comes in a later release; leave it out, and large values are kept in the log's database";
    /// `qdrant_url`.
    vector_release = "Qdrant comes in a later release; leave it out";
    /// `grpc_addr`.
    grpc_release = "gRPC comes in a later release; leave it out and use HTTP";
    /// `master_key`.
    vault_release = "sealed credentials and their master key come in a later release; leave it out";
    /// `otlp_endpoint`.
    telemetry_release = "OpenTelemetry export comes in a later release; leave it out and read the logs";
}
