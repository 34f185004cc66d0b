//! The pool: a few warm workers, and a bounded line before them.
//!
//! Invariants: at most `workers` processes evaluate at once, at most `queue` evaluations wait; a worker goes back into
//! the pool only after it gave the reply to its last request, and never after a limit was broken. A killed worker is
//! replaced when the next evaluation needs one: the time it takes to start is not the expression's.

use domain::blob::is_too_deep;
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::{Limits, SandboxConfig};
use crate::error::{Limit, SandboxError};
use crate::frame::{self, Reply};
use crate::process::{Asked, Worker};

/// Evaluates foreign expressions. Clones share the workers.
#[derive(Clone)]
pub struct Sandbox {
    pool: Arc<Pool>,
}

struct Pool {
    config: SandboxConfig,
    turns: Semaphore,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Worker>>,
}

/// Counts an evaluation that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sandbox {
    /// A pool without workers yet.
    pub fn new(config: SandboxConfig) -> Self {
        let turns = Semaphore::new(config.workers.get());
        let pool = Pool { config, turns, waiting: AtomicUsize::new(0), idle: Mutex::default() };
        Self { pool: Arc::new(pool) }
    }

    /// The value of a JavaScript expression. The fields of `context`, an object, are its variables.
    ///
    /// Values cross as JSON: whole numbers stay whole, and as in JavaScript those beyond 2⁵³ lose digits. `undefined`,
    /// functions, symbols, promises and `NaN` are no values; within arrays and objects they become what
    /// `JSON.stringify` makes of them.
    ///
    /// Cancel-safe: dropping the future kills the worker.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub async fn evaluate(
        &self,
        source: &str,
        context: &Value,
        limits: Limits,
    ) -> Result<Value, SandboxError> {
        if is_too_deep(context) {
            return Err(SandboxError::Limit(Limit::Depth));
        }
        let request = frame::request(source, context, &limits).map_err(SandboxError::Limit)?;
        let _turn = self.turn().await?;
        let reply = loop {
            let (mut worker, is_new) = match self.pool.take_idle() {
                Some(worker) => (worker, false),
                None => (Worker::start(&self.pool.config).await?, true),
            };
            match worker.ask(&request, &limits).await {
                Asked::Reply(reply) => {
                    if worker.has_more() && !matches!(reply, Reply::Limit(_)) {
                        self.pool.put_back(worker);
                    }
                    break reply;
                }
                Asked::Silent => {
                    tracing::info!(
                        worker.pid = worker.id(),
                        "a sandbox worker was killed at the deadline of a script"
                    );
                    break Reply::Limit(Limit::Deadline);
                }
                // One that had been idle may have ended before it was asked.
                Asked::Ended(_) if !is_new => {}
                Asked::Ended(status) => {
                    tracing::warn!(status = ?status, "a sandbox worker ended while it evaluated a script");
                    break Reply::Limit(Limit::Process);
                }
                Asked::Garbled(error) => {
                    return Err(SandboxError::unavailable("it gave something that is not a reply", error));
                }
            }
        };
        match reply {
            Reply::Value(value) if is_too_deep(&value) => Err(SandboxError::Limit(Limit::Depth)),
            Reply::Value(value) => Ok(value),
            Reply::Syntax(message) => Err(SandboxError::Syntax { message }),
            Reply::Failed(message) => Err(SandboxError::Failed { message }),
            Reply::Limit(limit) => Err(SandboxError::Limit(limit)),
        }
    }

    /// A place among those who evaluate.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, SandboxError> {
        let pool = &*self.pool;
        if let Ok(turn) = pool.turns.try_acquire() {
            return Ok(turn);
        }
        let before = pool.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&pool.waiting);
        if before >= pool.config.queue {
            return Err(SandboxError::Busy);
        }
        match tokio::time::timeout(pool.config.queue_timeout(), pool.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(SandboxError::Busy),
        }
    }

    /// What an evaluation may use by the settings.
    pub fn limits(&self) -> Limits {
        self.pool.config.limits()
    }

    /// The process ids of the idle workers, for tests and diagnosis.
    pub fn idle_workers(&self) -> Vec<u32> {
        self.pool.lock().iter().filter_map(Worker::id).collect()
    }
}

impl Pool {
    fn take_idle(&self) -> Option<Worker> {
        self.lock().pop()
    }

    fn put_back(&self, worker: Worker) {
        self.lock().push(worker);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        // Each use is one call on the list, so a panic elsewhere cannot leave it half-changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
