//! `given(…).when(…)` for aggregates other than executions: commands with and without an authority.

use domain::access::{Authority, Grant, Permission, Reach};
use domain::aggregate::Aggregate;
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Decision, Outcome};
use domain::event::Event;
use domain::facts::{Fact, Facts, Origin, WorkflowHead};
use domain::ids::{Actor, TenantId};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use std::sync::Arc;
use uuid::Uuid;

use crate::scenario::id;

/// When everything happens, unless a test says otherwise.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_795_000_000_000)
}

/// One stream, and what its decider may know.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) aggregate: Aggregate,
    pub(crate) stream: Uuid,
    pub(crate) tenant: TenantId,
    pub(crate) now: Timestamp,
    pub(crate) workflow: Fact<WorkflowHead>,
    pub(crate) origin: Fact<Origin>,
    authority: Option<Box<Authority>>,
    commands: u64,
}

/// A stream with these events.
pub(crate) fn given(events: impl IntoIterator<Item = Event>) -> Given {
    let tenant = TenantId::default_tenant();
    let mut aggregate = Aggregate::default();
    for event in events {
        aggregate.apply(&tenant, &event, now());
    }
    let (workflow, origin) = (Fact::Unknown, Fact::Unknown);
    Given { aggregate, stream: id(1), tenant, now: now(), workflow, origin, authority: None, commands: 0 }
}

impl Given {
    /// The same, of another tenant.
    pub(crate) fn of(mut self, tenant: &str) -> Self {
        self.tenant = slug(tenant);
        self
    }

    /// What follows is sent with this right; [`Given::without_authority`] ends that.
    pub(crate) fn with_authority(mut self, authority: Authority) -> Self {
        self.authority = Some(Box::new(authority));
        self
    }

    /// What follows comes from Everline itself.
    pub(crate) fn without_authority(mut self) -> Self {
        self.authority = None;
        self
    }

    /// What a start is judged on.
    pub(crate) fn with_workflow(mut self, head: WorkflowHead) -> Self {
        self.workflow = Fact::Is(Arc::new(head));
        self
    }

    /// Decides a command, which may need something.
    pub(crate) fn decide(&mut self, command: impl Into<Command>) -> Result<Decision, Rejection> {
        self.commands += 1;
        let envelope = CommandEnvelope {
            id: id(900 + self.commands),
            tenant: self.tenant.clone(),
            actor: Actor::system("test"),
            stream: self.stream,
            correlation_id: self.stream,
            causation_id: self.stream,
            traceparent: None,
            digest: None,
            command: command.into(),
            authority: self.authority.clone(),
        };
        // It travels: what the decider gets was JSON in between.
        let json = serde_json::to_vec(&envelope).expect("JSON");
        let envelope: CommandEnvelope = serde_json::from_slice(&json).expect("reads back");
        let mut facts = Facts::new(self.now, envelope.id, self.stream, self.tenant.clone());
        facts.authority.clone_from(&envelope.authority);
        facts.workflow = self.workflow.clone();
        facts.origin = self.origin.clone();
        self.aggregate.decide(&envelope, &facts)
    }

    /// Decides a command and folds what follows.
    pub(crate) fn when(&mut self, command: impl Into<Command>) -> Result<Outcome, Rejection> {
        match self.decide(command)? {
            Decision::Events(outcome) => {
                assert!(outcome.answer.to_string().len() <= 1_024, "{}", outcome.answer);
                for event in &outcome.events {
                    self.aggregate.apply(&self.tenant, event, self.now);
                }
                Ok(outcome)
            }
            Decision::Needs(needs) => panic!("{needs:?}"),
        }
    }

    /// The types of the events that follow.
    pub(crate) fn types(&mut self, command: impl Into<Command>) -> Vec<&'static str> {
        let outcome = self.when(command).unwrap_or_else(|refused| panic!("{refused:?}"));
        outcome.events.iter().map(Event::event_type).collect()
    }

    /// The code of the refusal.
    pub(crate) fn refused(&mut self, command: impl Into<Command>) -> String {
        let refused = self.when(command).expect_err("a refusal");
        refused.code.into_owned()
    }

    /// The problems of the refusal: pointer and code.
    pub(crate) fn problems(&mut self, command: impl Into<Command>) -> Vec<(String, String)> {
        let refused = self.when(command).expect_err("a refusal");
        refused.problems.into_iter().map(|problem| (problem.pointer, problem.code.into_owned())).collect()
    }
}

pub(crate) fn slug(tenant: &str) -> TenantId {
    TenantId::try_from(tenant.to_owned()).expect("a slug")
}

/// The right of a user to one permission.
pub(crate) fn right(user: Uuid, permission: Permission, reach: Reach) -> Authority {
    Authority {
        user,
        email: "ada@example.com".to_owned(),
        role: "operator".to_owned(),
        permission,
        grants: vec![Grant { permission, reach, condition: None }],
    }
}

/// Pairs of texts, to compare problems with.
pub(crate) fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(pointer, code)| ((*pointer).to_owned(), (*code).to_owned())).collect()
}
