//! `delay`: waits for a time span, or until a time.

use serde_json::json;

use crate::execution::event::ErrorKind;
use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::time::Timestamp;
use crate::workflow::definition::{MAX_DURATION_MS, Reader};

use super::{Step, StepError, whole_ms};

/// `duration_ms`, or `until`: RFC 3339, either of which may be a template.
#[derive(Debug, Clone)]
pub struct Delay {
    span: Span,
}

#[derive(Debug, Clone)]
enum Span {
    Duration(Template),
    Until(Template),
}

impl Delay {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let duration = reader.optional("duration_ms");
        let until = reader.optional("until");
        let span = match (duration, until) {
            (Some(value), None) => {
                if !value.is_string() {
                    reader.number("duration_ms", 0, MAX_DURATION_MS);
                }
                reader.template("duration_ms", value, Credentials::Refused).map(Span::Duration)
            }
            (None, Some(value)) => {
                let template = reader.template("until", value, Credentials::Refused);
                if template.as_ref().is_some_and(Template::is_constant)
                    && value.as_str().is_none_or(|text| text.parse::<Timestamp>().is_err())
                {
                    reader.report(
                        "until",
                        "invalid_value",
                        "use an RFC 3339 time, for instance 2026-11-21T09:30:00Z",
                    );
                }
                template.map(Span::Until)
            }
            (None, None) => {
                reader.report("", "missing_field", "a delay needs `duration_ms` or `until`");
                None
            }
            (Some(_), Some(_)) => {
                reader.report("until", "conflicting_fields", "use `duration_ms` or `until`, not both");
                None
            }
        };
        reader.finish();
        Some(Self { span: span? })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let (template, pointer) = match &self.span {
            Span::Duration(template) => (template, "/duration_ms"),
            Span::Until(template) => (template, "/until"),
        };
        let value = template.render(scope, fuel).map_err(|e| StepError::render(pointer, e))?;
        let due = match &self.span {
            Span::Duration(_) => whole_ms(&value).map(|ms| scope.now().plus_ms(ms)),
            Span::Until(_) => value.as_str().and_then(|text| text.parse().ok()),
        };
        due.map(Step::WaitUntil).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(100).collect();
            StepError::fail(
                ErrorKind::InvalidConfig,
                format!("{shown} is not a delay; `duration_ms` is a number from 0 to {MAX_DURATION_MS}, `until` an RFC 3339 time"),
                json!({"pointer": pointer}),
            )
        })
    }

    pub(super) fn references(&self) -> References {
        match &self.span {
            Span::Duration(template) | Span::Until(template) => template.references(),
        }
    }
}
