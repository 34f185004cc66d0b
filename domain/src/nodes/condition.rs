//! `condition`: leaves by `true` or `false`.

use serde_json::{Value, json};

use crate::execution::event::ErrorKind;
use crate::expression::{Fuel, Program, References, Scope};
use crate::workflow::definition::Reader;

use super::{Step, StepError};

/// `expression`: CEL that gives a boolean.
#[derive(Debug, Clone)]
pub struct Condition {
    expression: Program,
}

impl Condition {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let expression = reader.required_expression("expression");
        match reader.text("language") {
            None | Some("cel") => {}
            Some("js") => {
                reader.report(
                    "language",
                    "not_supported_yet",
                    "`js` conditions come in a later release; use cel",
                );
            }
            Some(_) => reader.report("language", "invalid_value", "use cel"),
        }
        reader.finish();
        Some(Self { expression: expression? })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let taken = evaluate_bool(&self.expression, "/expression", scope, fuel)?;
        Ok(Step::Complete { output: Value::Bool(taken), handle: Some(taken.to_string()) })
    }

    pub(super) fn references(&self) -> References {
        self.expression.references().clone()
    }
}

/// Evaluates an expression that must give a boolean.
pub(super) fn evaluate_bool(
    expression: &Program,
    pointer: &str,
    scope: &dyn Scope,
    fuel: &mut Fuel,
) -> Result<bool, StepError> {
    let value = expression
        .evaluate(scope, fuel)
        .map_err(|error| StepError::evaluation(expression.source(), pointer, error))?;
    value.as_bool().ok_or_else(|| {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        StepError::fail(
            ErrorKind::ExpressionError,
            format!("the expression gave {kind} where true or false is needed"),
            json!({"expression": expression.source(), "pointer": pointer, "code": "not_a_boolean"}),
        )
    })
}
