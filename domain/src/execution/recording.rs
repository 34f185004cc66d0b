//! What an execution has on record: for each path and run, what a worker was asked and what came of it.
//!
//! A fork that replays takes its outcomes from here. Folded over the origin's events up to a fixed version, so the same
//! fork always finds the same.

use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

use crate::event::ExecutionEvent;

use super::event::NodeError;
use super::state::ExecutionStatus;

/// The recorded outcomes of an execution's nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    runs: HashMap<(String, u32), Recorded>,
}

/// What is on record of one run of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// The rendered configuration, or the child's input; perhaps a claim check.
    pub config: Option<Arc<Value>>,
    /// The last outcome: the output, perhaps a claim check, or why there is none.
    pub outcome: Option<Result<Arc<Value>, NodeError>>,
}

impl Recording {
    /// Takes in one more event of the execution.
    pub fn fold(&mut self, event: &ExecutionEvent) {
        match event {
            ExecutionEvent::NodeScheduled(e) => self.asked(&e.node_id, e.run, &e.config),
            ExecutionEvent::ChildStarted(e) => self.asked(&e.node_id, e.run, &e.input),
            ExecutionEvent::NodeCompleted(e) => {
                self.run(&e.node_id, e.run).outcome = Some(Ok(Arc::new(e.output.clone())));
            }
            ExecutionEvent::NodeFailed(e) => {
                self.run(&e.node_id, e.run).outcome = Some(Err(e.error.clone()));
            }
            ExecutionEvent::ChildFinished(e) if e.status == ExecutionStatus::Completed => {
                self.run(&e.node_id, e.run).outcome = Some(Ok(Arc::new(e.output.clone())));
            }
            _ => {}
        }
    }

    /// What is on record of a run.
    pub fn get(&self, path: &str, run: u32) -> Option<&Recorded> {
        // The map is asked once per node of a replay; a borrowed pair as key is not worth its trait.
        self.runs.get(&(path.to_owned(), run))
    }

    fn asked(&mut self, path: &str, run: u32, config: &Value) {
        let recorded = self.run(path, run);
        if recorded.config.as_deref().is_some_and(|before| before != config) {
            // What came of another request says nothing about this one.
            recorded.outcome = None;
        }
        recorded.config = Some(Arc::new(config.clone()));
    }

    fn run(&mut self, path: &str, run: u32) -> &mut Recorded {
        self.runs.entry((path.to_owned(), run)).or_default()
    }
}
