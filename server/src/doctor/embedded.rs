//! The embedded store, without opening it: that would migrate it, and needs its server stopped.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use uuid::Uuid;

use super::Findings;
use crate::config::{Config, DatabaseUrl};

pub(super) fn look(log: &Path, config: &Config, findings: &mut Findings) {
    look_at_file("log", log, findings);
    if let DatabaseUrl::Sqlite(models) = config.read_model_database() {
        look_at_file("read_models", &models, findings);
    }
    look_at_lock(log, findings);
}

fn look_at_file(check: &'static str, path: &Path, findings: &mut Findings) {
    let shown = path.display();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        return findings.ok(check, format!("{shown} is not there yet; the first start creates it"));
    }
    if let Err(error) = try_to_write(directory) {
        return findings.broken(check, format!("{} cannot be written: {error}", directory.display()));
    }
    match path.metadata() {
        Err(_) => findings.ok(check, format!("{shown} is not there yet; the first start creates it")),
        Ok(metadata) if !metadata.is_file() => findings.broken(check, format!("{shown} is not a file")),
        Ok(metadata) => match OpenOptions::new().append(true).open(path) {
            Ok(_) => findings.ok(check, format!("{shown} can be written, {} bytes", metadata.len())),
            Err(error) => findings.broken(check, format!("{shown} cannot be written: {error}")),
        },
    }
}

/// Makes a file and removes it.
pub(super) fn try_to_write(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".everline-doctor-{}", Uuid::new_v4()));
    File::create_new(&path)?;
    std::fs::remove_file(path)
}

/// Who has the log is known by the lock on a file beside it.
fn look_at_lock(log: &Path, findings: &mut Findings) {
    let mut lock = log.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let Ok(file) = File::open(&lock) else {
        return findings.ok("lock", "no process has the log");
    };
    // Shared, and given back at once: a server that starts in this moment would be refused.
    match file.try_lock_shared() {
        Ok(()) => findings.ok("lock", "no process has the log"),
        Err(TryLockError::WouldBlock) => findings.ok("lock", "a process has the log"),
        Err(TryLockError::Error(error)) => {
            findings.broken("lock", format!("{} cannot be locked: {error}", lock.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use event_store::sqlite::{SqliteLog, SqliteOptions};

    fn config(directory: &Path) -> Config {
        Config { data_dir: directory.to_owned(), ..Config::default() }
    }

    fn states(findings: &Findings) -> Vec<(&'static str, State)> {
        findings.0.iter().map(|finding| (finding.check, finding.state)).collect()
    }

    #[tokio::test]
    async fn whether_a_process_has_the_log_is_seen_without_taking_it_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.db");
        let config = config(directory.path());
        let mut findings = Findings::default();
        look(&path, &config, &mut findings);
        assert!(findings.0.iter().all(|finding| finding.state == State::Ok), "{findings:?}");

        let log = SqliteLog::open(&path, SqliteOptions::default()).await.unwrap();
        let mut findings = Findings::default();
        look(&path, &config, &mut findings);
        assert_eq!(findings.0[2].detail, "a process has the log");
        drop(log);
    }

    #[test]
    fn a_log_that_is_a_directory_is_broken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.db");
        std::fs::create_dir(&path).unwrap();
        let mut findings = Findings::default();
        look(&path, &config(directory.path()), &mut findings);
        assert_eq!(states(&findings)[0], ("log", State::Broken));
    }
}
