//! What can be asked of a lane, by the reactor alone.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::execution::event::OnLimit;

/// A command to a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneCommand {
    /// A slot for an execution.
    Request {
        /// The execution.
        execution: Uuid,
        /// The workflow whose lane it is.
        workflow_id: Uuid,
        /// The rendered key.
        key: String,
        /// How many slots there are from now on: the latest definition says.
        limit: u32,
        /// What happens without a slot.
        on_limit: OnLimit,
        /// 0 to 9; higher goes first.
        priority: u8,
    },
    /// An execution has ended.
    Release {
        /// The execution.
        execution: Uuid,
    },
}

impl LaneCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Request { .. } => "RequestSlot",
            Self::Release { .. } => "ReleaseSlot",
        }
    }
}
