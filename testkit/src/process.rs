//! `everline dev` as a child process.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a start may take; a debug build on a busy machine is slow.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a graceful end may take.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// A running `everline dev`. Killed when it is dropped.
pub struct EverlineProcess {
    child: Child,
    /// Where it serves HTTP.
    pub url: String,
    /// The admin's API key.
    pub key: String,
    /// From start to ready.
    pub ready_after: Duration,
}

impl EverlineProcess {
    /// Starts the program on a data directory and a free port, and waits until it is ready.
    pub async fn start(program: &Path, data_dir: &Path) -> Result<Self> {
        let begun = Instant::now();
        let log_file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(data_dir.join("process.log"))
            .context("the process's log file cannot be opened")?;
        let mut command = Command::new(program);
        // The tests' own settings begin with EVERLINE_ too; the program would refuse them as unknown keys.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVERLINE_"))
        {
            command.env_remove(name);
        }
        let mut child = command
            .args(["dev", "--port", "0", "--output", "json", "--data-dir"])
            .arg(data_dir)
            .env("EVERLINE_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .kill_on_drop(true)
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
            bail!("the process ended before it was ready; see process.log in its data directory")
        };
        let greeting =
            tokio::time::timeout(START_PATIENCE, greeting).await.context("no greeting in time")??;
        let url = greeting["url"].as_str().context("the greeting has no url")?.to_owned();
        let key = std::fs::read_to_string(data_dir.join("admin.key")).context("there is no admin.key")?;
        Ok(Self { child, url, key: key.trim().to_owned(), ready_after: begun.elapsed() })
    }

    /// Starts the program with arguments, waits for `/readyz` on the port among them.
    pub async fn spawn(
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        data_dir: &Path,
    ) -> Result<Self> {
        let begun = Instant::now();
        let log_file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(data_dir.join("process.log"))
            .context("the process's log file cannot be opened")?;
        let mut command = Command::new(program);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVERLINE_"))
        {
            command.env_remove(name);
        }
        let mut child = command
            .args(arguments)
            .arg("--data-dir")
            .arg(data_dir)
            .env("EVERLINE_LOG_FORMAT", "json")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let port =
            arguments.iter().skip_while(|argument| **argument != "--port").nth(1).context("no port")?;
        let url = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(Duration::from_secs(2))
            .build()?;
        loop {
            if let Ok(answer) = http.get(format!("{url}/readyz")).send().await
                && answer.status().is_success()
            {
                return Ok(Self { child, url, key: String::new(), ready_after: begun.elapsed() });
            }
            if let Some(status) = child.try_wait()? {
                bail!("the process ended with {status}");
            }
            anyhow::ensure!(begun.elapsed() < START_PATIENCE, "the process is not ready in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Stop.
    pub async fn pause(&self) -> Result<()> {
        self.signal("STOP").await
    }

    /// Cont.
    pub async fn resume(&self) -> Result<()> {
        self.signal("CONT").await
    }

    async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().context("the process has ended already")?;
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await?;
        anyhow::ensure!(sent.success(), "the process cannot be signalled");
        Ok(())
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
        let pid = self.child.id().context("the process has ended already")?;
        // The shell's own `kill`: a bare machine has no program of that name.
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await?;
        anyhow::ensure!(sent.success(), "the process cannot be signalled");
        let status = tokio::time::timeout(STOP_PATIENCE, self.child.wait())
            .await
            .context("the process did not end in time")??;
        anyhow::ensure!(status.success(), "the process ended with {status}");
        Ok(())
    }
}
