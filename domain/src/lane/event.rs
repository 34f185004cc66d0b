//! What a lane's stream is made of.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::execution::event::OnLimit;

/// `lane.requested`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRequested {
    /// The execution that asks.
    pub execution_id: Uuid,
    /// The workflow whose lane it is.
    pub workflow_id: Uuid,
    /// The rendered key.
    pub key: String,
    /// How many slots there are from now on.
    pub limit: u32,
    /// What happens without a slot.
    pub on_limit: OnLimit,
    /// 0 to 9; higher goes first.
    pub priority: u8,
}

/// `lane.granted`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneGranted {
    /// The execution that has the slot.
    pub execution_id: Uuid,
}

/// `lane.refused`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRefused {
    /// The execution that does not wait.
    pub execution_id: Uuid,
}

/// `lane.eviction_requested`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneEvictionRequested {
    /// The execution that is to end.
    pub execution_id: Uuid,
    /// The one that it makes room for.
    pub for_execution_id: Uuid,
}

/// `lane.released`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneReleased {
    /// The execution that has ended.
    pub execution_id: Uuid,
}
