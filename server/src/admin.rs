//! The first admin's API key, kept in a file for the command line.

use anyhow::Context;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

use crate::secret::Secret;

/// How the name of a draft begins.
const DRAFT: &str = ".admin.key.";
/// Longer files are not a key.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// The admin that the first start of a store creates.
#[derive(Debug, Clone)]
pub struct AdminKey {
    /// The e-mail to log in with, as configured.
    pub email: String,
    /// The API key; `None` where a later start finds no `admin.key`.
    pub key: Option<Secret>,
    /// The password, where this start has made one up.
    pub password: Option<Secret>,
    /// Whether this start has created the admin.
    pub created: bool,
}

/// Reads a saved key; `None` if there is no file.
///
/// # Errors
/// The file cannot be read, or is not a key.
pub fn read_key(path: &Path) -> anyhow::Result<Option<Secret>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the API key in {}", path.display()));
        }
    };
    anyhow::ensure!(length <= MAX_KEY_FILE_BYTES, "{} is too long to hold an API key", path.display());
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the API key in {}", path.display()))?;
    Ok(Some(text.trim()).filter(|key| !key.is_empty()).map(Secret::new))
}

/// A saved key that may not become valid: another process may be making the first admin at the same time, perhaps on
/// the same directory.
///
/// Saved before the key is valid, so that no crash can leave an admin whose key nobody has: a later start finds the
/// draft ([`drafts`]).
pub(crate) struct KeyDraft {
    draft: PathBuf,
    path: PathBuf,
}

impl KeyDraft {
    /// Saves a key and a newline beside where it will be, readable by the owner alone.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn save(path: &Path, key: &Secret) -> anyhow::Result<Self> {
        let draft = directory_of(path).join(format!("{DRAFT}{}", Uuid::new_v4()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(format!("{}\n", key.expose()).as_bytes())?;
            file.sync_all()?;
            File::open(directory_of(path))?.sync_all()
        };
        write().inspect_err(|_| drop(fs::remove_file(&draft))).with_context(|| unwritable(path))?;
        Ok(Self { draft, path: path.to_owned() })
    }

    /// A draft that an earlier start has left.
    pub(crate) fn found(draft: PathBuf, path: &Path) -> Self {
        Self { draft, path: path.to_owned() }
    }

    /// Puts it where keys are looked for. A key that lies there is of another store, perhaps the only one to it: it is
    /// set aside under a name of its own.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn keep(self) -> anyhow::Result<()> {
        let keep = || {
            if self.path.exists() {
                let aside = self.path.with_extension(format!("key.{}", Uuid::new_v4()));
                fs::rename(&self.path, &aside)?;
                tracing::warn!(
                    "a key of another store lay in {} and is now in {}",
                    self.path.display(),
                    aside.display()
                );
            }
            fs::rename(&self.draft, &self.path)?;
            File::open(directory_of(&self.path))?.sync_all()
        };
        keep().with_context(|| unwritable(&self.path))
    }

    /// Removes it.
    pub(crate) fn discard(self) {
        if let Err(error) = fs::remove_file(&self.draft) {
            tracing::warn!(%error, "a draft of an API key that is not valid stays behind");
        }
    }
}

/// The drafts that earlier starts have left beside a key file.
pub(crate) fn drafts(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory_of(path)).into_iter().flatten().flatten();
    let drafts = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(DRAFT));
    drafts.map(|entry| entry.path()).collect()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn unwritable(path: &Path) -> String {
    format!(
        "cannot save the admin's API key in {}; make the directory writable and start again",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_saved_key_is_for_the_owner_alone_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.key");
        assert!(read_key(&path).unwrap().is_none());
        fs::write(&path, "of an earlier store").unwrap();
        KeyDraft::save(&path, &Secret::new("evl_0")).unwrap().discard();
        assert!(drafts(&path).is_empty());
        let draft = KeyDraft::save(&path, &Secret::new("evl_1")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"of an earlier store");
        assert_eq!(drafts(&path), std::slice::from_ref(&draft.draft));
        draft.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"evl_1\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path).unwrap(), Some(Secret::new("evl_1")));
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            2,
            "the key, and the one of the earlier store"
        );
    }
}
