//! `parallel`: several graphs at the same time.

use std::sync::Arc;

use crate::workflow::definition::{Graph, Reader};

use super::{Items, Step};

/// The most branches of one node.
const MAX_BRANCHES: usize = 100;

/// `branches: [graph]`, `max_concurrency`.
#[derive(Debug, Clone)]
pub struct Parallel {
    branches: Vec<Arc<Graph>>,
    max_concurrency: u32,
}

impl Parallel {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let list = reader.required_list("branches");
        if let Some(list) = list
            && (list.is_empty() || list.len() > MAX_BRANCHES)
        {
            let detail = format!("a parallel has 1 to {MAX_BRANCHES} branches");
            reader.report("branches", "out_of_range", detail);
        }
        // Too many are not read: each may be as large as the document allows.
        let list = list.filter(|list| list.len() <= MAX_BRANCHES).unwrap_or_default();
        let branches: Vec<Arc<Graph>> = list
            .iter()
            .enumerate()
            .filter_map(|(index, value)| reader.graph(&format!("branches/{index}"), value))
            .map(Arc::new)
            .collect();
        let max_concurrency =
            reader.number("max_concurrency", 1, MAX_BRANCHES as u64).unwrap_or(MAX_BRANCHES as u64) as u32;
        reader.finish();
        (!list.is_empty() && branches.len() == list.len()).then_some(Self { branches, max_concurrency })
    }

    /// The graphs, in order.
    pub fn branches(&self) -> &[Arc<Graph>] {
        &self.branches
    }

    /// How many branches may run at the same time.
    pub fn max_concurrency(&self) -> u32 {
        self.max_concurrency
    }

    pub(super) fn begin(&self) -> Step {
        Step::Iterate(Items::Branches(self.branches.len() as u32))
    }
}
