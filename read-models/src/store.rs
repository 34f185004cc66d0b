//! Opening the read models, in a file or on Postgres.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::ReadModelError;
use crate::backend::Db;
use crate::positions::Reached;
use crate::postgres::PgPools;
use crate::sqlite::SqlitePools;

/// The read models. Cheap to clone; clones share connections and wake each other's waiters.
#[derive(Clone)]
pub struct ReadModels {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) db: Db,
    /// The checkpoints of the main projection, as far as this process knows.
    pub(crate) reached: watch::Sender<Reached>,
    /// When the checkpoints were last read for the sake of waiters.
    pub(crate) polled: Mutex<Option<Instant>>,
    /// The folder of a temporary database, removed with the last clone.
    temporary: Option<PathBuf>,
}

/// How read models on Postgres are opened.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`. Never shown: it holds a password.
    pub url: String,
    /// Connections that queries share.
    pub connections: u32,
    /// The URL leads through a pooler in transaction mode, such as PgBouncer: nothing of a session is relied on.
    pub pooled: bool,
    /// What the server shows as the name of the connections, for people.
    pub application_name: String,
}

impl PostgresOptions {
    /// Defaults for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), connections: 6, pooled: false, application_name: "everline".to_owned() }
    }
}

/// Without the URL: it holds a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").field("pooled", &self.pooled).finish_non_exhaustive()
    }
}

impl ReadModels {
    /// Opens or creates the database at `path` and brings its schema up to date.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ReadModelError> {
        Self::open_at(path.as_ref(), None).await
    }

    /// A database in the system's folder for temporary files, removed when the last clone is dropped.
    pub async fn open_temporary() -> Result<Self, ReadModelError> {
        let folder = std::env::temp_dir().join(format!("everline-read-models-{}", Uuid::new_v4()));
        std::fs::create_dir_all(&folder)
            .map_err(|source| ReadModelError::database("create a temporary folder")(source.into()))?;
        Self::open_at(&folder.join("read-models.db"), Some(folder.clone())).await
    }

    async fn open_at(path: &Path, temporary: Option<PathBuf>) -> Result<Self, ReadModelError> {
        Self::over(Db::Sqlite(SqlitePools::open(path).await?), temporary).await
    }

    /// Opens the read models on Postgres, in a schema of their own, creating and migrating it as needed. Several
    /// processes may do so at once.
    pub async fn open_postgres(options: PostgresOptions) -> Result<Self, ReadModelError> {
        Self::over(Db::Postgres(PgPools::open(&options).await?), None).await
    }

    /// Opens read models on Postgres that are there and of this release's version, for those who look at them: nothing
    /// is created or migrated, so that whoever mistakes the database changes nothing.
    pub async fn open_postgres_existing(options: PostgresOptions) -> Result<Self, ReadModelError> {
        Self::over(Db::Postgres(PgPools::open_existing(&options).await?), None).await
    }

    async fn over(db: Db, temporary: Option<PathBuf>) -> Result<Self, ReadModelError> {
        let models = Self {
            inner: Arc::new(Inner {
                db,
                reached: watch::Sender::new(Reached::default()),
                polled: Mutex::new(None),
                temporary,
            }),
        };
        models.poll_checkpoints().await?;
        Ok(models)
    }

    /// Closes the connections after the statements under way. Later calls fail.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }
}

impl std::fmt::Debug for ReadModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadModels").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary
            && let Err(error) = std::fs::remove_dir_all(folder)
        {
            tracing::debug!(%error, folder = %folder.display(), "a temporary database was left behind");
        }
    }
}
