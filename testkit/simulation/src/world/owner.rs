//! The owner of the partition: folds, decides, appends.

use domain::aggregate::{Aggregate, AggregateState};
use domain::command::CommandEnvelope;
use domain::decision::{Decision, Need, Outcome};
use domain::event::RecordedEvent;
use domain::facts::{Fact as Known, Facts, Variables, WorkflowHead};
use domain::rejection::Rejection;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

use super::log::Refused;
use super::script::workflow_name;
use super::{Breakage, Fault, World};

/// How often a decision may ask for facts before it is taken to ask for ever.
const MOST_QUESTIONS: usize = 20;

/// One that decides, and what it remembers.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) epoch: u64,
    pub(super) folded: HashMap<Uuid, Aggregate>,
    /// Whether it has learnt that it is the owner no more.
    pub(super) fenced: bool,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handled {
    /// The sender has an answer.
    Done,
    /// It has one too: a refusal.
    Refused(Rejection),
    /// The sender heard nothing.
    Unanswered,
    /// Nor did it, and the owner is gone.
    Crashed,
}

impl World {
    /// Decides a command and appends what follows.
    pub(super) fn handle(&mut self, owner: &mut Owner, envelope: &CommandEnvelope) -> Handled {
        if self.guards().command_ids && self.log.answers.contains_key(&envelope.id) {
            self.count(Fault::Deduplicated);
            return Handled::Done;
        }
        let aggregate = match owner.folded.get(&envelope.stream) {
            Some(aggregate) => aggregate.clone(),
            None => match self.log.fold(envelope.stream) {
                Ok(aggregate) => aggregate,
                Err(error) => {
                    self.violate(error);
                    return Handled::Done;
                }
            },
        };
        let outcome = match self.decide(&aggregate, envelope) {
            Ok(outcome) => outcome,
            Err(rejection) => {
                self.note(|| format!("{} refused: {}", envelope.command.name(), rejection.code));
                self.refused(envelope, &rejection);
                owner.folded.insert(envelope.stream, aggregate);
                return Handled::Refused(rejection);
            }
        };
        let crash = self.chaos && self.random.chance(self.rates.crash);
        let durable = self.random.chance(50);
        if crash && !durable {
            self.count(Fault::CrashBefore);
            return Handled::Crashed;
        }
        let guards = self.guards();
        let appended = self.log.append(owner.epoch, aggregate.version, envelope, &outcome, self.now, guards);
        let recorded = match appended {
            Ok(recorded) => recorded,
            Err(Refused::Fenced) => {
                self.count(Fault::Fenced);
                owner.fenced = true;
                return Handled::Unanswered;
            }
            Err(Refused::Conflict) => {
                self.violate("the owner appended to a stream that it did not know".to_owned());
                return Handled::Unanswered;
            }
        };
        self.appended(owner, aggregate, envelope, outcome, &recorded);
        if crash {
            self.count(Fault::CrashAfter);
            return Handled::Crashed;
        }
        Handled::Done
    }

    fn decide(&mut self, aggregate: &Aggregate, envelope: &CommandEnvelope) -> Result<Outcome, Rejection> {
        let mut facts = Facts::new(self.now, envelope.id, envelope.stream, envelope.tenant.clone());
        for _ in 0..MOST_QUESTIONS {
            match aggregate.decide(envelope, &facts)? {
                Decision::Events(outcome) => return Ok(outcome),
                Decision::Needs(needs) => needs.into_iter().for_each(|need| self.fetch(need, &mut facts)),
            }
        }
        self.violate(format!("{} asks for facts without end", envelope.command.name()));
        Ok(Outcome::default())
    }

    fn fetch(&self, need: Need, facts: &mut Facts) {
        match need {
            Need::Workflow(id) => {
                facts.workflow = match workflow_name(&self.case, id) {
                    None => Known::Absent,
                    Some(name) => Known::Is(Arc::new(WorkflowHead {
                        name: name.to_owned(),
                        published_version: Some(1),
                        latest_version: 1,
                        enabled: true,
                        deleted: false,
                        owner: None,
                        shared: domain::workflow::event::WorkflowShared::default(),
                    })),
                };
            }
            Need::Definition { workflow, .. } => {
                facts.definition = self.definitions.get(&workflow).cloned().map_or(Known::Absent, Known::Is);
            }
            Need::Variables(_) => facts.variables = Known::Is(Arc::new(Variables::default())),
            Need::Blob(reference) => {
                if let Some(content) = self.log.blobs.get(&reference.sha256) {
                    facts.blobs.insert(reference.sha256, content.clone());
                }
            }
            // No scenario forks.
            Need::Origin { .. } => facts.origin = Known::Absent,
            Need::Recording { .. } => facts.recording = Known::Absent,
        }
    }

    /// What is done after a commit: by this owner, and by the checks.
    fn appended(
        &mut self,
        owner: &mut Owner,
        mut aggregate: Aggregate,
        envelope: &CommandEnvelope,
        outcome: Outcome,
        recorded: &[RecordedEvent],
    ) {
        self.note(|| {
            let types: Vec<String> = recorded.iter().map(short).collect();
            format!("{} {} -> {}", self_label(envelope), envelope.command.name(), types.join(", "))
        });
        for event in &outcome.events {
            aggregate.apply(&envelope.tenant, event, self.now);
        }
        if let Some(after) = outcome.after {
            if let AggregateState::Execution(folded) = &aggregate.state
                && self.random.chance(10)
                && **folded != *after
            {
                self.violate(format!("{} says another state than its events", envelope.command.name()));
            }
            aggregate.state = AggregateState::Execution(after);
        }
        for (event, recorded) in outcome.events.iter().zip(recorded) {
            self.check_event(recorded, event);
            self.take_task(recorded.stream, event);
        }
        if let AggregateState::Lane(lane) = &aggregate.state
            && lane.holders.len() > lane.limit as usize
        {
            self.violate(format!("a lane of {} has {} holders", lane.limit, lane.holders.len()));
        }
        if !recorded.is_empty() {
            self.reactor.wake(envelope.stream);
        }
        if aggregate.version > 0 {
            owner.folded.insert(envelope.stream, aggregate);
        }
    }

    /// A refusal is an answer, but some must not happen.
    fn refused(&mut self, envelope: &CommandEnvelope, rejection: &Rejection) {
        let unexpected = matches!(rejection.kind, domain::rejection::RejectionKind::Invalid);
        if unexpected {
            self.violate(format!("{} was refused as invalid: {}", envelope.command.name(), rejection.detail));
        }
        if self.breaks(Breakage::AcceptTwice) {
            self.accept_again(envelope);
        }
    }
}

fn self_label(envelope: &CommandEnvelope) -> String {
    let text = envelope.stream.to_string();
    text[text.len() - 5..].to_owned()
}

/// `execution.node.completed` of `fetch` as `node.completed fetch`.
fn short(event: &RecordedEvent) -> String {
    let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap_or_default();
    let name = event.event_type.trim_start_matches("execution.");
    match (data["node_id"].as_str(), data["run"].as_u64(), data["attempt"].as_u64()) {
        (Some(node), Some(run), Some(attempt)) => format!("{name} {node}#{run}.{attempt}"),
        (Some(node), _, _) => format!("{name} {node}"),
        _ => name.to_owned(),
    }
}
