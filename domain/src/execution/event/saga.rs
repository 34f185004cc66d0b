//! Events of children and of compensation.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::execution::state::ExecutionStatus;
use crate::node_type::NodeType;

use super::{NodeError, ParentRef};

/// `execution.node.compensated`: what the node did is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeCompensated {
    /// Path of the node whose work is undone.
    pub node_id: String,
    /// Which of its runs.
    pub run: u32,
    /// The attempt that had completed it; 0 if its outcome was not known.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// Path of the node that undid it; of the node itself where its child did.
    pub by: String,
    /// The run of that node.
    pub by_run: u32,
}

/// Why an execution undoes its work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ending {
    /// It failed.
    Failed {
        /// The node whose failure ended it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node_id: Option<String>,
        /// Why.
        error: NodeError,
    },
    /// It was cancelled.
    Cancelled {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It had completed, and its parent undoes its own work.
    ByParent,
}

/// `execution.compensation.started`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensationStarted {
    /// Why.
    pub cause: Ending,
    /// The parent that asked for it and waits for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
}

/// How a compensation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompensationStatus {
    /// It is under way.
    Running,
    /// Everything is undone.
    Completed,
    /// A compensating node failed; what is older is not undone.
    Failed,
}

/// `execution.compensation.finished`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensationFinished {
    /// How it ended.
    pub status: CompensationStatus,
    /// Path of the compensating node that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<NodeError>,
    /// The parent that waits for it, where a parent asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
}

/// `execution.child.started`, version 2 (1 had no `owner`): a `sub_workflow` node asks for a child. The child's own stream says whether it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildStarted {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The child.
    pub child_id: Uuid,
    /// Its workflow, by id or name.
    pub workflow: String,
    /// Its version; the latest published if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_version: Option<u64>,
    /// Its input, perhaps a claim check.
    pub input: Value,
    /// Whether the node waits for it.
    pub wait: bool,
    /// How deep the child is below its root.
    pub depth: u32,
    /// 0 to 9; its parent's.
    pub priority: u8,
    /// The user to whom it belongs: its parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
}

/// `execution.child.finished`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildFinished {
    /// Path of the node.
    pub node_id: String,
    /// Its run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
    /// The child.
    pub child_id: Uuid,
    /// How it ended: completed, failed, cancelled or terminated.
    pub status: ExecutionStatus,
    /// What it gave, perhaps a claim check.
    pub output: Value,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<NodeError>,
}

/// `execution.child.compensation_requested`: a completed child is to undo its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCompensationRequested {
    /// Path of the node.
    pub node_id: String,
    /// Its run.
    pub run: u32,
    /// The attempt that had completed it.
    pub attempt: u32,
    /// The child.
    pub child_id: Uuid,
}

/// `execution.child.compensated`: it has undone its work, or could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCompensated {
    /// Path of the node.
    pub node_id: String,
    /// Its run.
    pub run: u32,
    /// The child.
    pub child_id: Uuid,
    /// How it went.
    pub status: CompensationStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<NodeError>,
}
