//! Which wakeups the events of an execution have dealt with: their rows stay in the store, but nobody needs to be woken
//! by them. Only thrift: a wakeup that is fired for nothing is refused by its decider.

use std::collections::HashSet;

use domain::decision::{NodeRun, Wakeup, WakeupKind};
use domain::event::{Event, ExecutionEvent};

/// The wakeups that an event deals with, which may have been set long before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// None.
    Nothing,
    /// These.
    Kinds(Vec<WakeupKind>),
    /// All of the execution, which has ended.
    Everything,
}

/// What an event deals with.
pub(crate) fn settled_by(event: &ExecutionEvent) -> Settled {
    let attempt = |node_id: &str, run, attempt| {
        let node = NodeRun { node_id: node_id.to_owned(), run, attempt };
        Settled::Kinds(vec![WakeupKind::AttemptDeadline(node.clone()), WakeupKind::EventWait(node)])
    };
    let timer = |node_id: &str, run, attempt| {
        Settled::Kinds(vec![WakeupKind::Timer(NodeRun { node_id: node_id.to_owned(), run, attempt })])
    };
    match event {
        ExecutionEvent::NodeCompleted(e) => attempt(&e.node_id, e.run, e.attempt),
        ExecutionEvent::NodeFailed(e) => attempt(&e.node_id, e.run, e.attempt),
        ExecutionEvent::NodeCancelled(e) => attempt(&e.node_id, e.run, e.attempt),
        ExecutionEvent::TimerFired(e) => timer(&e.node_id, e.run, e.attempt),
        ExecutionEvent::TimerCancelled(e) => timer(&e.node_id, e.run, e.attempt),
        ExecutionEvent::CompensationFinished(_) => Settled::Kinds(vec![WakeupKind::StopGrace]),
        ExecutionEvent::Completed(_)
        | ExecutionEvent::Failed(_)
        | ExecutionEvent::Cancelled(_)
        | ExecutionEvent::Terminated(_) => Settled::Everything,
        ExecutionEvent::Started(_)
        | ExecutionEvent::Forked(_)
        | ExecutionEvent::Queued(_)
        | ExecutionEvent::Admitted(_)
        | ExecutionEvent::NodeScheduled(_)
        | ExecutionEvent::NodeStarted(_)
        | ExecutionEvent::ScopeCompleted(_)
        | ExecutionEvent::RunStarted(_)
        | ExecutionEvent::NodeSkipped(_)
        | ExecutionEvent::NodeWaiting(_)
        | ExecutionEvent::NodeRetryScheduled(_)
        | ExecutionEvent::NodeDeadLettered(_)
        | ExecutionEvent::NodeCompensated(_)
        | ExecutionEvent::TimerStarted(_)
        | ExecutionEvent::SignalReceived(_)
        | ExecutionEvent::WaitSatisfied(_)
        | ExecutionEvent::EventEmitted(_)
        | ExecutionEvent::Responded(_)
        | ExecutionEvent::CompensationStarted(_)
        | ExecutionEvent::ChildStarted(_)
        | ExecutionEvent::ChildFinished(_)
        | ExecutionEvent::ChildCompensationRequested(_)
        | ExecutionEvent::ChildCompensated(_)
        | ExecutionEvent::Paused(_)
        | ExecutionEvent::Resumed(_)
        | ExecutionEvent::Retried(_)
        | ExecutionEvent::Warning(_) => Settled::Nothing,
    }
}

