//! Where the data is, and opening it.

use anyhow::Context;
use event_store::Store;
use event_store::StoreError;
use event_store::blobs::{BlobOptions, Objects};
use event_store::sqlite::{SqliteLog, SqliteOptions};
use read_models::{ReadModelError, ReadModels};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::patience::{Hope, Patience};
use crate::config::{Config, ConfigError, DatabaseUrl, PostgresConfig, PostgresUrl};

/// Where the data is.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In temporary directories that go with the process; nothing is made durable.
    Temporary,
    /// In files, created as needed.
    Files {
        /// The log's database.
        log: PathBuf,
        /// The read models' database.
        read_models: PathBuf,
        /// Where the first start saves the admin's API key.
        admin_key: PathBuf,
    },
    /// On Postgres, in schemas created as needed.
    Postgres {
        /// The log's database.
        log: PostgresUrl,
        /// The read models' database.
        read_models: PostgresUrl,
        /// How they are used.
        config: PostgresConfig,
        /// Where the process that makes the first admin saves the API key.
        admin_key: PathBuf,
    },
}

/// What a process opens of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The log alone.
    Log,
    /// The log and the read models.
    LogAndReadModels,
}

/// What becomes of something on a server that is not there or is of an earlier release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is created or migrated.
    Create,
    /// Read models are created or migrated, a log is refused.
    CreateReadModels,
    /// It is refused: who only looks changes nothing, and a mistyped database is a mistake.
    Refuse,
}

/// Open databases.
pub(crate) struct Stores {
    pub(crate) store: Store,
    pub(crate) read_models: Option<ReadModels>,
    /// The embedded log, where the store is on one.
    pub(crate) embedded: Option<Arc<SqliteLog>>,
}

impl Stores {
    /// Keeps large values elsewhere than in the log's database, if a place is given.
    ///
    /// # Errors
    /// It cannot be used, or is a folder that is not there and must be.
    pub(crate) fn with_blobs(self, blobs: Option<&BlobOptions>, missing: Missing) -> anyhow::Result<Self> {
        let Some(options) = blobs else { return Ok(self) };
        let opened = match missing {
            Missing::Create | Missing::CreateReadModels => Objects::open(options),
            Missing::Refuse => Objects::open_existing(options),
        };
        let objects = opened.map_err(|error| match error {
            StoreError::Unfit { .. } => ConfigError::single("blob_url", error.to_string()).into(),
            error => anyhow::Error::new(error).context("large values cannot be kept as blob_url says"),
        })?;
        tracing::info!(blobs.place = objects.name(), "large values are kept beside the log's database");
        Ok(Self { store: self.store.with_objects(objects), ..self })
    }

    /// Closes both. What is under way is finished.
    pub(crate) async fn close(&self) {
        if let Some(models) = &self.read_models {
            models.close().await;
        }
        self.store.health.close().await;
    }
}

impl Storage {
    /// Where a configuration says. The layers have seen to it that both databases are of a kind.
    pub fn from_config(config: &Config) -> Self {
        let admin_key = config.admin_key_path();
        match (config.log_database(), config.read_model_database()) {
            (DatabaseUrl::Postgres(log), DatabaseUrl::Postgres(read_models)) => {
                Self::Postgres { log, read_models, config: config.postgres.clone(), admin_key }
            }
            (DatabaseUrl::Postgres(log), DatabaseUrl::Sqlite(_)) => {
                Self::Postgres { read_models: log.clone(), log, config: config.postgres.clone(), admin_key }
            }
            (DatabaseUrl::Sqlite(log), DatabaseUrl::Sqlite(read_models)) => {
                Self::Files { log, read_models, admin_key }
            }
            (DatabaseUrl::Sqlite(log), DatabaseUrl::Postgres(_)) => {
                Self::Files { log, read_models: config.data_dir.join("read-models.db"), admin_key }
            }
        }
    }

    /// Whether several processes can share it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Where the first admin's API key is saved.
    pub(crate) fn admin_key(&self) -> Option<&Path> {
        match self {
            Self::Temporary => None,
            Self::Files { admin_key, .. } | Self::Postgres { admin_key, .. } => Some(admin_key),
        }
    }

