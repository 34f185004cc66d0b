//! `emit_event`: writes an event that others can wait for.

use serde_json::{Value, json};

use crate::event::CATALOGUE;
use crate::execution::event::ErrorKind;
use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::workflow::definition::Reader;

use super::{Step, StepError};

/// The most bytes of an event's type.
const MAX_TYPE_BYTES: usize = 128;

/// `type` (such as `order.paid`), `data`; both may be templates.
#[derive(Debug, Clone)]
pub struct EmitEvent {
    event_type: Template,
    data: Option<Template>,
}

impl EmitEvent {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let event_type = reader.required_text("type").map(|text| Value::String(text.to_owned()));
        let event_type = event_type.and_then(|value| reader.template("type", &value, Credentials::Refused));
        if event_type.as_ref().is_some_and(Template::is_constant)
            && let Some(rule) = reader.text("type").and_then(broken_rule)
        {
            reader.report("type", "invalid_value", rule);
        }
        let data =
            reader.optional("data").and_then(|value| reader.template("data", value, Credentials::Refused));
        reader.finish();
        Some(Self { event_type: event_type?, data })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let event_type = self.event_type.render(scope, fuel).map_err(|e| StepError::render("/type", e))?;
        if let Some(rule) = broken_rule(event_type.as_str().unwrap_or_default()) {
            return Err(StepError::fail(ErrorKind::InvalidConfig, rule, json!({"pointer": "/type"})));
        }
        let data = match &self.data {
            Some(template) => template.render(scope, fuel).map_err(|e| StepError::render("/data", e))?,
            None => Value::Null,
        };
        Ok(Step::Emit { event_type: event_type.as_str().unwrap_or_default().to_owned(), data })
    }

    pub(super) fn references(&self) -> References {
        let mut all = self.event_type.references();
        if let Some(data) = &self.data {
            all.extend(&data.references());
        }
        all
    }
}

const TYPE_RULE: &str =
    "an event's type is dotted words of a-z, 0-9, _ and -, such as order.paid, of at most 128 bytes";

/// Waits find Everline's own events and an author's by the same field, so an author's cannot look like one of them.
const OWN_RULE: &str = "types that begin with the name of one of Everline's aggregates, such as execution., are its own; choose another";

/// The rule that a type breaks.
fn broken_rule(text: &str) -> Option<&'static str> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    if text.len() > MAX_TYPE_BYTES || !text.split('.').all(is_word) {
        return Some(TYPE_RULE);
    }
    let first = text.split('.').next();
    CATALOGUE.iter().any(|entry| Some(entry.category) == first).then_some(OWN_RULE)
}
