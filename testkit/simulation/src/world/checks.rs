//! What must hold at every event.

use domain::event::{Event, ExecutionEvent, LaneEvent, RecordedEvent};
use domain::execution::event::{Ending, ErrorKind};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

use crate::reference::child_label;

use super::{Breakage, World};

/// What the checks remember of what they saw.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Completed runs of nodes.
    completed: HashSet<(Uuid, String, u32)>,
    /// Failed attempts.
    failed: HashSet<(Uuid, String, u32, u32)>,
    /// Lost workers of each run.
    pub(super) lost: HashMap<(Uuid, String, u32), u32>,
    /// Executions that have ended.
    pub(super) finished: BTreeMap<Uuid, &'static str>,
    /// Completed executions that their parent makes undo their work.
    undoing: BTreeSet<Uuid>,
    /// The limit of each lane, and who runs in it.
    lanes: BTreeMap<Uuid, (u32, BTreeSet<Uuid>)>,
    /// The lane of each execution.
    lane_of: BTreeMap<Uuid, Uuid>,
    /// Executions that were to end for another's sake.
    pub(super) evicted: BTreeSet<Uuid>,
    pub(super) compared: u64,
    pub(super) ended: BTreeMap<&'static str, u64>,
}

impl World {
    /// Looks at an event that was just appended.
    pub(super) fn check_event(&mut self, recorded: &RecordedEvent, event: &Event) {
        let stream = recorded.stream;
        match event {
            Event::Execution(event) => {
                if let Err(what) = self.check_execution(stream, event) {
                    self.violate(format!("{}: {what}", self.label(stream)));
                }
            }
            Event::Lane(LaneEvent::EvictionRequested(eviction)) => {
                self.checks.evicted.insert(eviction.execution_id);
            }
            Event::Lane(LaneEvent::Refused(refused)) => {
                self.checks.evicted.insert(refused.execution_id);
            }
            Event::Lane(_)
            | Event::Workflow(_)
            | Event::Variables(_)
            | Event::Tenant(_)
            | Event::User(_)
            | Event::Role(_)
            | Event::ApiKey(_)
            | Event::Audit(_)
            | Event::Bulk(_) => {}
        }
    }

    pub(super) fn label(&self, stream: Uuid) -> String {
        self.labels.get(&stream).cloned().unwrap_or_else(|| stream.to_string())
    }

    fn check_execution(&mut self, stream: Uuid, event: &ExecutionEvent) -> Result<(), String> {
        let checks = &mut self.checks;
        if checks.finished.contains_key(&stream) && !matches!(event, ExecutionEvent::CompensationStarted(_)) {
            return Err(format!("{} after its end", event.event_type()));
        }
        match event {
            ExecutionEvent::NodeCompleted(node)
                if !checks.completed.insert((stream, node.node_id.clone(), node.run)) =>
            {
                return Err(format!("run {} of {} completed twice", node.run, node.node_id));
            }
            ExecutionEvent::NodeFailed(node) => {
                if !checks.failed.insert((stream, node.node_id.clone(), node.run, node.attempt)) {
                    return Err(format!("attempt {} of {} failed twice", node.attempt, node.node_id));
                }
                if node.error.kind == ErrorKind::WorkerLost {
                    *checks.lost.entry((stream, node.node_id.clone(), node.run)).or_default() += 1;
                }
            }
            ExecutionEvent::Queued(queued) => {
                checks.lanes.entry(queued.lane).or_default().0 = queued.limit;
                checks.lane_of.insert(stream, queued.lane);
            }
            ExecutionEvent::Admitted(admitted) => {
                let (limit, running) = checks.lanes.entry(admitted.lane).or_default();
                running.insert(stream);
                if running.len() > *limit as usize {
                    return Err(format!("{} executions run in a lane of {limit}", running.len()));
                }
            }
            ExecutionEvent::ChildStarted(child) => {
                let parent = self.labels.get(&stream).cloned().unwrap_or_default();
                self.labels.insert(child.child_id, child_label(&parent, &child.node_id, child.run));
            }
            ExecutionEvent::CompensationStarted(started) => {
                if started.cause == Ending::ByParent {
                    checks.undoing.insert(stream);
                }
                checks.finished.remove(&stream);
            }
            ExecutionEvent::CompensationFinished(_) if checks.undoing.contains(&stream) => {
                checks.finished.insert(stream, "undone");
            }
            ExecutionEvent::Completed(_) => self.ends(stream, "completed"),
            ExecutionEvent::Failed(_) => self.ends(stream, "failed"),
            ExecutionEvent::Cancelled(_) => self.ends(stream, "cancelled"),
            ExecutionEvent::Terminated(_) => self.ends(stream, "terminated"),
            _ => {}
        }
        Ok(())
    }

    fn ends(&mut self, stream: Uuid, status: &'static str) {
        self.checks.finished.insert(stream, status);
        *self.checks.ended.entry(status).or_default() += 1;
        if let Some(lane) = self.checks.lane_of.get(&stream)
            && let Some((_, running)) = self.checks.lanes.get_mut(lane)
        {
            running.remove(&stream);
        }
    }

    /// Whether all executions have ended, those of children too.
    pub(super) fn all_ended(&self) -> bool {
        self.labels.keys().all(|execution| self.checks.finished.contains_key(execution))
    }

    /// [`Breakage::AcceptTwice`]: a result that was refused is recorded all the same, as that of another attempt.
    pub(super) fn accept_again(&mut self, envelope: &domain::command::CommandEnvelope) {
        use domain::command::Command;
        use domain::execution::command::ExecutionCommand;
        debug_assert!(self.breaks(Breakage::AcceptTwice));
        let Command::Execution(ExecutionCommand::CompleteNode { node, result: Ok(_) }) = &envelope.command
        else {
            return;
        };
        let completed =
            self.log.streams.get(&envelope.stream).into_iter().flatten().rev().find_map(|recorded| {
                match recorded.decode() {
                    Ok(Event::Execution(ExecutionEvent::NodeCompleted(done)))
                        if done.node_id == node.node_id && done.run == node.run =>
                    {
                        Some((recorded.clone(), done))
                    }
                    _ => None,
                }
            });
        if let Some((recorded, mut done)) = completed {
            done.attempt += 1;
            self.check_event(&recorded, &Event::Execution(ExecutionEvent::NodeCompleted(done)));
        }
    }
}
