//! Bulk jobs: one runner at a time, progress that only grows, and no more right than the act's own.

use domain::access::{Permission, Reach};
use domain::bulk::command::BulkCommand;
use domain::bulk::event::{BulkAction, BulkFailure};
use domain::command::Command;
use domain::decision::Outcome;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::given::{Given, given, now, pairs, right};
use crate::scenario::id;

fn start_of(action: BulkAction, permission: Permission) -> BulkCommand {
    BulkCommand::Start {
        action,
        filter: json!({"status": "running"}),
        reason: "incident 12".to_owned(),
        per_second: 50,
        found: 300,
        upper: id(60),
        acting: Box::new(right(id(7), permission, Reach::Own)),
    }
}

fn start() -> BulkCommand {
    start_of(BulkAction::Cancel, Permission::ExecutionCancel)
}

fn job() -> Given {
    let mut job = given([]);
    job.when(Command::Bulk(start())).expect("a job");
    job
}

fn lease(job: &mut Given, runner: u64, ms: u64) -> Result<Outcome, String> {
    let command = BulkCommand::Lease { runner: id(runner), until: job.now.plus_ms(ms) };
    job.when(Command::Bulk(command)).map_err(|refused| refused.code.into_owned())
}

fn report(runner: u64, cursor: u64, done: u64, failed: usize, last: bool) -> Command {
    let failure = BulkFailure { execution_id: id(61), code: "execution_finished".to_owned() };
    Command::Bulk(BulkCommand::Report {
        runner: id(runner),
        cursor: id(cursor),
        done,
        failed: vec![failure; failed],
        until: now().plus_ms(30_000),
        last,
    })
}

#[test]
fn a_job_is_leased_worked_through_and_completed() {
    let mut job = job();
    assert_eq!(job.refused(Command::Bulk(start())), "bulk_exists");
    lease(&mut job, 1, 30_000).expect("nobody has it");
    assert_eq!(job.types(report(1, 20, 9, 1, false)), ["bulk.progressed"]);
    let outcome = job.when(report(1, 30, 5, 2, true)).expect("accepted");
    assert_eq!(outcome.events.len(), 2);
    let told = |field: &str| outcome.answer[field].clone();
    assert_eq!((told("done"), told("failed"), told("status")), (json!(14), json!(3), json!("completed")));
    assert_eq!(job.refused(report(1, 40, 1, 0, false)), "bulk_finished");
    assert_eq!(lease(&mut job, 1, 1).expect_err("ended"), "bulk_finished");
    assert_eq!(job.refused(Command::Bulk(BulkCommand::Cancel { reason: None })), "bulk_finished");
}

#[test]
fn only_one_runner_has_a_job_until_its_lease_has_run_out() {
    let mut job = job();
    assert_eq!(job.refused(report(1, 20, 9, 0, false)), "bulk_lease_lost");
    lease(&mut job, 1, 30_000).expect("nobody has it");
    assert_eq!(lease(&mut job, 2, 30_000).expect_err("taken"), "bulk_leased");
    lease(&mut job, 1, 40_000).expect("its own");
    job.now = job.now.plus_ms(40_000);
    assert_eq!(job.types(report(1, 20, 9, 0, false)), ["bulk.progressed"], "nobody else has taken it");
    job.now = job.now.plus_ms(600_000);
    lease(&mut job, 2, 30_000).expect("the other is gone");
    assert_eq!(job.refused(report(1, 21, 9, 0, false)), "bulk_lease_lost");
    let outcome = lease(&mut job, 2, u64::from(u32::MAX)).expect("its own");
    let longest = job.now.plus_ms(600_000);
    assert_eq!(outcome.answer["leased_until"], json!(longest), "nobody keeps it for ever");
}

#[test]
fn a_page_that_is_told_of_twice_counts_once() {
    let mut job = job();
    lease(&mut job, 1, 30_000).expect("nobody has it");
    job.when(report(1, 20, 9, 1, false)).expect("accepted");
    assert!(job.types(report(1, 20, 9, 1, false)).is_empty());
    let outcome = job.when(report(1, 20, 9, 1, true)).expect("accepted");
    assert_eq!((outcome.events.len(), &outcome.answer["done"]), (1, &json!(9)));
}

