//! `everline test`: workflows run against recorded outputs of their worker nodes, with time skipped.
//!
//! ```text
//!   fixture ─► cases ─► world: domain's decider, a clock that jumps, an inbox     ─► outcome ─► expectation
//!                         └► stand-ins: recorded outputs, children, signals, events
//! ```
//!
//! Owns: the fixture format, and a world of executions without store, network or threads, in which the same decider
//! runs as on a server. Invariants: a case depends on its fixture and definitions alone and always gives the same;
//! time moves only when nothing else is left to do; every case ends (the engine bounds histories, the world bounds
//! commands). Deliberately absent: workers, credentials, and lanes with other executions: a concurrency key always has
//! a slot here.
//!
//! Read in this order: [`fixture`], [`world`], `reactions`, `stand_ins`, [`expectation`], [`recorder`].

pub mod expectation;
pub mod fixture;
mod reactions;
mod reader;
pub mod recorder;
mod stand_ins;
pub mod world;

use domain::workflow::definition::Definition;
use std::sync::Arc;

use expectation::Finding;
use fixture::Case;
use world::World;

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// What is not as expected; empty if it passed.
    pub findings: Vec<Finding>,
}

impl CaseReport {
    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Runs a case of a workflow.
pub fn run_case(definition: &Arc<Definition>, case: &Case) -> CaseReport {
    let outcome = World::new(definition, case).run();
    CaseReport { name: case.name.clone(), findings: case.expect.findings(definition, case, &outcome) }
}

#[cfg(test)]
mod tests;
