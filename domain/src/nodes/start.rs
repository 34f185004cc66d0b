//! `start`: where an execution begins. No event of its own; its output is the input.

use serde_json::Value;

use crate::workflow::definition::Reader;

use super::Step;

/// No configuration.
#[derive(Debug, Clone)]
pub struct Start;

impl Start {
    pub(super) fn parse(reader: Reader<'_, '_>) -> Self {
        reader.finish();
        Self
    }

    pub(super) fn begin(&self) -> Step {
        Step::Complete { output: Value::Null, handle: None }
    }
}