#[test]
fn a_cancelled_job_stays_as_it_is() {
    let mut job = job();
    lease(&mut job, 1, 30_000).expect("nobody has it");
    let cancel = |reason: &str| Command::Bulk(BulkCommand::Cancel { reason: Some(reason.to_owned()) });
    assert_eq!(job.problems(cancel("")), pairs(&[("/reason", "out_of_range")]));
    assert_eq!(job.types(cancel("enough")), ["bulk.cancelled"]);
    assert!(job.types(cancel("again")).is_empty());
    assert_eq!(job.refused(report(1, 20, 9, 0, false)), "bulk_finished");
    assert_eq!(given([]).refused(cancel("none")), "bulk_not_found");
}

#[test]
fn all_problems_of_a_job_come_at_once() {
    let mut bad = start_of(
        BulkAction::Signal { name: "go".to_owned(), payload: json!("x".repeat(70_000)) },
        Permission::ExecutionSignal,
    );
    let BulkCommand::Start { filter, reason, per_second, .. } = &mut bad else { unreachable!() };
    *filter = json!({"status": ["running"], "more": "y".repeat(9_000)});
    *reason = "r".repeat(501);
    *per_second = 1_001;
    let expected = [
        ("/reason", "out_of_range"),
        ("/per_second", "out_of_range"),
        ("/filter", "wrong_type"),
        ("/filter", "too_large"),
        ("/action", "too_large"),
    ];
    assert_eq!(given([]).problems(Command::Bulk(bad)), pairs(&expected));
    let mut slow = start();
    let BulkCommand::Start { per_second, .. } = &mut slow else { unreachable!() };
    *per_second = 0;
    assert_eq!(given([]).problems(Command::Bulk(slow)), pairs(&[("/per_second", "out_of_range")]));
    let mut job = job();
    lease(&mut job, 1, 30_000).expect("nobody has it");
    assert_eq!(job.refused(report(1, 20, 0, 201, false)), "too_many_failures");
    assert_eq!(job.types(report(1, 20, 0, 200, false)), ["bulk.progressed"]);
}

#[test]
fn a_job_acts_with_the_right_to_its_act_and_as_who_asked_for_it() {
    let actions = [
        (BulkAction::Start, Permission::WorkflowExecute),
        (BulkAction::Cancel, Permission::ExecutionCancel),
        (BulkAction::Terminate, Permission::ExecutionTerminate),
        (BulkAction::Pause, Permission::ExecutionPause),
        (BulkAction::Resume, Permission::ExecutionPause),
        (BulkAction::Retry, Permission::ExecutionRetry),
        (BulkAction::Correct { node_inputs: Map::new() }, Permission::ExecutionRetry),
        (BulkAction::Signal { name: "go".to_owned(), payload: Value::Null }, Permission::ExecutionSignal),
    ];
    for (action, fitting) in actions {
        for permission in Permission::ALL {
            let decided = given([]).when(Command::Bulk(start_of(action.clone(), *permission)));
            assert_eq!(decided.is_ok(), *permission == fitting, "{action:?} {permission}");
        }
    }
    let asking = |user: Uuid| given([]).with_authority(right(user, Permission::ExecutionBulk, Reach::Any));
    assert_eq!(asking(id(8)).refused(Command::Bulk(start())), "authority_mismatch");
    let mut job = asking(id(7));
    assert_eq!(job.types(Command::Bulk(start())), ["bulk.started"]);
    let other = right(id(8), Permission::ExecutionBulk, Reach::Own);
    let cancel = || Command::Bulk(BulkCommand::Cancel { reason: None });
    assert_eq!(job.clone().with_authority(other).refused(cancel()), "forbidden");
    assert_eq!(job.types(cancel()), ["bulk.cancelled"]);
}
