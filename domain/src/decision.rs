//! What a decider answers, and what it may ask for first.
//!
//! A decider is a pure function of folded state, command and [`Facts`](crate::facts). When it must know
//! something immutable that it was not given, it answers [`Decision::Needs`]; the shell fetches that and
//! asks again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

use crate::blob::{Blob, BlobRef};
use crate::event::Event;
use crate::execution::ExecutionState;
use crate::time::Timestamp;

/// The most events that one decision may hold before it yields to other commands of its partition.
pub const YIELD_AFTER_EVENTS: usize = 500;

/// What follows from a command.
#[derive(Debug)]
pub enum Decision {
    /// Append this; an outcome without events changes nothing.
    Events(Outcome),
    /// Fetch these first and ask again.
    Needs(Vec<Need>),
}

/// Everything that one command appends, whole or not at all.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The events, in order.
    pub events: Vec<Event>,
    /// Names taken and given back.
    pub claims: Vec<ClaimChange>,
    /// When the aggregate must be looked at again.
    pub wakeups: Vec<Wakeup>,
    /// Large values that the events refer to.
    pub blobs: Vec<Blob>,
    /// What the caller is told, at most 1 KiB of JSON.
    pub answer: Value,
    /// The state after the events, where the decider has it: then nobody needs to fold them again, and what it has
    /// looked at already need not be looked at by the next decision.
    pub after: Option<Box<ExecutionState>>,
}

/// An immutable thing that a decider must know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Need {
    /// The folded head of a workflow: its published version, whether it is enabled.
    Workflow(Uuid),
    /// A definition by workflow and version.
    Definition {
        /// The workflow.
        workflow: Uuid,
        /// Its version.
        version: u64,
    },
    /// The tenant's variables: a version of them, or the latest.
    Variables(Option<u64>),
    /// The content of a claim check.
    Blob(BlobRef),
    /// Another execution of the tenant as of a version, for a fork.
    Origin {
        /// The execution.
        execution: Uuid,
        /// Its last event that counts.
        at_version: u64,
    },
    /// The recorded outcomes of an execution's nodes, for a fork that replays.
    Recording {
        /// The execution.
        execution: Uuid,
        /// Its last event that counts.
        until: u64,
    },
}

/// A name taken or given back in the append.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimChange {
    /// What kind of name, for instance `workflow_name`.
    pub kind: &'static str,
    /// The name itself.
    pub key: String,
    /// Taken or given back.
    pub op: ClaimOp,
    /// Among whose names it is unique.
    pub scope: ClaimScope,
}

/// Among whose names a name is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClaimScope {
    /// Its tenant's; taken in the tenant's home partition.
    #[default]
    Tenant,
    /// All of the installation; taken in the partition where all who take such names live.
    Installation,
}

/// Whether a name is taken or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimOp {
    /// Refused if another stream holds it.
    Take,
    /// Free for others.
    Release,
}

/// A time at which the aggregate must be looked at again. Insert-only; a stale one is refused by `decide`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wakeup {
    /// When.
    pub due_at: Timestamp,
    /// Why.
    pub kind: WakeupKind,
}

/// Why an execution asked to be woken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WakeupKind {
    /// The decision yielded at this version of the stream; go on. The version makes each yield a wakeup of its own,
    /// also where two of them fall into one millisecond.
    Yield(u64),
    /// The whole execution must be done.
    ExecutionDeadline,
    /// An attempt must be done.
    AttemptDeadline(NodeRun),
    /// A delay, a back-off or the patience of a wait ends.
    Timer(NodeRun),
    /// Attempts that were asked to stop have had their time.
    StopGrace,
    /// A wait for events is open. Far ahead, and set again when it is due: what the owner of a partition finds the waits
    /// by for which it must look for events.
    EventWait(NodeRun),
}

/// One attempt of one run of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeRun {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// Its attempt, from 1.
    pub attempt: u32,
}

impl fmt::Display for WakeupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yield(version) => write!(f, "yield:{version}"),
            Self::ExecutionDeadline => f.write_str("execution_deadline"),
            Self::StopGrace => f.write_str("stop_grace"),
            Self::AttemptDeadline(node) => {
                write!(f, "attempt_deadline:{}:{}:{}", node.run, node.attempt, node.node_id)
            }
            Self::Timer(node) => write!(f, "timer:{}:{}:{}", node.run, node.attempt, node.node_id),
            Self::EventWait(node) => {
                write!(f, "event_wait:{}:{}:{}", node.run, node.attempt, node.node_id)
            }
        }
    }
}

/// The text in a `wakeups` row is not one that Everline writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a wakeup kind")]
pub struct WakeupKindError(String);

impl FromStr for WakeupKind {
    type Err = WakeupKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || WakeupKindError(text.to_owned());
        let mut parts = text.splitn(4, ':');
        let kind = parts.next().ok_or_else(refuse)?;
        let node = |parts: &mut std::str::SplitN<'_, char>| -> Option<NodeRun> {
            let run = parts.next()?.parse().ok()?;
            let attempt = parts.next()?.parse().ok()?;
            Some(NodeRun { run, attempt, node_id: parts.next()?.to_owned() })
        };
        match kind {
            "yield" => parts.next().and_then(|v| v.parse().ok()).map(Self::Yield).ok_or_else(refuse),
            "execution_deadline" => Ok(Self::ExecutionDeadline),
            "stop_grace" => Ok(Self::StopGrace),
            "attempt_deadline" => node(&mut parts).map(Self::AttemptDeadline).ok_or_else(refuse),
            "timer" => node(&mut parts).map(Self::Timer).ok_or_else(refuse),
            "event_wait" => node(&mut parts).map(Self::EventWait).ok_or_else(refuse),
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wakeup_kind_reads_back_from_its_text() {
        let node = NodeRun { node_id: "loop/3/fetch".into(), run: 2, attempt: 1 };
        for kind in [
            WakeupKind::Yield(501),
            WakeupKind::ExecutionDeadline,
            WakeupKind::StopGrace,
            WakeupKind::AttemptDeadline(node.clone()),
            WakeupKind::EventWait(node.clone()),
            WakeupKind::Timer(node),
        ] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("timer:1".parse::<WakeupKind>().is_err());
    }
}
