//! `transform`: renders JSON.

use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::workflow::definition::Reader;

use super::{Step, StepError};

/// `output`: any JSON with templates.
#[derive(Debug, Clone)]
pub struct Transform {
    output: Template,
}

impl Transform {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let output = reader
            .required("output")
            .and_then(|value| reader.template("output", value, Credentials::Refused));
        reader.finish();
        Some(Self { output: output? })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let output = self.output.render(scope, fuel).map_err(|e| StepError::render("/output", e))?;
        Ok(Step::Complete { output, handle: None })
    }

    pub(super) fn references(&self) -> References {
        self.output.references()
    }
}
