//! How much one decision may do before it yields to other commands of its partition.
//!
//! Counted are events, bytes of values and steps of expressions. What is over the budget goes on with the next
//! decision, woken at once; no single command can hold a partition, or grow past what one append may carry.

use crate::decision::YIELD_AFTER_EVENTS;
use crate::expression::{Fuel, STANDARD_STEPS};

/// Bytes of values that one decision may make. An append carries twice as much, and the last value may be as large
/// as an expression can build.
const YIELD_AFTER_BYTES: usize = 2 * 1024 * 1024;
/// Steps of expressions that one decision may take; the last expression may take a whole standard budget more.
const YIELD_AFTER_STEPS: u64 = STANDARD_STEPS;

/// What a decision has used.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: usize,
    steps: u64,
}

impl Budget {
    /// Counts a value that was made.
    pub(super) fn made(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts what an evaluation has left of its standard fuel.
    pub(super) fn evaluated(&mut self, fuel: &Fuel) {
        self.steps = self.steps.saturating_add(STANDARD_STEPS.saturating_sub(fuel.steps_left()));
    }

    /// Whether the rest must wait for the next decision.
    pub(super) fn is_spent(&self, events: usize) -> bool {
        events >= YIELD_AFTER_EVENTS || self.bytes >= YIELD_AFTER_BYTES || self.steps >= YIELD_AFTER_STEPS
    }
}
