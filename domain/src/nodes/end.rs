//! `end`: where an execution ends. No event of its own; its output is rendered when the execution completes.

use serde_json::Value;

use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::workflow::definition::Reader;

use super::{Step, StepError};

/// `output`: any JSON with templates; null if it is left out.
#[derive(Debug, Clone)]
pub struct End {
    output: Option<Template>,
}

impl End {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Self {
        let output = reader
            .optional("output")
            .and_then(|value| reader.template("output", value, Credentials::Refused));
        reader.finish();
        Self { output }
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let output = match &self.output {
            Some(template) => template.render(scope, fuel).map_err(|e| StepError::render("/output", e))?,
            None => Value::Null,
        };
        Ok(Step::Complete { output, handle: None })
    }

    pub(super) fn references(&self) -> References {
        self.output.as_ref().map(Template::references).unwrap_or_default()
    }
}
