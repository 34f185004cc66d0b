//! Who is silent: signs of life, tasks that the queue has lost, workers that are lost, and what is told of them.

use futures::StreamExt;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use bus::tasks::{Beat, Task, TaskRef, Waiting};
use bus::{CommandError, CommandHandler};
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::{Actor, Slot, derived_id};
use domain::time::Timestamp;

use super::tasks::Lease;
use super::{Dispatcher, Stop};

/// Questions to the queue at the same time.
const MAX_ASKING: usize = 16;

/// What the dispatcher knows of an attempt and no worker will tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Its worker gave no sign of life.
    Lost,
    /// It was asked to stop before anybody had it.
    NeverBegun,
}

impl Dispatcher {
    /// Asks the queue for tasks that no worker has, and publishes those anew that it has lost.
    pub(super) async fn ask_for_missing(&self) {
        let now = Instant::now();
        let unheard: Vec<TaskRef> = {
            let tasks = self.tasks();
            let silent = tasks.out.values().filter(|lease| lease.beat_at.is_none() && !lease.stopping);
            let due = silent.filter(|lease| lease.ask_at <= now);
            due.map(|lease| lease.task.task.clone()).collect()
        };
        futures::stream::iter(unheard)
            .for_each_concurrent(MAX_ASKING, |task| async move {
                let waiting = self.queue.is_waiting(&task).await;
                if let Some(lost) = self.lost_from_queue(&task, waiting) {
                    tracing::warn!(
                        execution.id = %lost.task.execution, node.id = lost.task.node.node_id,
                        node.attempt = lost.task.node.attempt, "the queue has lost a task; it is handed out again"
                    );
                    self.queue.publish(lost).await;
                }
            })
            .await;
    }

    /// What the queue says of a task. Returns the task if it must be published again.
    fn lost_from_queue(&self, task: &TaskRef, waiting: Waiting) -> Option<Task> {
        let (now, ask_at, lost_after) = (Instant::now(), self.ask_at(), self.lost_after());
        let mut tasks = self.tasks();
        let lease = tasks.out.get_mut(task).filter(|lease| lease.beat_at.is_none() && !lease.stopping)?;
        lease.ask_at = ask_at;
        match waiting {
            Waiting::Yes => lease.missing_since = None,
            Waiting::Unknown => {}
            Waiting::No => {
                let since = *lease.missing_since.get_or_insert(now);
                if now.duration_since(since) >= lost_after {
                    // Perhaps it was only its sign of life that was lost.
                    *lease = Lease::published(lease.task.clone(), true, ask_at);
                    return Some(lease.task.clone());
                }
            }
        }
        None
    }

    /// Gives every leased task a fresh start.
    pub(super) fn hear_all(&self) {
        let now = Instant::now();
        let mut tasks = self.tasks();
        for lease in tasks.out.values_mut() {
            lease.missing_since = None;
            lease.beat_at = lease.beat_at.map(|_| now);
        }
        tasks.listen_until(now + self.config.redeliver_after());
    }

    pub(super) fn beat(&self, beat: &Beat) {
        let now = Instant::now();
        let mut tasks = self.tasks();
        match tasks.out.get_mut(&beat.task) {
            Some(lease) => {
                lease.heard(now);
                if lease.stopping {
                    drop(tasks);
                    // It has not heard that it is to stop.
                    self.queue.cancel(beat.task.clone());
                }
            }
            None => tasks.heard_elsewhere(&beat.task, now),
        }
    }

    /// Tasks to hand out again, and tasks whose worker is lost.
    pub(super) fn silent(&self) -> (Vec<Task>, Vec<Task>) {
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for lease in self.tasks().out.values_mut() {
            // A task without a beat waits in the queue, which is asked for it.
            let Some(beat_at) = lease.beat_at else { continue };
            let silent_ms = beat_at.elapsed().as_millis() as u64;
            let patience_ms = lease.task.heartbeat_timeout_ms.unwrap_or(self.config.worker_lost_after_ms);
            if silent_ms >= patience_ms {
                // If this is not answered, it is silent again after as long.
                lease.beat_at = Some(Instant::now());
                lost.push(lease.task.clone());
            } else if silent_ms >= self.config.redeliver_after_ms && !lease.redelivered && !lease.stopping {
                (lease.redelivered, lease.copies) = (true, true);
                again.push(lease.task.clone());
            }
        }
        (again, lost)
    }

    /// Tells the execution what became of an attempt that no worker will tell of.
    pub(super) async fn tell(&self, handler: &dyn CommandHandler, task: Task, word: Word) {
        let node = task.task.node.clone();
        let (name, command) = match word {
            Word::Lost => (b"worker_lost".as_slice(), ExecutionCommand::LoseWorker { node: node.clone() }),
            Word::NeverBegun => {
                let error = NodeError {
                    kind: ErrorKind::Cancelled,
                    message: "the attempt was taken back before a worker had begun it".to_owned(),
                    retryable: false,
                    details: Value::Null,
                };
                (
                    b"never_begun".as_slice(),
                    ExecutionCommand::CompleteNode { node: node.clone(), result: Err(error) },
                )
            }
        };
        let parts: [&[u8]; 5] = [
            name,
            task.task.execution.as_bytes(),
            node.node_id.as_bytes(),
            &node.run.to_be_bytes(),
            &node.attempt.to_be_bytes(),
        ];
        let id: Uuid = derived_id(Timestamp::default(), Slot::of(task.task.execution), &parts);
        let command = CommandEnvelope {
            id,
            tenant: task.tenant.clone(),
            actor: Actor::system("dispatcher"),
            stream: task.task.execution,
            correlation_id: task.correlation_id,
            causation_id: task.causation_id,
            traceparent: task.traceparent.clone(),
            digest: None,
            command: Command::Execution(command),
            authority: None,
        };
        match handler.handle(command).await {
            // The commit's aftermath has resolved it.
            Ok(_) => {}
            Err(CommandError::Rejected(_) | CommandError::DigestMismatch) => {
                self.resolved(&task.task, Stop::Yes)
            }
            // A lost one is still silent at the next look, and then tried again; one that was never begun is settled
            // by the end of the grace.
            Err(CommandError::Overloaded | CommandError::NotOwner | CommandError::Unknown(_)) => {}
        }
    }
}
