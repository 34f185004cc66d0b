//! The workflow aggregate: versions, names, publishing.

use domain::aggregate::Aggregate;
use domain::command::{Command, CommandEnvelope};
use domain::decision::{ClaimOp, Decision, Outcome};
use domain::facts::Facts;
use domain::ids::{Actor, TenantId};
use domain::rejection::{Rejection, RejectionKind};
use domain::time::Timestamp;
use domain::workflow::command::WorkflowCommand;
use serde_json::{Value, json};

use crate::scenario::id;

fn document(name: &str) -> Value {
    json!({"name": name, "nodes": [{"id": "start", "type": "start"}, {"id": "end", "type": "end"}],
        "edges": [{"source": "start", "target": "end"}]})
}

#[derive(Default)]
struct Workflow(Aggregate);

impl Workflow {
    fn when(&mut self, command: WorkflowCommand) -> Result<Outcome, Rejection> {
        self.when_of(TenantId::default_tenant(), command)
    }

    fn when_of(&mut self, tenant: TenantId, command: WorkflowCommand) -> Result<Outcome, Rejection> {
        let envelope = CommandEnvelope {
            id: id(5),
            tenant: tenant.clone(),
            actor: Actor::system("test"),
            stream: id(1),
            correlation_id: id(1),
            causation_id: id(5),
            traceparent: None,
            digest: None,
            command: Command::Workflow(command),
            authority: None,
        };
        let now = Timestamp::from_unix_ms(1_795_000_000_000);
        match self
            .0
            .decide(&envelope, &Facts::new(now, envelope.id, envelope.stream, envelope.tenant.clone()))?
        {
            Decision::Events(outcome) => {
                for event in &outcome.events {
                    self.0.apply(&tenant, event, now);
                }
                Ok(outcome)
            }
            Decision::Needs(needs) => panic!("{needs:?}"),
        }
    }
}

fn create(name: &str) -> WorkflowCommand {
    WorkflowCommand::Create { definition: document(name), publish: true }
}

fn types(outcome: &Outcome) -> Vec<&str> {
    outcome.events.iter().map(domain::event::Event::event_type).collect()
}

#[test]
fn creating_takes_the_name_and_publishes_unless_it_is_a_draft() {
    let outcome = Workflow::default().when(create("a")).expect("accepted");
    assert_eq!(types(&outcome), ["workflow.created", "workflow.published"]);
    assert_eq!(outcome.claims[0].key, "a");
    let draft = WorkflowCommand::Create { definition: document("a"), publish: false };
    assert_eq!(types(&Workflow::default().when(draft).expect("accepted")), ["workflow.created"]);
}

#[test]
fn renaming_takes_the_new_name_and_gives_the_old_one_back() {
    let mut workflow = Workflow::default();
    workflow.when(create("old")).expect("accepted");
    let update =
        WorkflowCommand::Update { definition: document("new"), publish: true, expected_version: Some(2) };
    let outcome = workflow.when(update).expect("accepted");
    let claims: Vec<_> = outcome.claims.iter().map(|claim| (claim.key.as_str(), claim.op)).collect();
    assert_eq!(claims, [("new", ClaimOp::Take), ("old", ClaimOp::Release)]);
    assert_eq!(outcome.answer["version"], 2);
}

#[test]
fn a_stale_expected_version_is_refused() {
    let mut workflow = Workflow::default();
    workflow.when(create("a")).expect("accepted");
    let update =
        WorkflowCommand::Update { definition: document("a"), publish: true, expected_version: Some(1) };
    let rejection = workflow.when(update).expect_err("stale");
    assert_eq!((rejection.kind, &*rejection.code), (RejectionKind::PreconditionFailed, "version_mismatch"));
}

#[test]
fn a_deleted_workflow_is_not_found_until_it_is_restored() {
    let mut workflow = Workflow::default();
    workflow.when(create("a")).expect("accepted");
    let outcome = workflow.when(WorkflowCommand::Delete { expected_version: None }).expect("accepted");
    assert_eq!(outcome.claims[0].op, ClaimOp::Release);
    assert_eq!(
        workflow.when(WorkflowCommand::Enable { expected_version: None }).expect_err("deleted").code,
        "workflow_not_found"
    );
    assert_eq!(
        types(&workflow.when(WorkflowCommand::Restore { expected_version: None }).expect("accepted")),
        ["workflow.restored"]
    );
}

#[test]
fn enabling_what_is_enabled_changes_nothing() {
    let mut workflow = Workflow::default();
    workflow.when(create("a")).expect("accepted");
    assert!(
        workflow
            .when(WorkflowCommand::Enable { expected_version: None })
            .expect("accepted")
            .events
            .is_empty()
    );
    assert_eq!(
        types(&workflow.when(WorkflowCommand::Disable { expected_version: None }).expect("accepted")),
        ["workflow.disabled"]
    );
}

#[test]
fn another_tenants_workflow_looks_like_one_that_does_not_exist() {
    let mut workflow = Workflow::default();
    workflow.when(create("a")).expect("accepted");
    let other = TenantId::try_from("other".to_owned()).expect("a slug");
    let rejection =
        workflow.when_of(other, WorkflowCommand::Enable { expected_version: None }).expect_err("hidden");
    assert_eq!(rejection.code, "workflow_not_found");
}

#[test]
fn an_invalid_definition_is_refused_with_its_problems() {
    let command = WorkflowCommand::Create { definition: json!({"name": "a"}), publish: true };
    let rejection = Workflow::default().when(command).expect_err("invalid");
    assert_eq!(rejection.code, "invalid_definition");
    assert_eq!(rejection.problems.len(), 2);
}
