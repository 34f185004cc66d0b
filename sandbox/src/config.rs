//! What can be set: about the pool, and about one evaluation.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Workers if nothing else is said. Each takes some 10 MiB, and while it evaluates a core.
const DEFAULT_WORKERS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not zero");

/// The settings of a pool of workers.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The program whose processes the workers are.
    pub program: PathBuf,
    /// What it is called with, so that it becomes a worker.
    pub arguments: Vec<String>,
    /// How many workers there are at most, and so how many evaluations at once. They start when they are needed.
    pub workers: NonZeroUsize,
    /// How many evaluations may wait for a worker; further ones are refused at once.
    pub queue: usize,
    /// How long an evaluation waits for a worker before it is refused.
    pub queue_timeout: Duration,
    /// How long a worker may take to start.
    pub start_timeout: Duration,
    /// After how many evaluations a worker makes room for a new one.
    pub evaluations_per_worker: u32,
}

impl SandboxConfig {
    /// The defaults, with workers that are processes of `program`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec!["sandbox-worker".to_owned(), "js".to_owned()],
            workers: DEFAULT_WORKERS,
            queue: 64,
            queue_timeout: Duration::from_secs(2),
            start_timeout: Duration::from_secs(10),
            evaluations_per_worker: 1_000,
        }
    }
}

/// What one evaluation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the worker's getting the expression to its answer. The start of a worker and the wait for one do not count.
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
            memory_bytes: 64 * 1024 * 1024,
            output_bytes: 1024 * 1024,
            input_bytes: 1024 * 1024,
        }
    }
}
