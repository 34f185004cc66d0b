//! `respond`: answers the webhook that waits for this execution.

use serde_json::{Map, Value, json};

use crate::execution::event::ErrorKind;
use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::workflow::definition::Reader;

use super::{Step, StepError};

/// `status` (200), `headers`, `body`; all may be templates.
#[derive(Debug, Clone)]
pub struct Respond {
    status: Option<Template>,
    headers: Option<Template>,
    body: Option<Template>,
}

impl Respond {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        if reader.optional("status").is_some_and(|status| !status.is_string()) {
            reader.number("status", 200, 599);
        }
        match reader.optional("headers") {
            None | Some(Value::String(_)) => {}
            Some(Value::Object(headers)) if headers.values().all(is_plain) => {}
            Some(_) => reader.report("headers", "wrong_type", HEADERS_RULE),
        }
        let mut template = |field: &'static str| {
            let value = reader.optional(field)?;
            reader.template(field, value, Credentials::Refused)
        };
        let (status, headers, body) = (template("status"), template("headers"), template("body"));
        reader.finish();
        Some(Self { status, headers, body })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let mut value = |template: &Option<Template>, pointer: &str| match template {
            None => Ok(Value::Null),
            Some(template) => template.render(scope, fuel).map_err(|e| StepError::render(pointer, e)),
        };
        let status = match value(&self.status, "/status")? {
            Value::Null => Some(200),
            Value::String(text) => text.parse().ok(),
            other => other.as_u64().and_then(|number| u16::try_from(number).ok()),
        };
        let Some(status) = status.filter(|status| (200..=599).contains(status)) else {
            let message = "`status` must be an HTTP status from 200 to 599";
            return Err(StepError::fail(ErrorKind::InvalidConfig, message, json!({"pointer": "/status"})));
        };
        let headers = match value(&self.headers, "/headers")? {
            Value::Null => Map::new(),
            Value::Object(headers) if headers.values().all(is_plain) => {
                headers.into_iter().map(|(name, value)| (name, as_text(value))).collect()
            }
            _ => {
                let details = json!({"pointer": "/headers"});
                return Err(StepError::fail(ErrorKind::InvalidConfig, HEADERS_RULE, details));
            }
        };
        Ok(Step::Respond { status, headers, body: value(&self.body, "/body")? })
    }

    pub(super) fn references(&self) -> References {
        let templates = [&self.status, &self.headers, &self.body];
        templates.into_iter().flatten().fold(References::default(), |mut all, template| {
            all.extend(&template.references());
            all
        })
    }
}

const HEADERS_RULE: &str = "`headers` is an object of names and texts, numbers or booleans";

fn is_plain(value: &Value) -> bool {
    value.is_string() || value.is_number() || value.is_boolean()
}

fn as_text(value: Value) -> Value {
    if value.is_string() { value } else { Value::String(value.to_string()) }
}
