//! What can be set: about the pool, and about one evaluation.

use serde::Deserialize;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// Workers if nothing else is said. Each takes some 25 MiB, most of it the program that all share, and while it
/// evaluates a core.
const DEFAULT_WORKERS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not zero");
/// Evaluations of a worker if nothing else is said.
const DEFAULT_EVALUATIONS: NonZeroU32 = NonZeroU32::new(1_000).expect("1000 is not zero");
/// Bytes of a mebibyte.
const MIB: usize = 1024 * 1024;

/// The settings of a pool of workers.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// The program whose processes the workers are. None: there are no workers, and every evaluation says so.
    #[serde(skip)]
    pub program: Option<PathBuf>,
    /// What it is called with, so that it becomes a worker.
    #[serde(skip)]
    pub arguments: Vec<String>,
    /// How many workers there are at most, and so how many evaluations at once. They start when they are needed.
    pub workers: NonZeroUsize,
    /// How many evaluations may wait for a worker; further ones are refused at once.
    pub queue: usize,
    /// How long an evaluation waits for a worker before it is refused, in milliseconds.
    pub queue_timeout_ms: u32,
    /// How long a worker may take to start, in milliseconds.
    pub start_timeout_ms: u32,
    /// After how many evaluations a worker makes room for a new one.
    pub evaluations_per_worker: NonZeroU32,
    /// How long one evaluation may take, in milliseconds; then its worker is killed.
    pub deadline_ms: NonZeroU32,
    /// Memory of one evaluation, in MiB.
    pub memory_mb: NonZeroU32,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            program: None,
            arguments: vec!["sandbox-worker".to_owned(), "js".to_owned()],
            workers: DEFAULT_WORKERS,
            queue: 64,
            queue_timeout_ms: 2_000,
            start_timeout_ms: 10_000,
            evaluations_per_worker: DEFAULT_EVALUATIONS,
            deadline_ms: const { NonZeroU32::new(100).expect("100 is not zero") },
            memory_mb: const { NonZeroU32::new(64).expect("64 is not zero") },
        }
    }
}

impl SandboxConfig {
    /// The defaults, with workers that are processes of `program`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: Some(program.into()), ..Self::default() }
    }

    /// What an evaluation may use by these settings.
    pub fn limits(&self) -> Limits {
        Limits {
            deadline: Duration::from_millis(u64::from(self.deadline_ms.get())),
            memory_bytes: (self.memory_mb.get() as usize).saturating_mul(MIB),
            ..Limits::default()
        }
    }

    pub(crate) fn queue_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.queue_timeout_ms))
    }

    pub(crate) fn start_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.start_timeout_ms))
    }
}

/// What one evaluation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the worker's getting the expression to the caller's getting an answer. The engine stops itself at four fifths of it,
    /// and a worker that does not answer then is killed at nineteen twentieths. The start of a worker and the wait for one
    /// do not count.
    pub deadline: Duration,
    /// Memory of the engine, in bytes.
    pub memory_bytes: usize,
    /// The JSON of the value, in bytes.
    pub output_bytes: usize,
    /// The expression and the JSON of its context together, in bytes.
    pub input_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            memory_bytes: 64 * MIB,
            output_bytes: MIB,
            input_bytes: MIB,
        }
    }
}
