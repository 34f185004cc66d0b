//! `condition`: leaves by `true` or `false`.
//!
//! In CEL the engine evaluates it; in JavaScript a worker does, in its sandbox, with all names as data.

use serde_json::{Map, Value, json};

use crate::execution::event::ErrorKind;
use crate::expression::{Binding, Fuel, Program, References, Scope, guard_data};
use crate::workflow::definition::Reader;

use super::{Step, StepError};

/// The most bytes of a script.
const MAX_SCRIPT_BYTES: usize = 64 * 1024;

/// `expression`: gives a boolean; in CEL, or in JavaScript where `language` is `js`.
#[derive(Debug, Clone)]
pub struct Condition {
    expression: Expression,
}

#[derive(Debug, Clone)]
enum Expression {
    Cel(Program),
    /// A worker evaluates it: the engine runs no foreign language.
    Script(String),
}

impl Condition {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let expression = match reader.text("language") {
            None | Some("cel") => reader.required_expression("expression").map(Expression::Cel),
            Some("js") => {
                let source = reader.required_text("expression");
                if source.is_some_and(|source| source.trim().is_empty() || source.len() > MAX_SCRIPT_BYTES) {
                    let detail = format!("a script has 1 to {MAX_SCRIPT_BYTES} bytes");
                    reader.report("expression", "out_of_range", detail);
                }
                source.map(|source| Expression::Script(source.to_owned()))
            }
            Some(_) => {
                reader.ignore(&["expression"]);
                reader.report("language", "invalid_value", "use cel or js");
                None
            }
        };
        reader.finish();
        Some(Self { expression: expression? })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        match &self.expression {
            Expression::Cel(program) => {
                let taken = evaluate_bool(program, "/expression", scope, fuel)?;
                Ok(Step::Complete { output: Value::Bool(taken), handle: Some(taken.to_string()) })
            }
            Expression::Script(source) => Ok(Step::Schedule(json!({
                "language": "js",
                "expression": source,
                // Data: nothing in it is ever taken for a credential.
                "context": guard_data(names_in(scope, fuel)?),
            }))),
        }
    }

    /// Whether a worker evaluates it.
    pub(crate) fn is_script(&self) -> bool {
        matches!(self.expression, Expression::Script(_))
    }

    pub(super) fn references(&self) -> References {
        match &self.expression {
            Expression::Cel(program) => program.references().clone(),
            // Nobody here reads scripts: it may use anything, variables included.
            Expression::Script(_) => References {
                roots: ["input", "nodes", "vars", "execution", "trigger"].map(str::to_owned).into(),
                dynamic_nodes: true,
                ..References::default()
            },
        }
    }
}

/// Everything that a script may use, as plain JSON.
fn names_in(scope: &dyn Scope, fuel: &mut Fuel) -> Result<Value, StepError> {
    let mut context = Map::new();
    for name in ["input", "nodes", "vars", "execution", "trigger", "item", "key", "index"] {
        if matches!(scope.name(name), Binding::Missing) {
            continue;
        }
        let program = Program::parse(name).map_err(|error| {
            StepError::fail(ErrorKind::Custom, error.message, json!({ "expression": name }))
        })?;
        let value = program
            .evaluate(scope, fuel)
            .map_err(|error| StepError::evaluation(name, "/expression", error))?;
        context.insert(name.to_owned(), value);
    }
    Ok(Value::Object(context))
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
