//! The defects of a document, as many as an answer lists.

use crate::rejection::Problem;

use super::{MAX_GRAPH_DEPTH, MAX_NODES, MAX_PROBLEMS};

/// The first [`MAX_PROBLEMS`] defects; further ones are dropped where they are found, because a document of a
/// megabyte can have a hundred thousand, each with its texts.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
    /// How many graphs the reader is inside of.
    depth: usize,
    /// Nodes read so far, in all graphs.
    nodes: usize,
}

impl Problems {
    /// Takes a defect in, if there is room.
    pub(crate) fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.found.push(problem);
        }
    }

    /// Enters a graph inside another, unless it is too deep; [`Problems::come_up`] leaves it.
    pub(crate) fn go_down(&mut self, pointer: &str) -> bool {
        if self.depth >= MAX_GRAPH_DEPTH {
            let detail = format!(
                "graphs may be nested {MAX_GRAPH_DEPTH} deep; move the inner ones to a workflow of their own"
            );
            self.push(Problem::new(pointer, "graphs_too_deep", detail));
            return false;
        }
        self.depth += 1;
        true
    }

    /// Leaves a graph.
    pub(crate) fn come_up(&mut self) {
        self.depth -= 1;
    }

    /// Counts nodes of any graph of the document; whether there are too many.
    pub(crate) fn count_nodes(&mut self, nodes: usize) -> bool {
        self.nodes = self.nodes.saturating_add(nodes);
        self.nodes <= MAX_NODES
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether looking for more is in vain.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    /// What was found, in that order.
    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defects_past_the_bound_are_not_kept() {
        let mut problems = Problems::default();
        for number in 0..10_000 {
            problems.push(Problem::new(format!("/{number}"), "wrong_type", ""));
        }
        assert!(problems.is_full());
        let pointers: Vec<_> = problems.into_vec().into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(pointers, (0..MAX_PROBLEMS).map(|number| format!("/{number}")).collect::<Vec<_>>());
    }
}
