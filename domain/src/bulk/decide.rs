//! What follows from a command to a bulk job.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::blob::{MAX_DEPTH, is_too_deep};
use crate::decision::{Decision, Outcome};
use crate::event::{BulkEvent, Event};
use crate::facts::Facts;
use crate::rejection::{Problem, Rejection, RejectionKind};
use crate::time::Timestamp;

use super::command::BulkCommand;
use super::event::{
    BulkAction, BulkCancelled, BulkCompleted, BulkFailure, BulkLeased, BulkProgressed, BulkStarted,
};
use super::state::{BulkState, BulkStatus};

/// The most acts per second.
const MAX_PER_SECOND: u32 = 1_000;
/// The most characters of a reason.
const MAX_REASON_CHARS: usize = 500;
/// The most bytes of a filter's JSON.
const MAX_FILTER_BYTES: usize = 8 * 1024;
/// The most bytes of what is sent to each execution.
const MAX_ACTION_BYTES: usize = 64 * 1024;
/// The most refusals that one report tells of.
const MAX_FAILURES: usize = 200;
/// The longest that a runner has a job without a sign of life.
const MAX_LEASE_MS: u64 = 10 * 60 * 1_000;

/// Decides a command on folded state.
pub fn decide(state: &BulkState, command: &BulkCommand, facts: &Facts) -> Result<Decision, Rejection> {
    if let BulkCommand::Start { action, filter, reason, per_second, found, upper, acting } = command {
        let started = BulkStarted {
            action: action.clone(),
            filter: filter.clone(),
            reason: reason.clone(),
            per_second: *per_second,
            found: *found,
            upper: *upper,
            acting: acting.as_ref().clone(),
        };
        return start(state, started, facts);
    }
    if state.status == BulkStatus::None {
        return Err(not_found(facts.stream));
    }
    let events = match command {
        // Decided before.
        BulkCommand::Start { .. } => Vec::new(),
        BulkCommand::Lease { runner, until } => lease(state, *runner, *until, facts)?,
        BulkCommand::Report { runner, cursor, done, failed, until, last } => {
            let page = Page { cursor: *cursor, done: *done, failed, until: *until, last: *last };
            report(state, *runner, page, facts)?
        }
        BulkCommand::Cancel { reason } => cancel(state, reason.as_deref(), facts)?,
    };
    Ok(outcome(state, events, facts))
}

fn start(state: &BulkState, started: BulkStarted, facts: &Facts) -> Result<Decision, Rejection> {
    if state.status != BulkStatus::None {
        let detail = format!("bulk job {} exists already", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "bulk_exists", detail));
    }
    // Nobody acts through a job with more than the right to the act itself, nor as somebody else.
    let acts_itself = facts.authority.as_ref().is_none_or(|asking| asking.user == started.acting.user);
    if !acts_itself || started.acting.permission != started.action.permission() {
        let detail = "the right that the job would act with is not that of its act; report this as a bug";
        return Err(Rejection::new(RejectionKind::Forbidden, "authority_mismatch", detail));
    }
    let mut problems: Vec<Problem> = reason_problem(&started.reason).into_iter().collect();
    if !(1..=MAX_PER_SECOND).contains(&started.per_second) {
        let detail = format!("1 to {MAX_PER_SECOND} executions per second");
        problems.push(Problem::new("/per_second", "out_of_range", detail));
    }
    let fields = started.filter.as_object();
    if !fields.is_some_and(|fields| fields.values().all(Value::is_string)) {
        let detail = "a filter is an object with the parameters of `GET /api/v1/executions` as texts";
        problems.push(Problem::new("/filter", "wrong_type", detail));
    }
    if started.filter.to_string().len() > MAX_FILTER_BYTES {
        let detail = format!("a filter has at most {MAX_FILTER_BYTES} bytes");
        problems.push(Problem::new("/filter", "too_large", detail));
    }
    problems.extend(action_problems(&started.action));
    check(problems)?;
    Ok(outcome(state, vec![BulkEvent::Started(started)], facts))
}

fn action_problems(action: &BulkAction) -> Vec<Problem> {
    let content = match action {
        BulkAction::Correct { node_inputs } => Value::Object(node_inputs.clone()),
        BulkAction::Signal { payload, .. } => payload.clone(),
        BulkAction::Start
        | BulkAction::Cancel
        | BulkAction::Terminate
        | BulkAction::Pause
        | BulkAction::Resume
        | BulkAction::Retry => return Vec::new(),
    };
    let mut problems = Vec::new();
    let bytes = content.to_string().len();
    if bytes > MAX_ACTION_BYTES {
        let detail =
            format!("what is sent to each has {bytes} bytes; at most {MAX_ACTION_BYTES} are allowed");
        problems.push(Problem::new("/action", "too_large", detail));
    }
    if is_too_deep(&content) {
        let detail = format!("what is sent to each is nested more than {MAX_DEPTH} levels deep");
        problems.push(Problem::new("/action", "too_deep", detail));
    }
    problems
}

