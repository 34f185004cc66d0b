//! A slow and obvious interpreter of the workflow format, written from its description alone.
//!
//! ```text
//!   happening (answer, timer, signal) ─► its node ends ─► look at every node of every graph, until nothing changes
//!                 ▲                                                        │
//!                 └────────────── virtual time ◄── begun nodes say when ◄──┘
//! ```
//!
//! Owns: how an execution must end, from documents, input, signals and the workers' answers. It shares with the engine
//! the evaluation of expressions, and nothing else: it reads documents itself, keeps no events and repeats every
//! question instead of remembering answers. Deliberately absent: compensation (checked on the log, which says what
//! completed when; a failed child that may undo makes its parent ambiguous), pause, cancel, lanes, forks.
//!
//! Where two things happen in the same virtual millisecond and the order could matter, [`Ending::ambiguous`] says so;
//! where it matters only to nodes that a merge may or may not have stopped, [`Ending::either_way`] names them.

mod course;
mod document;
mod names;
mod readiness;
mod steps;
mod ties;
mod waits;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use crate::generate::{Case, Signal};

pub(crate) use steps::child_label;

/// How deep children are followed.
const DEEPEST: u32 = 32;

/// How an execution ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With an output.
    Completed,
    /// With an error.
    Failed,
}

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEnd {
    /// It has an output, perhaps `{"error": …}`.
    Completed,
    /// It never ran, or was stopped.
    NotCompleted,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The class of failure, as in events.
    pub kind: String,
    /// The node where it happened, where a node around it carries it.
    pub inner: Option<String>,
}

/// What is known of a node at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeEnding {
    /// How it ended in its last run.
    pub end: NodeEnd,
    /// Its latest output.
    pub output: Option<Value>,
    /// The number of its last run, if it is one of the top level; runs inside containers are numbered freely.
    pub run: Option<u32>,
}

/// The end of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// How.
    pub status: Status,
    /// The output; null if it failed.
    pub output: Value,
    /// The node of the top level that failed it.
    pub failed_node: Option<String>,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// Every node by path, without starts, ends and compensating nodes.
    pub nodes: BTreeMap<String, NodeEnding>,
    /// Virtual milliseconds from its start.
    pub took_ms: u64,
    /// Why another end would be as good, where it depends on an order that nothing says.
    pub ambiguous: Option<String>,
    /// The nodes, by path, that may as well have been cancelled, with all inside them; nothing else depends on which.
    pub either_way: BTreeSet<String>,
}

/// Stands in an expected value for anything: a time or an id.
pub const ANYTHING: &str = "<anything>";

/// How an execution of `main` must end, with signals at their times. The label tells its workers which one it is.
pub fn ending(case: &Case, label: &str) -> Ending {
    course::Course::new(case, label.to_owned(), "main", &case.input, &case.signals, 0).run()
}

/// How `main` must end if all signals come at once.
pub fn ending_with_early_signals(case: &Case, label: &str) -> Ending {
    let early: Vec<Signal> =
        case.signals.iter().map(|signal| Signal { at_ms: 0, ..signal.clone() }).collect();
    course::Course::new(case, label.to_owned(), "main", &case.input, &early, 0).run()
}
