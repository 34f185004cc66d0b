//! One attempt, from its task to its report.
//!
//! Invariants: an attempt that is asked to stop before it is done sends nothing; one that is done is reported,
//! also if it is asked to stop meanwhile, because late results count. Beats go on until the report is answered.

use bus::{Beat, Task};
use domain::blob::BlobRef;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::NodeError;
use futures::FutureExt;
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

use crate::credentials;
use crate::failure;
use crate::nodes::{ConfigForm, NodeContext};
use crate::report::Backoff;
use crate::running::Held;
use crate::runtime::Shared;

impl Shared {
    /// Carries out one task and reports how it ended.
    pub(crate) async fn carry_out(&self, task: Task) {
        let Some(held) = self.running.hold(&task.task) else {
            tracing::debug!(execution.id = %task.task.execution, node.id = task.task.node.node_id,
                "the worker was given an attempt that it already carries out");
            return;
        };
        let remaining = Duration::from_millis(task.deadline.since_ms(self.clock.now()));
        let deadline = Instant::now() + remaining;
        let work = async {
            match self.attempt(&task, deadline, &held).await {
                Some(result) => self.report(&task, deadline, result).await,
                None => tracing::debug!(execution.id = %task.task.execution,
                    node.id = task.task.node.node_id, node.attempt = task.task.node.attempt,
                    "the worker stopped an attempt as it was asked to"),
            }
        };
        tokio::select! {
            biased;
            () = work => {}
            () = self.beat(&task) => {}
            () = self.say_started(&task) => {}
        }
    }

    /// The attempt's result; none if it was asked to stop.
    async fn attempt(
        &self,
        task: &Task,
        deadline: Instant,
        held: &Held<'_>,
    ) -> Option<Result<Value, NodeError>> {
        // A task that waited too long in the queue must not have an effect any more.
        if deadline <= Instant::now() {
            return Some(Err(failure::timeout()));
        }
        let work = AssertUnwindSafe(self.execute(task, deadline)).catch_unwind();
        tokio::select! {
            biased;
            () = held.asked_to_stop() => None,
            result = work => Some(result.unwrap_or_else(|_| {
                // What a panic says may hold what was being worked on, so it does not go into the log of events.
                Err(failure::custom(
                    format!("the executor of `{}` has a defect and was stopped", task.node_type.as_str()),
                    Value::Null,
                ))
            })),
            () = tokio::time::sleep_until(deadline) => Some(Err(failure::timeout())),
        }
    }

    async fn execute(&self, task: &Task, deadline: Instant) -> Result<Value, NodeError> {
        let Some(executor) = self.executors.get(task.node_type) else {
            return Err(failure::invalid_config(format!(
                "this worker does not carry out nodes of type `{}`",
                task.node_type.as_str()
            )));
        };
        let config = self.config_of(task).await?;
        let config = match executor.config_form() {
            ConfigForm::Parts => credentials::resolve(config)?,
            ConfigForm::Data => config,
        };
        executor.execute(NodeContext { task, config, deadline }).await
    }

    /// The rendered configuration, fetched if it travelled by reference.
    async fn config_of(&self, task: &Task) -> Result<Value, NodeError> {
        let Some(reference) = BlobRef::from_value(&task.config) else {
            return Ok(task.config.clone());
        };
        let mut backoff = Backoff::new();
        // The attempt's deadline bounds the loop: it drops this future.
        let content = loop {
            match self.blobs.get(&task.tenant, &reference).await {
                Ok(content) => break content,
                Err(error) => {
                    tracing::warn!(%error, blob.sha256 = reference.sha256,
                        "a node's configuration could not be read; trying again");
                    backoff.pause().await;
                }
            }
        };
        let missing = || {
            let message = format!("the content {} of the node's configuration is missing", reference.sha256);
            failure::custom(message, Value::Null)
        };
        serde_json::from_slice(&content.ok_or_else(missing)?).map_err(|_| missing())
    }

    /// Signs of life, for ever.
    async fn beat(&self, task: &Task) {
        let every = self.config.beat_interval();
        // A node may be less patient than the owners' setting, by which the interval was chosen.
        let every = match task.heartbeat_timeout_ms {
            Some(ms) => every.min(Duration::from_millis((ms / 3).max(1))),
            None => every,
        };
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tasks.beat(Beat { task: task.task.clone(), worker: self.config.worker.clone() });
        }
    }

    /// Says once that the attempt is running, if it takes long enough to be worth an event; never resolves.
    async fn say_started(&self, task: &Task) {
        tokio::time::sleep(self.config.started_after()).await;
        let command =
            ExecutionCommand::StartNode { node: task.task.node.clone(), worker: self.config.worker.clone() };
        // Only for people who watch, so it is not sent again.
        if let Err(error) = self.commands.send(self.envelope(task, command)).await {
            tracing::debug!(%error, execution.id = %task.task.execution,
                "the worker could not say that an attempt is running");
        }
        std::future::pending().await
    }
}
