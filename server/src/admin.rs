//! The first admin's API key, kept in a file for the command line.

use anyhow::Context;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use uuid::Uuid;

use crate::secret::Secret;

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

/// Saves a key and a newline, readable by the owner alone. The file appears whole or not at all; one that a
/// deleted store has left behind is replaced.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn save_key(path: &Path, key: &Secret) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = parent.join(format!(".admin.key.{}", Uuid::new_v4()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(format!("{}\n", key.expose()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(parent)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&draft))).with_context(|| {
        format!(
            "cannot save the admin's API key in {}; make the directory writable and start again",
            path.display()
        )
    })
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
        save_key(&path, &Secret::new("evl_1")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"evl_1\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path).unwrap(), Some(Secret::new("evl_1")));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
