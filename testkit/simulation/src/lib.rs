//! A seeded simulation of Everline, and a second opinion on what a workflow means.
//!
//! ```text
//!   seed ─► generate ─► documents, input, signals ─┬─► reference: how it must end
//!                                                  └─► world: the real deciders under faults ─► how it ended
//! ```
//!
//! In reading order: [`random`], [`generate`], [`answers`], [`reference`], [`world`].
//!
//! Invariants: one seed is one scenario; no clock, no thread, no other source of chance. What is checked, and what is
//! not, is in `docs/simulation.md`.

pub mod answers;
pub mod generate;
pub mod random;
pub mod reference;
pub mod world;
