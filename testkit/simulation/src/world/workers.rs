//! Tasks and the workers that carry them out. Nothing of it is durable: it is made again from the log.

use domain::aggregate::AggregateState;
use domain::decision::NodeRun;
use domain::event::{Event, ExecutionEvent};
use domain::execution::Phase;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{ErrorKind, NodeError, NodeScheduled};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

use crate::answers::{self, Answer, Attempt};

use super::script::envelope;
use super::{Fault, Load, Sender, World};

/// Workers that one run of a node may lose: below what the engine allows, so that the loss changes no end.
const MOST_LOST: u32 = 3;

/// An attempt that waits for a worker or is with one.
#[derive(Debug, Clone)]
pub(super) struct Task {
    url: String,
    state: TaskState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskState {
    /// It is to be handed out.
    Ready,
    /// It is on its way, with a worker, or its result is on its way.
    Out,
    /// Its worker is gone, and the engine must hear of it.
    Lost,
}

impl World {
    /// A node was scheduled.
    pub(super) fn take_task(&mut self, stream: Uuid, event: &Event) {
        if let Event::Execution(ExecutionEvent::NodeScheduled(scheduled)) = event {
            self.tasks.insert((stream, node_run(scheduled)), task(scheduled));
        }
    }

    /// After a crash: the attempts that the log says are in flight.
    pub(super) fn recover_tasks(&mut self) {
        self.tasks.clear();
        let streams: Vec<Uuid> = self.log.streams.keys().copied().collect();
        for stream in streams {
            let Ok(aggregate) = self.log.fold(stream) else { continue };
            let AggregateState::Execution(state) = &aggregate.state else { continue };
            if matches!(state.phase, Phase::Finished(_) | Phase::NotStarted) {
                continue;
            }
            let mut latest: HashMap<String, NodeScheduled> = HashMap::new();
            for recorded in &self.log.streams[&stream] {
                if recorded.event_type == "execution.node.scheduled"
                    && let Ok(Event::Execution(ExecutionEvent::NodeScheduled(scheduled))) = recorded.decode()
                {
                    latest.insert(scheduled.node_id.clone(), scheduled);
                }
            }
            for scheduled in latest.into_values() {
                let in_flight = state.nodes.get(scheduled.node_id.as_str()).is_some_and(|node| {
                    node.status.is_in_flight()
                        && (node.run, node.attempt) == (scheduled.run, scheduled.attempt)
                });
                if in_flight {
                    self.tasks.insert((stream, node_run(&scheduled)), task(&scheduled));
                }
            }
        }
    }

    pub(super) fn can_dispatch(&self) -> bool {
        self.tasks.values().any(|task| task.state != TaskState::Out)
    }

    /// Hands a task out, or reports that its worker is gone.
    pub(super) fn dispatch(&mut self) {
        let open: Vec<(Uuid, NodeRun)> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.state != TaskState::Out)
            .map(|(key, _)| key.clone())
            .collect();
        let picked = if self.chaos { self.random.pick(&open) } else { open.first() };
        let Some((stream, node)) = picked.cloned() else { return };
        let Some(task) = self.tasks.get_mut(&(stream, node.clone())) else { return };
        let was = std::mem::replace(&mut task.state, TaskState::Out);
        let sender = Sender::Task(stream, node.clone());
        if was == TaskState::Lost {
            let lost = ExecutionCommand::LoseWorker { node };
            let command = envelope(self.fresh(), stream, "dispatcher", lost);
            self.send(self.now, sender, Load::Command(Box::new(command)));
        } else {
            self.send(self.now, sender, Load::Task);
        }
    }

    /// A message about a task was lost: the task is handed out again.
    pub(super) fn task_missed(&mut self, stream: Uuid, node: &NodeRun) {
        if let Some(task) = self.tasks.get_mut(&(stream, node.clone())) {
            task.state = TaskState::Ready;
            self.count(Fault::Redelivered);
        }
    }

    /// A worker has a task.
    pub(super) fn work(&mut self, sender: &Sender) {
        let Sender::Task(stream, node) = sender else { return };
        let Some(url) = self.tasks.get(&(*stream, node.clone())).map(|task| task.url.clone()) else { return };
        let lost_workers = self.lost_workers(*stream, node);
        let lost = self.chaos && lost_workers < MOST_LOST && self.random.chance(self.rates.worker_dies);
        if lost {
            self.count(Fault::WorkerDied);
            if let Some(task) = self.tasks.get_mut(&(*stream, node.clone())) {
                task.state = TaskState::Lost;
            }
            return;
        }
        if self.chaos && self.random.chance(5) {
            let started = ExecutionCommand::StartNode { node: node.clone(), worker: "sim".into() };
            let command = envelope(self.fresh(), *stream, "worker", started);
            self.send(self.now, Sender::Nobody, Load::Command(Box::new(command)));
        }
        let label = self.labels.get(stream).cloned().unwrap_or_default();
        let ordinal = node.attempt.saturating_sub(lost_workers);
        let attempt = Attempt { label: &label, path: &node.node_id, run: node.run, ordinal };
        let result = match answers::answer(self.case.seed, &url, attempt) {
            // The task stays with its worker until the deadline.
            Answer::Never => return,
            Answer::Output(output) => Ok(output),
            Answer::Failure { kind, retryable } => Err(NodeError {
                kind: serde_json::from_value(Value::from(kind)).unwrap_or(ErrorKind::Custom),
                message: "no".to_owned(),
                retryable,
                details: Value::Null,
            }),
        };
        let due = self.now.plus_ms(answers::duration_ms(self.case.seed, attempt));
        let done = ExecutionCommand::CompleteNode { node: node.clone(), result };
        let command = envelope(self.fresh(), *stream, "worker", done);
        self.send(due, sender.clone(), Load::Command(Box::new(command)));
    }

    /// How many workers a run of a node has lost.
    fn lost_workers(&self, stream: Uuid, node: &NodeRun) -> u32 {
        let lost = self.checks.lost.get(&(stream, node.node_id.clone(), node.run));
        lost.copied().unwrap_or(0)
    }
}

fn task(scheduled: &NodeScheduled) -> Task {
    let url = scheduled.config["url"].as_str().unwrap_or_default().to_owned();
    Task { url, state: TaskState::Ready }
}

fn node_run(scheduled: &NodeScheduled) -> NodeRun {
    NodeRun { node_id: scheduled.node_id.clone(), run: scheduled.run, attempt: scheduled.attempt }
}
