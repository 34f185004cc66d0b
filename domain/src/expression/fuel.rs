//! Fuel: what one evaluation may spend.
//!
//! Owns the two budgets and their standard sizes. A step stands for 10 to 30 ns of work in a release build;
//! the byte budget bounds everything an evaluation builds, and is never given back.
//!
//! Invariant: work whose size comes from data is charged before it is done, in proportion to that size. The
//! charge depends on the program and the data alone, never on a cache or a clock, so that a replay runs out
//! of fuel exactly where the first run did.

use super::error::Fault;

/// Steps of [`Fuel::standard`].
pub const STANDARD_STEPS: u64 = 1_500_000;

/// Bytes of [`Fuel::standard`].
pub const STANDARD_BYTES: u64 = 16 * 1024 * 1024;

/// How many bytes of text one step reads.
const BYTES_PER_STEP: u64 = 32;

/// The budget of one evaluation, or of several that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fuel {
    steps: u64,
    bytes: u64,
}

impl Fuel {
    /// Enough for any reasonable expression, and spent within 100 ms in a release build.
    pub fn standard() -> Self {
        Self::new(STANDARD_STEPS, STANDARD_BYTES)
    }

    /// A budget of `steps` of work and `bytes` of values built.
    pub fn new(steps: u64, bytes: u64) -> Self {
        Self { steps, bytes }
    }

    /// Steps that may still be taken.
    pub fn steps_left(&self) -> u64 {
        self.steps
    }

    /// Bytes that may still be built.
    pub fn bytes_left(&self) -> u64 {
        self.bytes
    }

    /// Takes `steps`; what is left after a refusal is nothing, so that no smaller request passes.
    pub(super) fn charge(&mut self, steps: u64) -> Result<(), Fault> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                Err(Fault::OutOfFuel(Budget::Steps))
            }
        }
    }

    /// Pays for reading `bytes` of text.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), Fault> {
        self.charge(1 + bytes as u64 / BYTES_PER_STEP)
    }

    /// Pays for building `bytes`, and for the time it takes to write them.
    pub(super) fn build(&mut self, bytes: usize) -> Result<(), Fault> {
        self.read(bytes)?;
        match self.bytes.checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => {
                self.bytes = 0;
                Err(Fault::OutOfFuel(Budget::Bytes))
            }
        }
    }
}

/// Which budget ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Too much work.
    Steps,
    /// Too much memory.
    Bytes,
}
