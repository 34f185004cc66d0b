//! Where the servers' programs are.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Says where Postgres's server programs are, as `cargo xtask test` found or installed them.
const POSTGRES_BIN: &str = "TEST_SERVICES_POSTGRES_BIN";
/// Says which nats-server is the oldest supported, 2.9.
const NATS_OLD: &str = "TEST_SERVICES_NATS_OLD";
/// Says which nats-server is new, 2.14 or later.
const NATS_NEW: &str = "TEST_SERVICES_NATS_NEW";
/// Where Debian keeps Postgres, a folder a version.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// The folder of `initdb` and `postgres`.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(POSTGRES_BIN) {
        return Ok(folder.into());
    }
    let versions = std::fs::read_dir(DEBIAN_POSTGRES).into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max()
        .with_context(|| format!("no Postgres under {DEBIAN_POSTGRES}; run `cargo xtask test`, which installs it, or set {POSTGRES_BIN}"))
}

/// The oldest supported nats-server.
pub(crate) fn nats_old() -> Result<PathBuf> {
    let debian = Path::new("/usr/sbin/nats-server");
    named(NATS_OLD).or_else(|| debian.exists().then(|| debian.to_owned())).with_context(|| {
        format!("no nats-server 2.9; run `cargo xtask test`, which installs it, or set {NATS_OLD}")
    })
}

/// A new nats-server.
pub(crate) fn nats_new() -> Result<PathBuf> {
    named(NATS_NEW).or_else(cached_nats).with_context(|| {
        format!("no new nats-server; run `cargo xtask test`, which fetches it, or set {NATS_NEW}")
    })
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// Where `cargo xtask test` keeps the one that it fetched.
fn cached_nats() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let files = std::fs::read_dir(cache.join("everline-test")).ok()?.flatten();
    files
        .map(|file| file.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nats-server-"))
        })
        .max()
}