/// The wakeups of an append that its own events have not dealt with. An append may set one, deal with it, and set it
/// anew; and one that goes on with an execution that had ended sets new ones.
pub(crate) fn left_open(events: &[Event], wakeups: Vec<Wakeup>) -> Vec<Wakeup> {
    if wakeups.is_empty() {
        return wakeups;
    }
    let (mut settled, mut set_later) = (HashSet::new(), HashSet::new());
    for (from_end, event) in events.iter().rev().enumerate() {
        let Event::Execution(event) = event else { continue };
        match settled_by(event) {
            Settled::Nothing => {}
            Settled::Kinds(kinds) => {
                settled.extend(kinds.into_iter().filter(|kind| !set_later.contains(kind)));
            }
            Settled::Everything if from_end == 0 => return Vec::new(),
            Settled::Everything => {}
        }
        set_later.extend(set_by(event));
    }
    wakeups.into_iter().filter(|wakeup| !settled.contains(&wakeup.kind)).collect()
}

/// The wakeup that an event says is set.
fn set_by(event: &ExecutionEvent) -> Option<WakeupKind> {
    let node = |node_id: &str, run, attempt| NodeRun { node_id: node_id.to_owned(), run, attempt };
    match event {
        ExecutionEvent::NodeScheduled(e) => {
            Some(WakeupKind::AttemptDeadline(node(&e.node_id, e.run, e.attempt)))
        }
        ExecutionEvent::TimerStarted(e) => Some(WakeupKind::Timer(node(&e.node_id, e.run, e.attempt))),
        ExecutionEvent::NodeWaiting(e) => Some(WakeupKind::EventWait(node(&e.node_id, e.run, e.attempt))),
        ExecutionEvent::CompensationStarted(_) => Some(WakeupKind::StopGrace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::execution::event::{
        ExecutionRetried, ExecutionTerminated, TimerCancelled, TimerPurpose, TimerStarted,
    };
    use domain::time::Timestamp;
    use serde_json::Map;

    fn node(attempt: u32) -> NodeRun {
        NodeRun { node_id: "loop/1/d".to_owned(), run: 1, attempt }
    }

    fn wakeup(kind: WakeupKind) -> Wakeup {
        Wakeup { due_at: Timestamp::MAX, kind }
    }

    fn started(attempt: u32) -> Event {
        let NodeRun { node_id, run, attempt } = node(attempt);
        let due_at = Timestamp::MAX;
        Event::Execution(TimerStarted { node_id, run, attempt, purpose: TimerPurpose::Delay, due_at }.into())
    }

    fn cancelled(attempt: u32) -> Event {
        let NodeRun { node_id, run, attempt } = node(attempt);
        Event::Execution(TimerCancelled { node_id, run, attempt, purpose: TimerPurpose::Delay }.into())
    }

    #[test]
    fn a_timer_that_is_set_and_cancelled_in_one_append_is_dealt_with() {
        let wakeups = vec![wakeup(WakeupKind::Timer(node(1))), wakeup(WakeupKind::Timer(node(2)))];
        let left = left_open(&[started(1), started(2), cancelled(1)], wakeups);
        assert_eq!(left, [wakeup(WakeupKind::Timer(node(2)))]);
    }

    #[test]
    fn a_timer_that_is_cancelled_and_set_anew_in_one_append_stays() {
        let wakeups = vec![wakeup(WakeupKind::Timer(node(1)))];
        assert_eq!(left_open(&[cancelled(1), started(1)], wakeups.clone()), wakeups);
    }

    #[test]
    fn an_end_deals_with_everything_and_what_goes_on_after_it_with_nothing() {
        let end = ExecutionTerminated { reason: None, duration_ms: 1, notice: Default::default() };
        let retried = ExecutionRetried {
            reason: None,
            nodes: vec!["loop/1/d".to_owned()],
            node_inputs: Map::new(),
            compensation: false,
            deadline: None,
        };
        let (end, retried) = (Event::Execution(end.into()), Event::Execution(retried.into()));
        let wakeups = vec![wakeup(WakeupKind::ExecutionDeadline), wakeup(WakeupKind::Timer(node(1)))];
        assert!(left_open(&[retried.clone(), started(1), end.clone()], wakeups.clone()).is_empty());
        assert_eq!(left_open(&[end, retried, started(1)], wakeups.clone()), wakeups);
    }
}
