//! `everline` as a child process, in any role.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a start may take; a debug build on a busy machine is slow.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a graceful end may take.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// Where a process writes its log, in its data directory.
const LOG: &str = "process.log";
/// How much of it an error quotes.
const LAST_LINES: usize = 20;
/// Between two looks at whether a process is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running `everline`. Killed when it is dropped.
pub struct EverlineProcess {
    child: Child,
    log: PathBuf,
    /// Where it serves HTTP.
    pub url: String,
    /// The admin's API key, as far as its data directory has one; else empty.
    pub key: String,
    /// From start to ready.
    pub ready_after: Duration,
}

impl EverlineProcess {
    /// Starts `everline dev` on a data directory and a free port, and waits until it is ready.
    pub async fn start(program: &Path, data_dir: &Path) -> Result<Self> {
        let process = Self::begin(program, &["dev"], &[], data_dir).await?;
        anyhow::ensure!(!process.key.is_empty(), "there is no admin.key");
        Ok(process)
    }

    /// Starts the program with arguments such as `["serve", "gateway"]` and further variables of the environment, on
    /// a data directory and, unless the arguments name a port, a free one; waits until `/readyz` says so.
    pub async fn spawn(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
        data_dir: &Path,
    ) -> Result<Self> {
        let begun = Instant::now();
        let mut process = Self::begin(program, arguments, variables, data_dir).await?;
        process.ready().await?;
        process.ready_after = begun.elapsed();
        Ok(process)
    }

    /// As [`EverlineProcess::spawn`], but waits only until HTTP is served, which may not be ready.
    pub async fn begin(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
        data_dir: &Path,
    ) -> Result<Self> {
        let begun = Instant::now();
        let mut child = command(program, arguments, variables, data_dir)?
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let stdout = child.stdout.take().context("the process has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let greeting = async {
            let mut text = String::new();
            while let Some(line) = lines.next_line().await? {
                text.push_str(&line);
                if let Ok(greeting) = serde_json::from_str::<Value>(&text) {
                    return Ok(greeting);
                }
            }
            bail!("the process ended before it was ready; see {}", data_dir.join(LOG).display())
        };
        let greeting =
            tokio::time::timeout(START_PATIENCE, greeting).await.context("no greeting in time")??;
        let url = greeting["url"].as_str().context("the greeting has no url")?.to_owned();
        let key = std::fs::read_to_string(data_dir.join("admin.key")).unwrap_or_default();
        let log = data_dir.join(LOG);
        Ok(Self { child, log, url, key: key.trim().to_owned(), ready_after: begun.elapsed() })
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&mut self) -> Result<()> {
        // What reqwest needs before its first client; somebody else may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(STOP_PATIENCE).build()?;
        let url = format!("{}/readyz", self.url);
        let mut last = String::new();
        let begun = Instant::now();
        while begun.elapsed() < START_PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("the process ended with {status} before it was ready: {}", self.last_words());
            }
            match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("the process was not ready in time: {last}")
    }

    /// The operating system's id of the process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("the process cannot be killed")
    }

    /// `kill -TERM`, and waits for its graceful end.
    pub async fn stop(mut self) -> Result<()> {
        self.signal("TERM").await?;
        let status = self.ended().await?;
        anyhow::ensure!(status.success(), "the process ended with {status}: {}", self.last_words());
        Ok(())
    }

    /// `kill -STOP`: it does nothing at all until it is resumed.
    pub async fn pause(&self) -> Result<()> {
        self.signal("STOP").await
    }

    /// `kill -CONT`.
    pub async fn resume(&self) -> Result<()> {
        self.signal("CONT").await
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await;
        Ok(ended.context("the process did not end in time")??)
    }

    /// The last lines of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Sends a signal by its name, such as `TERM`.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().context("the process has ended already")?;
        // The shell's own `kill`: a bare machine has no program of that name.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await?;
        anyhow::ensure!(sent.success(), "the process cannot be signalled");
        Ok(())
    }
}

/// The program on a data directory, with its log in `process.log` there.
fn command(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
    data_dir: &Path,
) -> Result<Command> {
    let log_file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(data_dir.join(LOG))
        .context("the process's log file cannot be opened")?;
    let mut command = Command::new(program);
    // The tests' own settings begin with EVERLINE_ too; the program would refuse them as unknown keys.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVERLINE_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    if !arguments.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    command
        .args(["--output", "json", "--data-dir"])
        .arg(data_dir)
        .env("EVERLINE_LOG_FORMAT", "json")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .kill_on_drop(true);
    Ok(command)
}
