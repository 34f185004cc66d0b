//! One worker, as the pool sees it.
//!
//! Invariant: a worker whose answer was not waited for, whatever the reason, is killed when it is dropped, so an answer
//! never meets the wrong question.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::config::{Limits, SandboxConfig};
use crate::error::SandboxError;
use crate::frame::{self, ENVELOPE_BYTES, Reply};

/// How long the status of an ended worker is waited for. Nobody needs it but a log line.
const END_TIMEOUT: Duration = Duration::from_millis(50);

/// A worker that waits for work.
pub(crate) struct Worker {
    child: Child,
    requests: ChildStdin,
    replies: ChildStdout,
    evaluations_left: u32,
}

/// What came of one request.
pub(crate) enum Asked {
    Reply(Reply),
    /// Nothing until the deadline.
    Silent,
    /// The process ended.
    Ended(Option<ExitStatus>),
    /// It said something that is not a reply.
    Garbled(io::Error),
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    pub(crate) async fn start(config: &SandboxConfig) -> Result<Self, SandboxError> {
        let Some(program) = &config.program else {
            return Err(SandboxError::unavailable("this process has none, so it runs no scripts", None));
        };
        let mut command = Command::new(program);
        command
            .args(&config.arguments)
            // Nothing of ours: no secrets, no paths, no time zone.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal is for us; a worker ends when its input does.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            SandboxError::unavailable(format!("{} cannot be started", program.display()), error)
        })?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let Some((requests, replies)) = pipes else {
            return Err(SandboxError::unavailable("it has no pipes", None));
        };
        let evaluations_left = config.evaluations_per_worker.get();
        let mut worker = Self { child, requests, replies, evaluations_left };
        let ready = frame::read(&mut worker.replies, 0);
        match tokio::time::timeout(config.start_timeout(), ready).await {
            Ok(Ok(_)) => Ok(worker),
            Ok(Err(_)) => Err(SandboxError::ended_at_start(worker.status().await)),
            Err(_) => Err(SandboxError::unavailable("it did not start in time", None)),
        }
    }

    /// Sends a request and waits for its reply, or nearly until the deadline.
    pub(crate) async fn ask(&mut self, request: &[u8], limits: &Limits) -> Asked {
        self.evaluations_left = self.evaluations_left.saturating_sub(1);
        // The value in JSON may take six bytes a character where it took one before.
        let max_bytes = limits.output_bytes.saturating_mul(6).saturating_add(ENVELOPE_BYTES);
        let exchange = async {
            self.requests.write_all(request).await?;
            self.requests.flush().await?;
            frame::read(&mut self.replies, max_bytes).await
        };
        // Whoever asked is answered at the deadline, so a silent worker is given up a moment before.
        let patience = limits.deadline.saturating_mul(19) / 20;
        match tokio::time::timeout(patience, exchange).await {
            Err(_) => Asked::Silent,
            Ok(Ok(reply)) => match serde_json::from_slice(&reply) {
                Ok(reply) => Asked::Reply(reply),
                Err(error) => Asked::Garbled(error.into()),
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Asked::Garbled(error),
            Ok(Err(_)) => Asked::Ended(self.status().await),
        }
    }

    /// Whether it may be asked again.
    pub(crate) fn has_more(&self) -> bool {
        self.evaluations_left > 0
    }

    /// How it ended, once its pipe is closed.
    async fn status(&mut self) -> Option<ExitStatus> {
        tokio::time::timeout(END_TIMEOUT, self.child.wait()).await.ok()?.ok()
    }

    /// Its process id, for tests.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }
}
