//! Real clients against a real process: curl, httpx, websockets, nats-py, an OpenID Connect provider, the program itself.

mod curl;
mod devices;
mod httpx;
mod nats;
mod provider;
mod sessions;
mod websockets;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::command_line::everline;
use crate::harness::{Client, install_tls, within};

pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const ADMIN: &str = "admin@everline.local";

/// `everline dev` as a process of its own.
pub(crate) struct Live {
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) directory: tempfile::TempDir,
    _child: Child,
}

impl Live {
    pub(crate) async fn start(configuration: &str) -> Self {
        Self::start_on(test_services::free_port().unwrap(), configuration).await
    }

    pub(crate) async fn start_on(port: u16, configuration: &str) -> Self {
        install_tls();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("everline.toml"), configuration).unwrap();
        let port = port.to_string();
        let arguments = ["dev", "--data-dir", "data", "--port", &port, "--output", "json"];
        let mut command = everline(directory.path(), &arguments);
        command.env("EVERLINE_BOOTSTRAP_ADMIN_PASSWORD", PASSWORD).stdout(Stdio::piped());
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut child = command.stderr(log).spawn().unwrap();
        let greeting = first_line(&mut child).await;
        let greeting = greeting.unwrap_or_else(|| panic!("{}", said(directory.path())));
        let greeting: Value = serde_json::from_str(&greeting).unwrap();
        let url = greeting["url"].as_str().unwrap().to_owned();
        let key = std::fs::read_to_string(directory.path().join("data/admin.key")).unwrap();
        let client = Client::new(&url, key.trim());
        Self { url, client, directory, _child: child }
    }

    /// What the process has logged.
    pub(crate) fn log(&self) -> String {
        said(self.directory.path())
    }
}

/// What a process says first. The rest is read and thrown away, so that no program dies of a closed pipe.
async fn first_line(child: &mut Child) -> Option<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = within("the start", lines.next_line()).await.unwrap();
    let mut rest = lines.into_inner();
    tokio::spawn(async move {
        let mut thrown_away = [0; 4096];
        while rest.read(&mut thrown_away).await.is_ok_and(|read| read > 0) {}
    });
    first
}

fn said(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("log")).unwrap_or_default()
}

/// A script beside this file, in Python.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(here(script)).env("PYTHONPATH", python_path()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a script whose assertions are its own: it ends well, or says which was wrong.
pub(crate) async fn passes(mut command: Command) -> String {
    let done = within("the client", command.output()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    out.into_owned()
}

pub(crate) fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name)
}

/// Where Python's packages are, as `cargo xtask test` has fetched them.
pub(crate) fn python_path() -> PathBuf {
    fetched("TEST_SERVICES_PYTHON_PATH", "python-2.16.0-0.28.1-17.4")
}

/// What `cargo xtask test` has fetched: where it says, or where it keeps it.
pub(crate) fn fetched(variable: &str, folder: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache/everline-test").join(folder)
}
