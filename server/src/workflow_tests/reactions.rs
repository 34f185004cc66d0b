//! What follows from an event outside its own execution: what workers, the reactor and timers do on a server.

use domain::decision::NodeRun;
use domain::event::ExecutionEvent;
use domain::execution::ExecutionStatus;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{
    ChildStarted, CompensationStatus, EndNotice, ErrorKind, NodeError, NodeScheduled, ParentRef, StopChild,
};
use domain::rejection::{Rejection, RejectionKind};
use serde_json::Value;
use uuid::Uuid;

use super::fixture::Child;
use super::stand_ins::Happened;
use super::world::{End, World};

/// How much of a configuration a message shows, in characters.
const SHOWN_CHARS: usize = 600;

impl World<'_> {
    /// Reacts to an event that was just appended.
    pub(super) fn react(&mut self, run: usize, event: ExecutionEvent) {
        let id = self.fresh_id();
        self.happened.push(Happened::stored(id, self.runs[run].id, self.now, &event));
        match event {
            ExecutionEvent::NodeScheduled(e) => self.work(run, &e),
            ExecutionEvent::NodeCancelled(e) => {
                if let Some(child) = e.child {
                    let reason = Some(e.reason);
                    let command = match child.how {
                        StopChild::Cancel => ExecutionCommand::Cancel { reason },
                        StopChild::Terminate => ExecutionCommand::Terminate { reason },
                    };
                    self.tell(child.execution_id, command);
                }
            }
            ExecutionEvent::ChildStarted(e) => self.start_child(run, e),
            ExecutionEvent::ChildCompensationRequested(e) => {
                let node = NodeRun { node_id: e.node_id, run: e.run, attempt: e.attempt };
                let parent = ParentRef {
                    execution_id: self.runs[run].id,
                    node_id: node.node_id.clone(),
                    run: node.run,
                    attempt: node.attempt,
                    depth: 1,
                    detached: false,
                };
                if !self.tell(e.child_id, ExecutionCommand::Compensate { parent }) {
                    // A child that only stands in has nothing to undo.
                    self.child_compensated(run, node, e.child_id, CompensationStatus::Completed, None);
                }
            }
            ExecutionEvent::CompensationFinished(e) => {
                if let Some(parent) = e.parent
                    && let Some(at) = self.find(parent.execution_id)
                {
                    let child = self.runs[run].id;
                    self.child_compensated(at, node_of(&parent), child, e.status, e.error);
                }
            }
            ExecutionEvent::Queued(e) => {
                self.inbox.push_back((run, ExecutionCommand::Admit { lane: e.lane }));
            }
            ExecutionEvent::Completed(e) => {
                let end = End { output: e.output, error: None, ends: e.ends };
                self.ended(run, ExecutionStatus::Completed, end, &e.notice);
            }
            ExecutionEvent::Failed(e) => {
                let end = End { output: Value::Null, error: Some((e.node_id, e.error)), ends: Vec::new() };
                self.ended(run, ExecutionStatus::Failed, end, &e.notice);
            }
            ExecutionEvent::Cancelled(e) => {
                self.ended(run, ExecutionStatus::Cancelled, End::without_output(), &e.notice)
            }
            ExecutionEvent::Terminated(e) => {
                self.ended(run, ExecutionStatus::Terminated, End::without_output(), &e.notice)
            }
            // Nobody outside the execution does anything about these.
            _ => {}
        }
    }

    /// The stand-in of a worker: what is recorded for the call.
    fn work(&mut self, run: usize, scheduled: &NodeScheduled) {
        let recordings = self.runs[run].nodes;
        let call = self.runs[run].calls.entry(scheduled.node_id.clone()).or_default();
        let number = *call;
        *call += 1;
        let calls = recordings.of(&scheduled.node_id);
        let node =
            NodeRun { node_id: scheduled.node_id.clone(), run: scheduled.run, attempt: scheduled.attempt };
        match calls.and_then(|calls| calls.get(number)) {
            Some(Some(recorded)) => {
                let result = recorded.clone().map(|output| self.stored(output));
                self.inbox.push_back((run, ExecutionCommand::CompleteNode { node, result }));
                return;
            }
            // Nobody answers; the attempt's deadline is among the wakeups.
            Some(None) => return,
            None => {}
        }
        let mut config = self.resolved(&scheduled.config).to_string();
        if let Some((at, _)) = config.char_indices().nth(SHOWN_CHARS) {
            config.truncate(at);
            config.push('…');
        }
        let what = match calls {
            None => "has no recorded output",
            Some(_) => "was called more often than outputs are recorded",
        };
        let (label, path) = (&self.runs[run].label, &node.node_id);
        self.problems.push(format!(
            "{label}node `{path}` (run {}, attempt {}) {what}; its configuration was {config}",
            node.run, node.attempt
        ));
    }

    fn start_child(&mut self, run: usize, started: ChildStarted) {
        let call = self.child_calls.entry(started.workflow.clone()).or_default();
        let number = *call;
        *call += 1;
        let node = NodeRun { node_id: started.node_id, run: started.run, attempt: started.attempt };
        let case = self.case;
        let stand_in = case.children.get(&started.workflow).and_then(|calls| calls.get(number));
        match stand_in {
            Some(Child::Ends(recorded)) if started.wait => {
                let (status, output, error) = match recorded.clone() {
                    Ok(output) => (ExecutionStatus::Completed, self.stored(output), None),
                    Err(error) => (ExecutionStatus::Failed, Value::Null, Some(error)),
                };
                let child = started.child_id;
                let command = ExecutionCommand::FinishChild { node, child, status, output, error };
                self.inbox.push_back((run, command));
            }
            Some(Child::Ends(_)) => {}
            Some(Child::Runs { definition, nodes }) => {
                let label = format!("child `{}`: ", started.workflow);
                let child = self.add(started.child_id, label, definition.clone(), nodes);
                let parent = ParentRef {
                    execution_id: self.runs[run].id,
                    node_id: node.node_id,
                    run: node.run,
                    attempt: node.attempt,
                    depth: started.depth,
                    detached: !started.wait,
                };
                self.start(child, started.input, Some(parent), Some(started.priority));
            }
            None => {
                let input = self.resolved(&started.input);
                let (label, workflow) = (&self.runs[run].label, &started.workflow);
                self.problems.push(format!(
                    "{label}node `{}` starts workflow `{workflow}`, which is not (or not so often) among the \
                     case's `children`; its input was {input}",
                    node.node_id
                ));
            }
        }
    }

    fn ended(&mut self, run: usize, status: ExecutionStatus, end: End, notice: &EndNotice) {
        if let Some(parent) = &notice.parent
            && let Some(at) = self.find(parent.execution_id)
        {
            let command = ExecutionCommand::FinishChild {
                node: node_of(parent),
                child: self.runs[run].id,
                status,
                output: end.output.clone(),
                error: end.error.as_ref().map(|(_, error)| error.clone()),
            };
            self.inbox.push_back((at, command));
        }
        self.runs[run].end = Some(end);
    }

    fn child_compensated(
        &mut self,
        parent: usize,
        node: NodeRun,
        child: Uuid,
        status: CompensationStatus,
        error: Option<NodeError>,
    ) {
        let command = ExecutionCommand::ChildCompensated { node, child, status, error };
        self.inbox.push_back((parent, command));
    }

    /// What a refused command means. What comes too late is refused on a server as well.
    pub(super) fn refused(&mut self, run: usize, command: ExecutionCommand, rejection: Rejection) {
        match command {
            ExecutionCommand::Start(start) => match start.parent {
                Some(parent) => {
                    let error = NodeError {
                        kind: ErrorKind::Custom,
                        message: rejection.detail,
                        retryable: false,
                        details: serde_json::json!({ "code": rejection.code }),
                    };
                    let child = self.runs[run].id;
                    if let Some(at) = self.find(parent.execution_id) {
                        let command = ExecutionCommand::FinishChild {
                            node: node_of(&parent),
                            child,
                            status: ExecutionStatus::Failed,
                            output: Value::Null,
                            error: Some(error),
                        };
                        self.inbox.push_back((at, command));
                    }
                }
                None => self.problems.push(format!("the start was refused: {}", words(&rejection))),
            },
            ExecutionCommand::Compensate { parent } => {
                if let Some(at) = self.find(parent.execution_id) {
                    let child = self.runs[run].id;
                    let status = CompensationStatus::Completed;
                    self.child_compensated(at, node_of(&parent), child, status, None);
                }
            }
            ExecutionCommand::Signal { name, .. } => {
                self.problems.push(format!("signal `{name}` was refused: {}", words(&rejection)));
            }
            _ if matches!(rejection.kind, RejectionKind::Conflict | RejectionKind::NotFound) => {}
            command => {
                self.problems.push(format!("{} was refused: {}", command.name(), words(&rejection)));
            }
        }
    }

    /// Sends a command to an execution by its id; `false` if it does not run here.
    fn tell(&mut self, execution: Uuid, command: ExecutionCommand) -> bool {
        let at = self.find(execution);
        if let Some(at) = at {
            self.inbox.push_back((at, command));
        }
        at.is_some()
    }

    fn find(&self, execution: Uuid) -> Option<usize> {
        self.runs.iter().position(|run| run.id == execution)
    }
}

impl End {
    fn without_output() -> Self {
        Self { output: Value::Null, error: None, ends: Vec::new() }
    }
}

fn node_of(parent: &ParentRef) -> NodeRun {
    NodeRun { node_id: parent.node_id.clone(), run: parent.run, attempt: parent.attempt }
}

fn words(rejection: &Rejection) -> String {
    let problems = rejection.problems.iter().map(|p| format!("; {} {}", p.pointer, p.detail));
    format!("{} ({}){}", rejection.detail, rejection.code, problems.collect::<String>())
}
