//! What a lane's events add up to.
//!
//! | an execution is | requested | granted | refused | eviction_requested | released |
//! |---|---|---|---|---|---|
//! | unknown | waits | – | – | – | – |
//! | waiting | – | holds | unknown | unknown | unknown |
//! | holding | – | – | – | leaving | unknown |
//! | leaving | – | – | – | – | unknown |

use imbl::OrdMap;
use uuid::Uuid;

use crate::execution::event::OnLimit;

/// A folded lane. Its maps share what is equal between copies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneState {
    /// The version of the stream.
    pub version: u64,
    /// How many slots there are.
    pub limit: u32,
    /// Who holds a slot, by execution.
    pub holders: OrdMap<Uuid, Holder>,
    /// Who waits, in the order in which slots are given: highest priority, then first come.
    pub waiting: OrdMap<(u8, u64), Waiter>,
    /// The place of each waiter in that order.
    pub places: OrdMap<Uuid, (u8, u64)>,
}

/// An execution with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The version at which it was granted; lower is older.
    pub since: u64,
    /// Whether it was asked to end.
    pub leaving: bool,
}

/// An execution that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// The execution.
    pub execution: Uuid,
    /// What it does without a slot.
    pub on_limit: OnLimit,
}
