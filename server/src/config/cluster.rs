//! Settings of Postgres and NATS beside their URLs.

use bus::nats::NatsOptions;
use serde::Deserialize;
use std::num::{NonZeroU8, NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::urls::{NatsUrl, PostgresUrl};

/// How Postgres is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// Whether the URLs lead through a pooler in transaction mode, such as PgBouncer.
    pub pooled: bool,
    /// The most connections of each of a process's pools: the owner's, the log's other readers', the read models'.
    pub connections: NonZeroU32,
    /// How long one statement may take, in milliseconds.
    pub statement_timeout_ms: NonZeroU32,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            pooled: false,
            connections: NonZeroU32::new(6).expect("6 is not zero"),
            statement_timeout_ms: NonZeroU32::new(30_000).expect("30,000 is not zero"),
        }
    }
}

impl PostgresConfig {
    /// How the log at `url` is opened.
    pub fn log(
        &self,
        url: &PostgresUrl,
        partitions: Option<u16>,
        name: &str,
    ) -> event_store::postgres::PostgresOptions {
        event_store::postgres::PostgresOptions {
            partitions,
            own_connections: self.connections.get(),
            connections: self.connections.get(),
            pooled: self.pooled,
            statement_timeout: Duration::from_millis(u64::from(self.statement_timeout_ms.get())),
            application_name: name.to_owned(),
            ..event_store::postgres::PostgresOptions::new(url.expose())
        }
    }

    /// How the read models at `url` are opened.
    pub fn read_models(&self, url: &PostgresUrl, name: &str) -> read_models::PostgresOptions {
        read_models::PostgresOptions {
            connections: self.connections.get(),
            pooled: self.pooled,
            application_name: name.to_owned(),
            ..read_models::PostgresOptions::new(url.expose())
        }
    }
}

/// How NATS is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// How long a command is sent again while nobody answers for its partition, in milliseconds.
    pub command_deadline_ms: NonZeroU32,
    /// How long `EVERLINE_EVENTS` keeps an event, in hours.
    pub events_max_age_hours: NonZeroU32,
    /// The most bytes of `EVERLINE_EVENTS`; the oldest events go first.
    pub events_max_bytes: NonZeroU64,
    /// Copies of each stream in a JetStream cluster, 1 to 5.
    pub replicas: Replicas,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            command_deadline_ms: NonZeroU32::new(15_000).expect("15,000 is not zero"),
            events_max_age_hours: NonZeroU32::new(7 * 24).expect("a week is not zero"),
            // JetStream reserves it, out of three quarters of the free disk if nothing else is said there.
            events_max_bytes: NonZeroU64::new(1024 * 1024 * 1024).expect("1 GiB is not zero"),
            replicas: Replicas::default(),
        }
    }
}

impl NatsConfig {
    /// How the bus at `url` is reached. The number of partitions is the log's, once it is open.
    pub fn options(&self, url: &NatsUrl, partitions: u16, name: &str) -> NatsOptions {
        NatsOptions {
            name: name.to_owned(),
            command_deadline: Duration::from_millis(u64::from(self.command_deadline_ms.get())),
            events_max_age: Duration::from_secs(u64::from(self.events_max_age_hours.get()) * 60 * 60),
            events_max_bytes: self.events_max_bytes.get(),
            replicas: self.replicas.get(),
            ..NatsOptions::new(url.expose(), partitions)
        }
    }
}

/// How many copies of a stream there are: as many as JetStream can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas(NonZeroU8);

impl Replicas {
    /// The number.
    pub fn get(self) -> u8 {
        self.0.get()
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self(NonZeroU8::MIN)
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = super::values::ranged(deserializer, 1, 5)?;
        let number = u8::try_from(number).ok().and_then(NonZeroU8::new);
        Ok(Self(number.expect("1 to 5 is a byte and not zero")))
    }
}
