//! Why there is no value.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::process::ExitStatus;

/// Why an evaluation gave no value.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The source is not one expression.
    #[error("{message}")]
    Syntax {
        /// What is wrong, and in which line and column.
        message: String,
    },
    /// It threw something, or what it gave is not JSON.
    #[error("{message}")]
    Failed {
        /// What was thrown, or what is wrong with the value. Written by the expression's author: at most 1 KiB.
        message: String,
    },
    /// It needed more than it may have.
    #[error("{0}")]
    Limit(Limit),
    /// All workers are busy, and enough evaluations wait for them. Another try can help.
    #[error("too many scripts at once; try again shortly")]
    Busy,
    /// There is no worker. An operator must act.
    #[error("a sandbox worker cannot be used: {reason}")]
    Unavailable {
        /// What happened to it.
        reason: String,
        /// Below it, if anything.
        #[source]
        source: Option<std::io::Error>,
    },
}

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Time.
    Deadline,
    /// Memory.
    Memory,
    /// Calls within calls.
    Stack,
    /// The value's JSON is too long.
    Output,
    /// Expression and context are too long.
    Input,
    /// Context or value are nested too deeply.
    Depth,
    /// The worker's process ended while it evaluated: the operating system's limits, or a defect of the engine.
    Process,
}

impl Limit {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::Input => "input",
            Self::Depth => "depth",
            Self::Process => "process",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "the script took too long and was stopped; let it do less",
            Self::Memory => "the script needs more memory than it may have; make smaller texts and lists",
            Self::Stack => "the script's calls are nested too deeply; use a loop",
            Self::Output => "the script's value is too large; give back less",
            Self::Input => "the script and its context are too large; send less",
            Self::Depth => "the script's context or value is nested too deeply; make it flatter",
            Self::Process => "the script ended the process that ran it; let it do less",
        })
    }
}

impl SandboxError {
    pub(crate) fn unavailable(reason: impl Into<String>, source: impl Into<Option<std::io::Error>>) -> Self {
        Self::Unavailable { reason: reason.into(), source: source.into() }
    }

    /// The worker is gone before it was asked anything.
    pub(crate) fn ended_at_start(status: Option<ExitStatus>) -> Self {
        let how = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
        Self::unavailable(format!("it ended when it started ({how})"), None)
    }
}