fn lease(
    state: &BulkState,
    runner: Uuid,
    until: Timestamp,
    facts: &Facts,
) -> Result<Vec<BulkEvent>, Rejection> {
    running(state, facts)?;
    if let Some((holder, held_until)) = state.lease
        && holder != runner
        && held_until > facts.now
    {
        let detail = format!("bulk job {} is with another runner until {held_until}", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "bulk_leased", detail));
    }
    let until = until.min(facts.now.plus_ms(MAX_LEASE_MS));
    Ok(vec![BulkEvent::Leased(BulkLeased { runner, until })])
}

/// What a runner tells of a page.
struct Page<'a> {
    cursor: Uuid,
    done: u64,
    failed: &'a [BulkFailure],
    until: Timestamp,
    last: bool,
}

fn report(
    state: &BulkState,
    runner: Uuid,
    page: Page<'_>,
    facts: &Facts,
) -> Result<Vec<BulkEvent>, Rejection> {
    running(state, facts)?;
    // Until another takes it, a lease that has run out still says whose turn it is.
    if state.lease.map(|(holder, _)| holder) != Some(runner) {
        let detail = format!("bulk job {} is not with runner {runner}; lease it first", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "bulk_lease_lost", detail));
    }
    if page.failed.len() > MAX_FAILURES {
        let detail = format!("a report tells of at most {MAX_FAILURES} refusals; report smaller pages");
        return Err(Rejection::new(RejectionKind::TooLarge, "too_many_failures", detail));
    }
    let mut events = Vec::new();
    // A page that is told of twice counts once.
    if state.cursor != Some(page.cursor) {
        events.push(BulkEvent::Progressed(BulkProgressed {
            cursor: page.cursor,
            done: state.done.saturating_add(page.done),
            failed: state.failed.saturating_add(page.failed.len() as u64),
            failures: page.failed.to_vec(),
            until: page.until.min(facts.now.plus_ms(MAX_LEASE_MS)),
        }));
    }
    if page.last {
        events.push(BulkEvent::Completed(BulkCompleted {}));
    }
    Ok(events)
}

fn cancel(state: &BulkState, reason: Option<&str>, facts: &Facts) -> Result<Vec<BulkEvent>, Rejection> {
    check(reason.and_then(reason_problem).into_iter().collect())?;
    if state.status == BulkStatus::Cancelled {
        return Ok(Vec::new());
    }
    running(state, facts)?;
    Ok(vec![BulkEvent::Cancelled(BulkCancelled { reason: reason.map(str::to_owned) })])
}

fn running(state: &BulkState, facts: &Facts) -> Result<(), Rejection> {
    match state.status {
        BulkStatus::Running => Ok(()),
        BulkStatus::None | BulkStatus::Completed | BulkStatus::Cancelled => {
            let detail = format!("bulk job {} has ended", facts.stream);
            Err(Rejection::new(RejectionKind::Conflict, "bulk_finished", detail))
        }
    }
}

fn reason_problem(reason: &str) -> Option<Problem> {
    let fits = reason.chars().count() <= MAX_REASON_CHARS && !reason.trim().is_empty();
    let detail = format!("say why in 1 to {MAX_REASON_CHARS} characters");
    (!fits).then(|| Problem::new("/reason", "out_of_range", detail))
}

fn check(problems: Vec<Problem>) -> Result<(), Rejection> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_bulk", "the bulk job is not valid", problems))
}

/// The events, and an answer that shows the job as it is after them.
fn outcome(state: &BulkState, events: Vec<BulkEvent>, facts: &Facts) -> Decision {
    let after = events.iter().fold(state.clone(), super::evolve);
    let answer = json!({
        "id": facts.stream,
        "version": after.version,
        "etag": after.version,
        "status": after.status,
        "found": after.started.as_ref().map(|started| started.found),
        "done": after.done,
        "failed": after.failed,
        "cursor": after.cursor,
        "leased_until": after.lease.map(|(_, until)| until),
        "at": facts.now,
    });
    Decision::Events(Outcome {
        events: events.into_iter().map(Event::Bulk).collect(),
        answer,
        ..Outcome::default()
    })
}

/// The refusal when there is no such job in the tenant.
pub fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "bulk_not_found", format!("there is no bulk job {id}"))
}
