//! Installing packages without their services: tests start instances of their own, on free ports.
//!
//! Debian's packages ask `/usr/sbin/policy-rc.d` whether they may start what they bring; without one they may. They
//! also enable it for the next boot, which nothing is asked about, so that is taken back where there is systemd.
//! Invariant: a file that was there before is left as it is, and one that is made here goes again.

use anyhow::{Context, Result};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{is_root, runs};

/// Answers every question with "action forbidden by policy".
const POLICY: &str = "#!/bin/sh\nexit 101\n";
/// Where systemd is the service manager, by its own convention.
const SYSTEMD: &str = "/run/systemd/system";

/// A file that is there for a while.
pub(crate) struct TemporaryFile(Option<PathBuf>);

impl TemporaryFile {
    /// Writes it unless there is one, whose owner then has decided, or this process may not install anything anyway.
    pub(crate) fn create(path: &Path, text: &str, mode: u32) -> Result<Self> {
        if !is_root() {
            return Ok(Self(None));
        }
        let cannot = || format!("{} cannot be written", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self(None)),
            opened => {
                let mut file = opened.with_context(cannot)?;
                let made = Self(Some(path.to_owned()));
                file.write_all(text.as_bytes()).with_context(cannot)?;
                Ok(made)
            }
        }
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            eprintln!("xtask: {} stays behind: {error}", path.display());
        }
    }
}

/// While packages are installed.
pub(crate) struct Quiet {
    _policy: TemporaryFile,
}

impl Quiet {
    /// From here on no package starts a service.
    pub(crate) fn begin() -> Result<Self> {
        let policy = TemporaryFile::create(Path::new("/usr/sbin/policy-rc.d"), POLICY, 0o755)?;
        Ok(Self { _policy: policy })
    }

    /// Keeps services of these packages from starting with the machine. Most packages have none of their name.
    pub(crate) fn end(self, packages: &[&str]) {
        if is_root() && Path::new(SYSTEMD).exists() {
            for package in packages {
                runs(Command::new("systemctl").arg("disable").arg(format!("{package}.service")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_there_stays_and_one_that_is_made_goes() {
        if !is_root() {
            return;
        }
        let folder = std::env::temp_dir().join(format!("xtask-quiet-{}", std::process::id()));
        let path = folder.join("policy-rc.d");
        let made = TemporaryFile::create(&path, POLICY, 0o755).expect("it can be written");
        drop(TemporaryFile::create(&path, "another", 0o755).expect("it is there"));
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), POLICY);
        assert_eq!(Command::new("sh").arg(&path).status().expect("it runs").code(), Some(101));
        drop(made);
        assert!(!path.exists());
        std::fs::remove_dir_all(&folder).expect("it is empty");
    }
}
