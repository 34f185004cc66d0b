//! Iterations of a `loop` and branches of a `parallel`: which begin next, and when all are done.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::decision::Need;
use crate::expression::Fuel;
use crate::nodes::{NodeConfig, StepError};

use super::advance::Place;
use super::begin::{MAX_COLLECTED_BYTES, bytes_of};
use super::event::{ErrorKind, NodeError};
use super::paths::scope_at;
use super::progress::{Progress, custom_error};
use super::state::Iterations;

impl<'a> Progress<'a> {
    /// Begins as many iterations as may run, or completes the node when none is left.
    pub(super) fn iterate(&mut self, place: &Place<'a>) -> Result<(), Vec<Need>> {
        let Some(node) = self.state.nodes.get(&*place.path) else { return Ok(()) };
        let (run, attempt) = (node.run, node.attempt);
        let Some(iterations) = node.iterations.clone() else { return Ok(()) };
        match &place.node.config {
            NodeConfig::Loop(iteration) if iteration.is_while() => {
                self.iterate_while(place, run, attempt, &iterations)
            }
            NodeConfig::Loop(iteration) => {
                self.iterate_over(place, run, attempt, &iterations, iteration.max_concurrency())
            }
            NodeConfig::Parallel(parallel) => {
                self.iterate_over(place, run, attempt, &iterations, parallel.max_concurrency())
            }
            // After a fork to a version where it is something else.
            _ => {
                self.fail_attempt(
                    place,
                    run,
                    attempt,
                    custom_error("this version has no iterations here".to_owned()),
                );
                Ok(())
            }
        }
    }

    fn iterate_over(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        iterations: &Iterations,
        most: u32,
    ) -> Result<(), Vec<Need>> {
        let count = iterations.count.unwrap_or(0);
        if iterations.completed >= count {
            return self.complete_iterations(place, run, attempt, count);
        }
        let running = iterations.begun.saturating_sub(iterations.completed);
        let room = most.saturating_sub(running).min(count - iterations.begun.min(count));
        // One at a time: what it records says how far the others may go. The scope is looked at again after it.
        for index in iterations.begun..iterations.begun + room {
            self.list_scope(&scope_at(&place.path, index));
        }
        Ok(())
    }

    fn iterate_while(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        iterations: &Iterations,
    ) -> Result<(), Vec<Need>> {
        if iterations.begun > iterations.completed {
            return Ok(());
        }
        let index = iterations.completed;
        let NodeConfig::Loop(iteration) = &place.node.config else { return Ok(()) };
        let Some(started) = self.state.started.clone() else { return Ok(()) };
        // The condition sees the iteration before it.
        let before = index.checked_sub(1).map(|before| scope_at(&place.path, before));
        let mut names = self.scope(&started, &place.path, before.as_deref().unwrap_or(place.scope()));
        names.next_iteration = Some((&place.path, index));
        let mut fuel = Fuel::standard();
        let goes_on = iteration.goes_on(&names, &mut fuel);
        self.budget.evaluated(&fuel);
        match goes_on {
            None | Some(Ok(false)) => self.complete_iterations(place, run, attempt, index),
            Some(Ok(true)) if index >= iteration.max_iterations() => {
                let most = iteration.max_iterations();
                let message = format!(
                    "the condition still holds after {most} iterations, which is all that `max_iterations` allows"
                );
                let details = json!({ "code": "too_many_iterations" });
                let error = NodeError { kind: ErrorKind::InvalidConfig, message, retryable: false, details };
                self.fail_container(place, run, attempt, error);
                Ok(())
            }
            Some(Ok(true)) => {
                self.list_scope(&scope_at(&place.path, index));
                Ok(())
            }
            Some(Err(StepError::NeedsBlob(reference))) => Err(vec![Need::Blob(reference)]),
            Some(Err(StepError::Failed(error))) => {
                self.fail_container(place, run, attempt, error);
                Ok(())
            }
        }
    }

    fn complete_iterations(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        count: u32,
    ) -> Result<(), Vec<Need>> {
        let (mut outputs, mut needs, mut bytes) = (Vec::with_capacity(count as usize), Vec::new(), 0_u64);
        for index in 0..count {
            let scope = self.state.scopes.get(&*scope_at(&place.path, index));
            let output =
                scope.and_then(|scope| scope.output.clone()).unwrap_or_else(|| Arc::new(Value::Null));
            bytes = bytes.saturating_add(bytes_of(&output));
            if bytes > MAX_COLLECTED_BYTES {
                self.fail_collected(place, run, attempt);
                return Ok(());
            }
            match self.content(&output) {
                Ok(output) => outputs.push(output),
                Err(more) => needs.extend(more),
            }
        }
        if !needs.is_empty() {
            return Err(needs);
        }
        self.complete_collected(place, run, attempt, outputs);
        Ok(())
    }
}
