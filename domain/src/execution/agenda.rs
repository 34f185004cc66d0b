//! What a decision must still look at.
//!
//! A state that was folded from a log may have been cut anywhere, so everything in it may have consequences that are
//! not recorded. A state that a decision leaves has none but those the decision has put off; the next one starts
//! with what its own event touches. That is what keeps the cost of a step independent of the length of the history.

use std::collections::VecDeque;
use std::sync::Arc;

/// Paths whose consequences may not be recorded.
#[derive(Debug, Clone, Default)]
pub(crate) enum Agenda {
    /// All of them.
    #[default]
    Everything,
    /// These.
    Items(VecDeque<Item>),
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// A node, by path.
    Node(Arc<str>),
    /// A scope, by path: its nodes that have not begun, and whether it is done.
    Scope(Arc<str>),
}
