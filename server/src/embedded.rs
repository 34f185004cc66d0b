//! Every role in one process on the embedded store: a face of [`Process`] for tests, benchmarks and
//! `everline run --local`, which look into the store.

use anyhow::Context;
use event_store::sqlite::SqliteLog;
use projection_service::ProjectionHandle;
use read_models::ReadModels;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::AdminKey;
use crate::process::Process;

pub use crate::process::{ProcessOptions as EmbeddedOptions, Storage};

/// A running process on an embedded store.
///
/// Dropping it cuts everything off, as a crash would; the log continues at the next start.
pub struct Embedded {
    /// Where it is served, such as `http://127.0.0.1:7070`.
    pub url: String,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The first admin.
    pub admin: AdminKey,
    /// The log.
    pub log: Arc<SqliteLog>,
    /// The read models.
    pub read_models: ReadModels,
    /// How far the projections are.
    pub projections: ProjectionHandle,
    process: Process,
}

impl Embedded {
    /// Starts every role. Requests are answered when this returns.
    ///
    /// # Errors
    /// As [`Process::start`], or the options are not those of an embedded process.
    pub async fn start(options: EmbeddedOptions) -> anyhow::Result<Self> {
        let process = Process::start(options).await?;
        let log = process.embedded_log().context("the store is not embedded")?.clone();
        let read_models = process.read_models().context("the process has no read models")?.clone();
        let projections = process.projections.clone().context("the process has no projections")?;
        let admin = process.admin.clone().context("the process has no gateway")?;
        let (url, address) = (process.url.clone(), process.address);
        Ok(Self { url, address, admin, log, read_models, projections, process })
    }

    /// Waits until a part fails, which none should. Cancel-safe.
    pub async fn failure(&mut self) -> anyhow::Error {
        self.process.failure().await
    }

    /// Stops every role in order, each within its time, and closes the store.
    ///
    /// # Errors
    /// The first part that failed, or had to be cut off. The others are stopped all the same.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        self.process.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[tokio::test]
    async fn a_start_that_is_refused_for_its_admin_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        for (email, password) in [("nobody", None), ("a@example.test", Some(Secret::new("short")))] {
            let options = EmbeddedOptions::in_directory(&directory.path().join("data"));
            let options =
                EmbeddedOptions { admin_email: email.to_owned(), admin_password: password, ..options };
            assert!(Embedded::start(options).await.is_err());
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
