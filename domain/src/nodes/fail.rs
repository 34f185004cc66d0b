//! `fail`: stops with an error.

use serde_json::Value;

use crate::execution::event::ErrorKind;
use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::workflow::definition::Reader;

use super::{Step, StepError};

/// `message`: a text, may be a template.
#[derive(Debug, Clone)]
pub struct Fail {
    message: Option<Template>,
}

impl Fail {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let message = reader.text("message").map(|text| Value::String(text.to_owned()));
        let message = message.and_then(|value| reader.template("message", &value, Credentials::Refused));
        reader.finish();
        Some(Self { message })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let message = match &self.message {
            None => "the workflow says so".to_owned(),
            Some(template) => {
                match template.render(scope, fuel).map_err(|e| StepError::render("/message", e))? {
                    Value::String(text) => text,
                    other => other.to_string(),
                }
            }
        };
        Err(StepError::fail(ErrorKind::Custom, message, Value::Null))
    }

    pub(super) fn references(&self) -> References {
        self.message.as_ref().map(Template::references).unwrap_or_default()
    }
}