    /// Opens the databases. Files are created and migrated as needed, schemas on a server as `missing` says.
    ///
    /// # Errors
    /// A file or directory cannot be used, another process has it, a server cannot be used in time, or
    /// ([`ConfigError`]) the log does not fit the configuration.
    pub(crate) async fn open(
        &self,
        extent: Extent,
        partitions: Option<u16>,
        name: &str,
        patience: Patience,
        missing: Missing,
    ) -> anyhow::Result<Stores> {
        let options = SqliteOptions { partitions, ..SqliteOptions::default() };
        let (log, read_models) = match self {
            Self::Postgres { log, read_models, config, .. } => {
                let store = open_log(config.log(log, partitions, name), log, patience, missing).await?;
                let read_models = match extent {
                    Extent::Log => None,
                    Extent::LogAndReadModels => Some(
                        open_models(config.read_models(read_models, name), read_models, patience, missing)
                            .await?,
                    ),
                };
                return Ok(Stores { store, read_models, embedded: None });
            }
            Self::Temporary => {
                let log = SqliteLog::open_temporary(options).await.context("cannot open a temporary log")?;
                (log, ReadModels::open_temporary().await.context("cannot open temporary read models")?)
            }
            Self::Files { log, read_models, admin_key } => {
                for file in [log, read_models, admin_key] {
                    create_parent(file)?;
                }
                for file in [log, read_models] {
                    create_private(file)?;
                }
                let models_path = read_models;
                let log = SqliteLog::open(log, options).await.map_err(unfit_or_failed)?;
                let models = ReadModels::open(models_path)
                    .await
                    .with_context(|| format!("cannot open the read models in {}", models_path.display()))?;
                (log, models)
            }
        };
        let log = Arc::new(log);
        let store = Store::sqlite(log.clone());
        Ok(Stores { store, read_models: Some(read_models), embedded: Some(log) })
    }
}

async fn open_log(
    options: event_store::postgres::PostgresOptions,
    url: &PostgresUrl,
    patience: Patience,
    missing: Missing,
) -> anyhow::Result<Store> {
    let hope = |error: &StoreError| match error {
        StoreError::Unreachable { .. }
        | StoreError::Database { .. }
        | StoreError::Contended { .. }
        | StoreError::Migration(_)
        | StoreError::Objects { .. }
        | StoreError::Io { .. } => Hope::Yes,
        StoreError::Locked { .. }
        | StoreError::Unfit { .. }
        | StoreError::DamagedBlob { .. }
        | StoreError::Corrupt(_) => Hope::No,
    };
    let what = format!("the log's database {}", url.shown());
    let open = async || match missing {
        Missing::Create => Store::postgres(options.clone()).await,
        Missing::CreateReadModels | Missing::Refuse => Store::postgres_existing(options.clone()).await,
    };
    let opened = patience.wait_for(&what, hope, open).await;
    opened.map_err(|error| match error.downcast::<StoreError>() {
        Ok(error @ StoreError::Unfit { .. }) if missing != Missing::Create => {
            ConfigError::single("database_url", error.to_string()).into()
        }
        Ok(error) => unfit_or_failed(error),
        Err(error) => error,
    })
}

async fn open_models(
    options: read_models::PostgresOptions,
    url: &PostgresUrl,
    patience: Patience,
    missing: Missing,
) -> anyhow::Result<ReadModels> {
    // A schema of a newer version stays one; everything else may be a server that is not up yet.
    let hope = |error: &ReadModelError| if error.is_transient() { Hope::Yes } else { Hope::No };
    let what = format!("the read models' database {}", url.shown());
    let open = async || match missing {
        Missing::Create | Missing::CreateReadModels => ReadModels::open_postgres(options.clone()).await,
        Missing::Refuse => ReadModels::open_postgres_existing(options.clone()).await,
    };
    patience.wait_for(&what, hope, open).await
}

/// A log that does not fit the configuration is a matter of the configuration.
fn unfit_or_failed(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Unfit { .. } => ConfigError::single("partitions", error.to_string()).into(),
        error => anyhow::Error::new(error).context("cannot open the log"),
    }
}

/// An empty database for the owner alone, where there is none: SQLite would make one for everybody. It gives the
/// files beside a database the mode of the database.
pub(crate) fn create_private(file: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
        .map(drop)
        .with_context(|| format!("cannot create {}", file.display()))
}

/// The directory of a file, for the owner alone: it holds a key.
pub(crate) fn create_parent(file: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match file.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        None => Ok(()),
        Some(parent) => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("cannot create the directory {}", parent.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[tokio::test]
    async fn databases_in_a_directory_for_all_are_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let storage = Storage::Files {
            log: directory.path().join("log.db"),
            read_models: directory.path().join("read-models.db"),
            admin_key: directory.path().join("admin.key"),
        };
        let patience = Patience::new(Duration::from_secs(10));
        let stores =
            storage.open(Extent::LogAndReadModels, None, "test", patience, Missing::Create).await.unwrap();
        let mut seen = 0;
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().contains(".db") && !entry.path().ends_with("log.db.lock") {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", entry.path().display());
                seen += 1;
            }
        }
        assert!(seen >= 4, "both databases, with their write-ahead logs");
        drop(stores);
    }
}
