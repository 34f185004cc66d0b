//! Sessions that `everline login` has begun, kept for the next commands.
//!
//! Owns: `$XDG_CONFIG_HOME/everline/credentials.json` (else `~/.config/everline/…`): for each server the tokens of one
//! session, and which server was logged in to last. Invariants: the file is for its owner alone (0600) and replaced as
//! a whole; it is changed under the lock of a file beside it, so that of several commands that find a token expired
//! one renews it and the others take what it has got: a refresh token is good for one use, and a second would end the
//! session. Deliberately absent: API keys, which have their own file and variable.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name of the file.
const FILE: &str = "credentials.json";
/// A longer file is not ours.
const MAX_BYTES: u64 = 1024 * 1024;

/// The tokens of a session, and whose it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSession {
    /// The user's e-mail, for people.
    pub email: String,
    /// The user's tenant, for people.
    pub tenant: String,
    /// What is sent with requests.
    pub access_token: String,
    /// What buys the next tokens.
    pub refresh_token: String,
    /// Until when the access token is good, in seconds of Unix time.
    pub expires_at: u64,
}

/// Without the tokens.
impl std::fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSession").field("email", &self.email).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    /// The server of the last login.
    #[serde(default)]
    last: Option<String>,
    #[serde(default)]
    servers: BTreeMap<String, StoredSession>,
}

/// The file of sessions.
#[derive(Debug, Clone)]
pub struct Credentials {
    directory: PathBuf,
}

/// The right to change the file, until it is dropped.
pub(super) struct Locked<'a> {
    credentials: &'a Credentials,
    _lock: File,
}

impl Credentials {
    /// Those of the process's user; `None` where the environment names no home.
    pub fn of_user() -> Option<Self> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A relative path is to be ignored, as the base directory specification has it.
        let configured = folder("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let base = configured.or_else(|| Some(folder("HOME")?.join(".config")))?;
        Some(Self { directory: base.join("everline") })
    }

    /// Those in a directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Where they are.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// The session on a server.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn session(&self, server: &str) -> anyhow::Result<Option<StoredSession>> {
        Ok(self.read()?.servers.remove(server))
    }

    /// The server of the last login that has not been logged out of.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_server(&self) -> anyhow::Result<Option<String>> {
        Ok(self.read()?.last)
    }

    /// Keeps the session of a login.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn keep(&self, server: &str, session: StoredSession) -> anyhow::Result<()> {
        self.lock()?.change(|document| {
            document.last = Some(server.to_owned());
            document.servers.insert(server.to_owned(), session);
        })
    }

    /// Forgets the session on a server.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn forget(&self, server: &str) -> anyhow::Result<()> {
        self.lock()?.change(|document| {
            document.servers.remove(server);
            document.last.take_if(|last| last == server);
        })
    }

    /// Waits until nobody else changes the file. Blocks: not for async threads.
    pub(super) fn lock(&self) -> anyhow::Result<Locked<'_>> {
        let context = || format!("cannot lock {}", self.path().display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).with_context(context)?;
        let path = self.directory.join("credentials.lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(path);
        let lock = lock.with_context(context)?;
        lock.lock().with_context(context)?;
        Ok(Locked { credentials: self, _lock: lock })
    }

    fn read(&self) -> anyhow::Result<Document> {
        let path = self.path();
        let context = || format!("cannot read {}; remove it and log in again", path.display());
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Document::default()),
            Err(error) => return Err(error).with_context(context),
        };
        anyhow::ensure!(length <= MAX_BYTES, "{} is too long; remove it and log in again", path.display());
        let bytes = fs::read(&path).with_context(context)?;
        serde_json::from_slice(&bytes).with_context(context)
    }
}

impl Locked<'_> {
    /// The session as it is now.
    pub(super) fn session(&self, server: &str) -> anyhow::Result<Option<StoredSession>> {
        self.credentials.session(server)
    }

    /// Replaces the tokens of a session.
    pub(super) fn renew(&self, server: &str, session: StoredSession) -> anyhow::Result<()> {
        self.change(|document| drop(document.servers.insert(server.to_owned(), session)))
    }

    fn change(&self, change: impl FnOnce(&mut Document)) -> anyhow::Result<()> {
        let mut document = self.credentials.read()?;
        change(&mut document);
        let path = self.credentials.path();
        let draft = self.credentials.directory.join(format!(".{FILE}.{}", uuid::Uuid::new_v4()));
        let write = || -> anyhow::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            serde_json::to_writer_pretty(&file, &document)?;
            file.write_all(b"\n")?;
            // Synced before it takes the place of the old one: a refresh token that is lost is a login that is lost.
            file.sync_all()?;
            Ok(fs::rename(&draft, &path)?)
        };
        write()
            .inspect_err(|_| drop(fs::remove_file(&draft)))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn session(token: &str) -> StoredSession {
        StoredSession {
            email: "a@b".to_owned(),
            tenant: "default".to_owned(),
            access_token: token.to_owned(),
            refresh_token: "evr_1".to_owned(),
            expires_at: 1,
        }
    }

    #[test]
    fn sessions_are_kept_per_server_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = Credentials::in_directory(&directory.path().join("new/everline"));
        assert_eq!(credentials.session("http://a").unwrap(), None);
        credentials.keep("http://a", session("1")).unwrap();
        credentials.keep("http://b", session("2")).unwrap();
        assert_eq!(credentials.last_server().unwrap().as_deref(), Some("http://b"));
        let mode = fs::metadata(credentials.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        credentials.forget("http://b").unwrap();
        assert_eq!(credentials.last_server().unwrap(), None);
        assert_eq!(credentials.session("http://a").unwrap(), Some(session("1")));
        assert!(!format!("{:?}", session("secret")).contains("secret"));
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = Credentials::in_directory(directory.path());
        fs::write(credentials.path(), "{").unwrap();
        assert!(credentials.keep("http://a", session("1")).is_err());
        assert_eq!(fs::read(credentials.path()).unwrap(), b"{");
    }
}
