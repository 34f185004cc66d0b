//! An execution as callers see it: the shape of `GET /executions/{id}`, folded from its events.
//!
//! ```text
//!   events ──► History ──► ExecutionView   one for the execution, with its top-level nodes
//!                     └──► Bodies          one row for each node inside a loop or a branch
//! ```
//!
//! The read model keeps this fold, and the state at an earlier version is the same fold over fewer events, so that both
//! can never disagree. Invariant: an event touches the view and the rows that [`touched_by`] names, nothing else, so a
//! step costs the same in an execution of ten thousand iterations as in one of ten.

mod bodies;
mod fold;
mod fork;
mod history;
mod nodes;
mod replay;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

use crate::node_type::NodeType;
use crate::time::Timestamp;
use crate::workflow::definition::Definition;

use super::event::{CompensationStatus, Effects, Ending, NodeError, OnLimit, ParentRef};
use super::state::ExecutionStatus;

pub use bodies::{Bodies, NodePlace, Touched, touched_by};
pub use history::{History, HistoryError};
pub use nodes::{NodeChild, NodeIterations, NodeView, NodeViewStatus, OpenNodes};
pub use replay::{Replay, WantedPage};

/// An execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionView {
    /// Its id.
    pub id: Uuid,
    /// The workflow.
    pub workflow_id: Uuid,
    /// The workflow's name when it started.
    pub workflow_name: String,
    /// The version it keeps.
    pub workflow_version: u64,
    /// Where it is in its life.
    pub status: ExecutionStatus,
    /// Whether nothing new starts.
    #[serde(default)]
    pub paused: bool,
    /// The input, perhaps a claim check.
    pub input: Value,
    /// The output, perhaps a claim check; null until there is one.
    pub output: Value,
    /// Why it failed.
    pub error: Option<ExecutionError>,
    /// Why it was cancelled or terminated.
    pub cancel_reason: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// From start to end.
    pub duration_ms: Option<u64>,
    /// 0 to 9.
    pub priority: u8,
    /// For search.
    pub attributes: Map<String, Value>,
    /// The version of its last event.
    pub version: u64,
    /// Who started it.
    pub started_by: String,
    /// The ends that were reached.
    pub ends: Vec<String>,
    /// The concurrency key that held it back, or does.
    #[serde(default)]
    pub concurrency: Option<ConcurrencyView>,
    /// How its work is undone.
    #[serde(default)]
    pub compensation: Option<CompensationView>,
    /// What it was forked from.
    #[serde(default)]
    pub forked_from: Option<ForkedFrom>,
    /// Whose child it is.
    #[serde(default)]
    pub parent: Option<ParentRef>,
    /// The user to whom it belongs.
    #[serde(default)]
    pub owner: Option<Uuid>,
    /// How many nodes are open, at any depth. Absent in what an earlier release folded, until the next event.
    #[serde(default)]
    pub open_nodes: Option<OpenNodes>,
    /// Top-level nodes that have an event, in the order of their first.
    pub nodes: Vec<NodeView>,
}

/// Why an execution failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// The node whose failure ended it, if one did.
    pub node_id: Option<String>,
    /// The error itself.
    #[serde(flatten)]
    pub error: NodeError,
}

/// A concurrency key's part in an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyView {
    /// The rendered key.
    pub key: String,
    /// How many may run at once.
    pub limit: u32,
    /// What happens without a slot.
    pub on_limit: OnLimit,
    /// Since when it waited for a slot.
    pub queued_at: Timestamp,
    /// When it got one.
    pub admitted_at: Option<Timestamp>,
}

/// How an execution's work is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensationView {
    /// How it goes.
    pub status: CompensationStatus,
    /// Why.
    pub cause: Ending,
    /// Since when.
    pub started_at: Timestamp,
    /// Until when.
    pub finished_at: Option<Timestamp>,
    /// Path of the compensating node that failed.
    pub node_id: Option<String>,
    /// Why it failed.
    pub error: Option<NodeError>,
}

/// What an execution was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedFrom {
    /// The execution.
    pub execution_id: Uuid,
    /// Its last event that belongs to the fork.
    pub at_version: u64,
    /// What the fork does with effects.
    pub effects: Effects,
}

impl ExecutionView {
    /// Adds the top-level nodes that have no event of their own: those not reached yet, and start and end.
    #[must_use]
    pub fn with_all_nodes(mut self, definition: &Definition) -> Self {
        let known = std::mem::take(&mut self.nodes);
        let mut known: BTreeMap<String, NodeView> =
            known.into_iter().map(|node| (node.id.clone(), node)).collect();
        for node in definition.graph.nodes() {
            let mut view =
                known.remove(&node.id).unwrap_or_else(|| NodeView::pending(&node.id, node.node_type));
            view.node_type = node.node_type;
            if node.node_type == NodeType::Start {
                self.settle_start(&mut view);
            } else if node.node_type == NodeType::End {
                self.settle_end(&mut view);
            }
            self.nodes.push(view);
        }
        // Those of another definition: a fork may run one in which they are not.
        self.nodes.extend(known.into_values());
        self
    }

    fn settle_start(&self, view: &mut NodeView) {
        if self.status == ExecutionStatus::Pending {
            return;
        }
        view.settle(NodeViewStatus::Completed, Some(self.started_at));
        view.output.clone_from(&self.input);
    }

    fn settle_end(&self, view: &mut NodeView) {
        if self.ends.contains(&view.id) {
            view.settle(NodeViewStatus::Completed, self.finished_at);
            let own = if self.ends.len() > 1 { self.output.get(&view.id) } else { Some(&self.output) };
            view.output = own.cloned().unwrap_or_default();
        } else if self.status == ExecutionStatus::Completed {
            view.settle(NodeViewStatus::Skipped, None);
        }
    }
}
