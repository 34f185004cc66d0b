//! The master key: the configured one, or the one beside an embedded store, made by its first start.
//!
//! Invariant: a gateway serves only with the key that its store was sealed with; with another it would refuse the tokens
//! of other gateways, and second factors would not open.

use anyhow::Context;
use domain::ids::TenantId;
use domain::time::Clock;
use event_store::sealing::MasterKey;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use gateway::{MasterKeyError, check_master_key};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::storage::{Storage, create_parent};
use crate::clock::SystemClock;
use crate::config::{ConfigError, master_key_path};

/// The name of the key in the configuration.
const KEY: &str = "master_key";
/// The name of the key that a shared store keeps itself.
const IN_STORE: &str = "master";
/// A larger file is surely another.
const MAX_FILE_BYTES: u64 = 4 * 1024;

/// The key of an open store: the configured one; else of an embedded one that in a file beside it, of a shared one
/// that in the store itself, which protects less.
///
/// # Errors
/// It cannot be read or made, or the store was sealed with another.
pub(super) async fn ensure(
    verifiers: &dyn Verifiers,
    configured: Option<&MasterKey>,
    storage: &Storage,
) -> anyhow::Result<MasterKey> {
    let directory = storage.admin_key().and_then(Path::parent);
    let key = match (configured, directory) {
        (Some(key), _) => key.clone(),
        (None, _) if storage.is_shared() => within(verifiers).await?,
        (None, Some(directory)) => beside(&master_key_path(directory))?,
        (None, None) => MasterKey::generate().context("the system has no random bytes")?,
    };
    match check_master_key(verifiers, &key).await {
        Ok(()) => Ok(key),
        Err(error @ MasterKeyError::Another) => Err(ConfigError::single(KEY, error.to_string()).into()),
        Err(error) => Err(anyhow::Error::new(error).context("the master key could not be tried")),
    }
}

/// The key in a shared store, which the first of its processes makes. Whoever reads the database has it too, so this is
/// said at every start.
async fn within(verifiers: &dyn Verifiers) -> anyhow::Result<MasterKey> {
    tracing::warn!(
        "no master key is set: what seals signing keys and second factors lies beside them in the database; make one \
         with `openssl rand -base64 32` before there are users, and set EVERLINE_MASTER_KEY_FILE for all processes"
    );
    let made = MasterKey::generate().context("the system has no random bytes")?;
    let row = Verifier {
        kind: VerifierKind::StoreKey,
        lookup: IN_STORE.to_owned(),
        tenant: TenantId::default_tenant(),
        principal: String::new(),
        name: String::new(),
        hash: made.reveal().to_string(),
        family: None,
        created_at: SystemClock.now(),
        expires_at: None,
        used_at: None,
    };
    verifiers.put_new(&[row]).await.context("the master key could not be kept in the store")?;
    let found = verifiers.find(VerifierKind::StoreKey, IN_STORE).await;
    let found = found.context("the master key could not be read from the store")?;
    let found = found.context("the master key in the store is gone")?;
    MasterKey::parse(&found.hash).context("the master key in the store is damaged")
}

/// The key in a file, which is made if it is not there.
fn beside(path: &Path) -> anyhow::Result<MasterKey> {
    if let Some(key) = read(path)? {
        return Ok(key);
    }
    create_parent(path)?;
    let key = MasterKey::generate().context("the system has no random bytes")?;
    // Written whole under another name first: a crash must not leave half a key.
    let draft = path.with_extension(format!("key.{}", uuid::Uuid::new_v4().simple()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(key.reveal().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // Whoever was faster has made it; a file that is there is never replaced.
        match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    let written = write();
    let _ = std::fs::remove_file(&draft);
    written.with_context(|| format!("cannot write the master key to {}", path.display()))?;
    read(path)?.with_context(|| format!("the master key in {} is gone", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Option<MasterKey>> {
    let refuse = |detail: String| ConfigError::single(KEY, format!("{}: {detail}", path.display()));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(format!("cannot be read: {error}")).into()),
        Ok(found) if found.len() > MAX_FILE_BYTES => {
            return Err(refuse("it is too large for a key".to_owned()).into());
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| refuse(format!("cannot be read: {error}")))?;
    Ok(Some(MasterKey::parse(&text).map_err(|error| refuse(error.to_string()))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_store::sqlite::{SqliteLog, SqliteOptions};
    use std::os::unix::fs::PermissionsExt;

    fn files(directory: &Path) -> Storage {
        Storage::Files {
            log: directory.join("log.db"),
            read_models: directory.join("read-models.db"),
            admin_key: directory.join("admin.key"),
        }
    }

    #[tokio::test]
    async fn the_key_of_an_embedded_store_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let log = SqliteLog::open_temporary(SqliteOptions::default()).await.unwrap();
        let storage = files(directory.path());
        let made = ensure(&log, None, &storage).await.unwrap();
        let path = directory.path().join("master.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = ensure(&log, None, &storage).await.unwrap();
        assert_eq!(*made.reveal(), *again.reveal());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");

        let configured = MasterKey::generate().unwrap();
        let used = ensure(&log, Some(&configured), &storage).await.unwrap();
        assert_eq!(*used.reveal(), *configured.reveal());
    }

    #[tokio::test]
    async fn a_file_that_is_no_key_stops_the_start_and_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let log = SqliteLog::open_temporary(SqliteOptions::default()).await.unwrap();
        let path = directory.path().join("master.key");
        std::fs::write(&path, "half a ke").unwrap();
        let error = ensure(&log, None, &files(directory.path())).await.unwrap_err();
        assert!(error.downcast_ref::<ConfigError>().is_some(), "{error:#}");
        assert!(!format!("{error:#}").contains("half a ke"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a ke");
    }
}
