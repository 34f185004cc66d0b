//! The defects of a document, as many as an answer lists.

use crate::rejection::Problem;

use super::MAX_PROBLEMS;

/// The first [`MAX_PROBLEMS`] defects; further ones are dropped where they are found, because a document of a
/// megabyte can have a hundred thousand, each with its texts.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    /// Takes a defect in, if there is room.
    pub(crate) fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.found.push(problem);
        }
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
