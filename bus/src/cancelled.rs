//! The memory of cancelled tasks, for a publish that is overtaken by its cancel and for a worker that is handed a task
//! which it has heard cancelled. Bounded.

use std::collections::{HashSet, VecDeque};

use crate::tasks::TaskRef;

/// How many are remembered: far more than an owner has out at a time.
const CANCELLED_CAPACITY: usize = 4_096;

/// The last cancelled tasks. One that is forgotten is delivered if it is published after all, which a worker
/// survives: its result is stale and refused.
#[derive(Default)]
pub(crate) struct Cancelled {
    known: HashSet<TaskRef>,
    /// The oldest first.
    order: VecDeque<TaskRef>,
}

impl Cancelled {
    /// Remembers one, for as long as there are not too many newer ones.
    pub(crate) fn remember(&mut self, task: TaskRef) {
        if !self.known.insert(task.clone()) {
            return;
        }
        self.order.push_back(task);
        if self.order.len() > CANCELLED_CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether the task is known to be cancelled.
    pub(crate) fn contains(&self, task: &TaskRef) -> bool {
        self.known.contains(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::decision::NodeRun;
    use uuid::Uuid;

    #[test]
    fn the_memory_of_cancelled_tasks_is_bounded_and_keeps_the_last() {
        let task = |number: u32| TaskRef {
            execution: Uuid::nil(),
            node: NodeRun { node_id: "a".to_owned(), run: 1, attempt: number },
        };
        let mut cancelled = Cancelled::default();
        for number in 0..=CANCELLED_CAPACITY as u32 {
            cancelled.remember(task(number));
            cancelled.remember(task(number));
        }
        assert_eq!((cancelled.known.len(), cancelled.order.len()), (CANCELLED_CAPACITY, CANCELLED_CAPACITY));
        assert!(!cancelled.contains(&task(0)) && cancelled.contains(&task(1)));
    }
}
