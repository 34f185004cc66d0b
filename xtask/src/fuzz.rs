//! `cargo xtask fuzz`: schemathesis over the whole OpenAPI document, as two tenants' admins, a viewer and nobody.
//!
//! Starts a server of its own on a free port and a data directory that goes again; `xtask/fuzz/fuzz.py` seeds it and
//! runs schemathesis, which comes from a Python package of a fixed version. Invariants: a brief run takes the same
//! cases every time; nothing that is started here is left running.

use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{services, succeeds, tools, workspace};

/// How long a brief run fuzzes, in seconds: the callers at the same time.
const BRIEF_S: u64 = 20;
/// Chooses the cases.
const SEED: &str = "20261121";
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fuzzes for so many minutes, or briefly. True if nothing was found.
pub(crate) fn run(minutes: Option<u64>) -> Result<bool> {
    let root = workspace()?;
    let python_path = services::schemathesis(&root.join("xtask/fuzz/requirements.txt"))?;
    if !succeeds(tools::cargo(&["build", "--quiet", "--package", "server"]).current_dir(&root))? {
        bail!("the server does not build");
    }
    let folder = std::env::temp_dir().join(format!("everline-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    let outcome = with_server(&root, &folder, |url, key| {
        let seconds = minutes.map_or(BRIEF_S, |minutes| minutes * 60).to_string();
        let mut python = Command::new("python3");
        python.arg(root.join("xtask/fuzz/fuzz.py")).args([url, key, &seconds, SEED]);
        python.env("PYTHONPATH", &python_path).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONHASHSEED", "0");
        succeeds(&mut python)
    });
    if matches!(outcome, Ok(true)) {
        // After a finding its log and data are of use.
        std::fs::remove_dir_all(&folder).with_context(|| format!("{} stays behind", folder.display()))?;
    } else {
        println!("fuzz: the server's log and data are in {}", folder.display());
    }
    outcome
}

/// A server while something is done with it.
fn with_server(
    root: &Path,
    folder: &Path,
    work: impl FnOnce(&str, &str) -> Result<bool>,
) -> Result<bool> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let log = std::fs::File::create(folder.join("server.log"))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut everline = Command::new(root.join(target).join("debug/everline"));
    everline.args(["dev", "--port", &port.to_string(), "--data-dir"]).arg(folder.join("data"));
    // Who fuzzes asks more often than anybody else.
    everline.env("EVERLINE_GATEWAY__LIMITS__ANONYMOUS_PER_IP", "0").env("EVERLINE_LOG", "info");
    everline.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let server = Server(everline.spawn().with_context(|| format!("{everline:?} does not start"))?);
    let key = admin_key(&folder.join("data/admin.key"))?;
    let found = work(&format!("http://127.0.0.1:{port}"), &key);
    drop(server);
    let said = std::fs::read_to_string(folder.join("server.log"))?;
    let panicked = said.lines().filter(|line| line.contains("panicked")).count();
    if panicked > 0 {
        println!("fuzz: the server's log tells of {panicked} panics");
    }
    Ok(found? && panicked == 0)
}

/// The admin's key, once the server has written it.
fn admin_key(path: &Path) -> Result<String> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match std::fs::read_to_string(path) {
            Ok(key) if key.ends_with('\n') => return Ok(key.trim().to_owned()),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    bail!("the server has not written {} in time", path.display())
}

/// A server that is stopped when it goes.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            eprintln!("xtask: the server could not be stopped: {error}");
        }
    }
}
