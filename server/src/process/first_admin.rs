//! The first admin, made by whichever gateway is first.

use anyhow::Context;
use domain::time::Clock;
use event_store::verifiers::Verifiers;
use std::path::Path;

use super::storage::create_parent;
use crate::admin::{self, AdminKey, KeyDraft};
use crate::config::ConfigError;
use crate::secret::Secret;

/// Whom a first start makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) email: &'a str,
    pub(super) password: Option<&'a Secret>,
    /// Where the key is saved; nowhere with a store that goes with the process.
    pub(super) key_file: Option<&'a Path>,
}

impl Wanted<'_> {
    /// Whether there can be such an admin, asked before there is a store.
    ///
    /// # Errors
    /// [`ConfigError`]: there cannot.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        gateway::check_admin(self.email, self.password.map(Secret::expose)).map_err(refused_or_failed)
    }
}

/// Makes the first admin unless there is one. Of several processes that start at once, one makes it.
pub(super) async fn ensure(
    verifiers: &dyn Verifiers,
    clock: &dyn Clock,
    wanted: Wanted<'_>,
) -> anyhow::Result<AdminKey> {
    let password = wanted.password.map(|password| password.expose().to_owned().into());
    let prepared = gateway::prepare_admin(verifiers, clock, wanted.email, password).await;
    let Some(admin) = prepared.map_err(refused_or_failed)? else {
        return known(verifiers, wanted).await;
    };
    let key = Secret::new(admin.api_key.as_str());
    let draft = match wanted.key_file {
        None => None,
        Some(path) => {
            create_parent(path)?;
            Some(KeyDraft::save(path, &key)?)
        }
    };
    if !admin.store(verifiers).await.context("cannot store the first admin")? {
        if let Some(draft) = draft {
            draft.discard();
        }
        return known(verifiers, wanted).await;
    }
    if let Some(draft) = draft {
        draft.keep()?;
    }
    let password = admin.generated_password.map(|password| Secret::new(password.as_str()));
    Ok(AdminKey { email: admin.email, key: Some(key), password, created: true })
}

/// The admin that is there already, with the key that is saved here, if one is.
async fn known(verifiers: &dyn Verifiers, wanted: Wanted<'_>) -> anyhow::Result<AdminKey> {
    let mut key = wanted.key_file.map_or(Ok(None), admin::read_key)?;
    if let Some(path) = wanted.key_file {
        let is_of_this_store = match &key {
            None => false,
            Some(key) => is_valid(verifiers, key).await?,
        };
        // A key that a deleted store has left behind must not hide the only one to this store. Without a draft it
        // stays what is shown: the admin's key may have been revoked and the file kept on purpose.
        if !is_of_this_store && let Some(found) = key_of_draft(verifiers, path).await? {
            key = Some(found);
        }
    }
    Ok(AdminKey { email: wanted.email.to_owned(), key, password: None, created: false })
}

/// The key of a start that ended after the admin was stored and before the key was where it belongs.
async fn key_of_draft(verifiers: &dyn Verifiers, path: &Path) -> anyhow::Result<Option<Secret>> {
    for draft in admin::drafts(path) {
        if let Ok(Some(key)) = admin::read_key(&draft)
            && is_valid(verifiers, &key).await?
        {
            KeyDraft::found(draft, path).keep()?;
            return Ok(Some(key));
        }
    }
    Ok(None)
}

async fn is_valid(verifiers: &dyn Verifiers, key: &Secret) -> anyhow::Result<bool> {
    gateway::is_api_key(verifiers, key.expose()).await.map_err(refused_or_failed)
}

/// An admin that cannot be is a matter of the configuration.
fn refused_or_failed(error: gateway::AdminError) -> anyhow::Error {
    match error {
        gateway::AdminError::Email(_) => {
            ConfigError::single("bootstrap_admin_email", error.to_string()).into()
        }
        gateway::AdminError::PasswordLength => {
            ConfigError::single("bootstrap_admin_password", error.to_string()).into()
        }
        error => anyhow::Error::new(error).context("cannot create the first admin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use event_store::sqlite::{SqliteLog, SqliteOptions};

    #[tokio::test]
    async fn a_key_that_a_crash_left_as_a_draft_is_found_by_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.key");
        let log = SqliteLog::open_temporary(SqliteOptions::default()).await.unwrap();
        let wanted = Wanted { email: "a@example.test", password: None, key_file: Some(&path) };
        let made = ensure(&log, &SystemClock, wanted).await.unwrap();
        assert!(made.created && path.exists());

        std::fs::rename(&path, directory.path().join(".admin.key.of-the-crash")).unwrap();
        std::fs::write(directory.path().join(".admin.key.of-another"), "evl_unknown\n").unwrap();
        let found = ensure(&log, &SystemClock, wanted).await.unwrap();
        assert!(!found.created);
        assert_eq!(found.key, made.key);
        assert_eq!(admin::read_key(&path).unwrap(), made.key);
    }
    #[tokio::test]
    async fn a_key_of_a_deleted_store_does_not_hide_the_draft_with_the_key_of_this_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.key");
        let log = SqliteLog::open_temporary(SqliteOptions::default()).await.unwrap();
        let wanted = Wanted { email: "a@example.test", password: None, key_file: Some(&path) };
        let made = ensure(&log, &SystemClock, wanted).await.unwrap();

        std::fs::rename(&path, directory.path().join(".admin.key.of-the-crash")).unwrap();
        std::fs::write(&path, "evl_of_a_deleted_store\n").unwrap();
        let found = ensure(&log, &SystemClock, wanted).await.unwrap();
        assert_eq!(found.key, made.key);
        assert_eq!(admin::read_key(&path).unwrap(), made.key);
        let kept = std::fs::read_dir(directory.path()).unwrap().filter(|entry| {
            let text = std::fs::read_to_string(entry.as_ref().unwrap().path()).unwrap();
            text == "evl_of_a_deleted_store\n"
        });
        assert_eq!(kept.count(), 1, "a key that may be the only one to its store is set aside, not replaced");
    }
}
