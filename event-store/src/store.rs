//! A store as its users see it: every port of one database, whichever database it is.

use async_trait::async_trait;
use std::sync::Arc;

use crate::blobs::beside::ObjectBlobs;
use crate::blobs::{Blobs, Objects, WithObjects};
use crate::checkpoints::Checkpoints;
use crate::log::{Log, LogReader, StoreError};
use crate::ownership::Ownership;
use crate::postgres::{PostgresLog, PostgresOptions};
use crate::rate_counters::RateCounters;
use crate::sqlite::SqliteLog;
use crate::transfer::Transfer;
use crate::verifiers::Verifiers;

/// The ports of one open database. Cheap to clone; all clones share its connections.
#[derive(Clone)]
pub struct Store {
    /// For the owner of partitions.
    pub log: Arc<dyn Log>,
    /// For everybody else, with connections apart from the owner's.
    pub reader: Arc<dyn LogReader>,
    /// Large values.
    pub blobs: Arc<dyn Blobs>,
    /// What secrets are recognised by.
    pub verifiers: Arc<dyn Verifiers>,
    /// How far readers without tables of their own are.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Who owns what; `None` where only one process can have the store.
    pub ownership: Option<Arc<dyn Ownership>>,
    /// What rate limits share; `None` where only one process can have the store.
    pub rates: Option<Arc<dyn RateCounters>>,
    /// All of it, to be moved to another store.
    pub transfer: Arc<dyn Transfer>,
    /// Whether it works, and its end.
    pub health: Arc<dyn StoreHealth>,
}

/// What operating a store needs beside its contents.
#[async_trait]
pub trait StoreHealth: Send + Sync {
    /// Why it refuses writes, as far as that is known: cheap, and tried only if the last write failed.
    async fn refuses_writes(&self) -> Option<String>;

    /// Closes it. What is under way is finished; later calls fail.
    async fn close(&self);
}

impl Store {
    /// A store on an embedded log.
    pub fn sqlite(log: Arc<SqliteLog>) -> Self {
        Self {
            log: log.clone(),
            reader: Arc::new(log.reader()),
            blobs: Arc::new(log.reader()),
            verifiers: log.clone(),
            checkpoints: log.clone(),
            ownership: None,
            rates: None,
            transfer: log.clone(),
            health: log,
        }
    }

    /// A store on a shared log.
    pub fn of_postgres(log: Arc<PostgresLog>) -> Self {
        Self {
            log: log.clone(),
            reader: Arc::new(log.reader()),
            blobs: Arc::new(log.reader()),
            verifiers: log.clone(),
            checkpoints: log.clone(),
            ownership: Some(log.clone()),
            rates: Some(log.clone()),
            transfer: log.clone(),
            health: log,
        }
    }

    /// The store with its large values in objects from now on; those in its database stay readable.
    #[must_use]
    pub fn with_objects(self, objects: Objects) -> Self {
        // What others read and store cannot keep the owner from appending.
        let own = Arc::new(objects.apart());
        let objects = Arc::new(objects);
        Self {
            log: Arc::new(WithObjects::new(self.log, own)),
            reader: Arc::new(WithObjects::new(self.reader, Arc::clone(&objects))),
            blobs: Arc::new(ObjectBlobs(WithObjects::new(self.blobs, Arc::clone(&objects)))),
            transfer: Arc::new(WithObjects::new(self.transfer, objects)),
            ..self
        }
    }

    /// Opens a store on Postgres, creating and migrating its schema as needed; several processes may do so at once.
    ///
    /// # Errors
    /// It cannot be reached, is of a newer version, or has another number of partitions.
    pub async fn postgres(options: PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self::of_postgres(Arc::new(PostgresLog::open(options).await?)))
    }

    /// Opens a store on Postgres that is there and of this release's version; nothing is created or migrated.
    ///
    /// # Errors
    /// It cannot be reached, is not there, is of another version, or has another number of partitions.
    pub async fn postgres_existing(options: PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self::of_postgres(Arc::new(PostgresLog::open_existing(options).await?)))
    }
}

/// How long a trial write may take.
const TRIAL: std::time::Duration = std::time::Duration::from_secs(2);

/// Why the last write failed, unless a trial says otherwise: nobody sends commands to a process that is not ready, so
/// without one it would stay so.
async fn refusal(
    failure: impl Fn() -> Option<String>,
    trial: impl Future<Output = Result<(), StoreError>>,
) -> Option<String> {
    let reason = failure()?;
    match tokio::time::timeout(TRIAL, trial).await {
        Ok(_) => failure(),
        Err(_) => Some(reason),
    }
}

#[async_trait]
impl StoreHealth for SqliteLog {
    async fn refuses_writes(&self) -> Option<String> {
        refusal(|| self.last_write_failed(), self.try_write()).await
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

#[async_trait]
impl StoreHealth for PostgresLog {
    async fn refuses_writes(&self) -> Option<String> {
        refusal(|| self.last_write_failed(), self.try_write()).await
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}
