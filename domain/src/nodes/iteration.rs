//! `loop`: a graph of its own for each item of something, or while a condition holds.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::execution::event::ErrorKind;
use crate::expression::{Credentials, Fuel, Program, References, Scope, Template};
use crate::workflow::definition::{Graph, Reader};

use super::condition::evaluate_bool;
use super::{Items, Step, StepError};

/// Iterations of one loop where it does not say.
const DEFAULT_MAX_ITERATIONS: u64 = 1_000;
/// The most iterations that a loop can ask for.
const MAX_ITERATIONS: u64 = 100_000;
/// The most iterations at the same time.
const MAX_CONCURRENCY: u64 = 1_000;

/// `over` or `while`, `body`, `max_concurrency`, `max_iterations`.
#[derive(Debug, Clone)]
pub struct Loop {
    kind: Kind,
    body: Arc<Graph>,
    max_concurrency: u32,
    max_iterations: u32,
}

#[derive(Debug, Clone)]
enum Kind {
    Over(Template),
    While(Program),
}

impl Loop {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let over = reader.optional("over");
        let condition = reader.optional("while");
        let kind = match (over, condition) {
            (Some(value), None) => {
                let template = reader.template("over", value, Credentials::Refused);
                if template.as_ref().is_some_and(Template::is_constant)
                    && !value.is_array()
                    && !value.is_object()
                {
                    reader.report(
                        "over",
                        "wrong_type",
                        "expected an array, an object, or a template that gives one",
                    );
                }
                template.map(Kind::Over)
            }
            (None, Some(_)) => reader.required_expression("while").map(Kind::While),
            (None, None) => {
                reader.report("", "missing_field", "a loop needs `over` or `while`");
                None
            }
            (Some(_), Some(_)) => {
                reader.report("while", "conflicting_fields", "use `over` or `while`, not both");
                None
            }
        };
        let max_concurrency = reader.number("max_concurrency", 1, MAX_CONCURRENCY).unwrap_or(1) as u32;
        let max_iterations =
            reader.number("max_iterations", 1, MAX_ITERATIONS).unwrap_or(DEFAULT_MAX_ITERATIONS) as u32;
        if let Some(Kind::While(_)) = kind
            && max_concurrency > 1
        {
            reader.report(
                "max_concurrency",
                "not_applicable",
                "`while` looks at one iteration before the next; leave `max_concurrency` out",
            );
        }
        let body = reader.required("body").and_then(|value| reader.graph("body", value));
        reader.finish();
        Some(Self { kind: kind?, body: Arc::new(body?), max_concurrency, max_iterations })
    }

    /// The graph of each iteration.
    pub fn body(&self) -> &Arc<Graph> {
        &self.body
    }

    /// How many iterations may run at the same time.
    pub fn max_concurrency(&self) -> u32 {
        self.max_concurrency
    }

    /// How many iterations there may be.
    pub fn max_iterations(&self) -> u32 {
        self.max_iterations
    }

    /// Whether the condition of a `while` holds for one more iteration; `None` for a loop over something.
    pub(crate) fn goes_on(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Option<Result<bool, StepError>> {
        match &self.kind {
            Kind::Over(_) => None,
            Kind::While(condition) => Some(evaluate_bool(condition, "/while", scope, fuel)),
        }
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let Kind::Over(template) = &self.kind else { return Ok(Step::Iterate(Items::While)) };
        let value = template.render(scope, fuel).map_err(|e| StepError::render("/over", e))?;
        let (items, keyed) = match value {
            Value::Array(items) => (items, false),
            // In key order: the map is sorted.
            Value::Object(fields) => {
                (fields.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect(), true)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let message = "`over` must give an array or an object";
                let details = json!({"pointer": "/over", "code": "not_a_collection"});
                return Err(StepError::fail(ErrorKind::ExpressionError, message, details));
            }
        };
        let (count, most) = (items.len(), self.max_iterations);
        if count > most as usize {
            let message = format!(
                "`over` gives {count} items; `max_iterations` allows {most}; raise it, or send fewer"
            );
            let details = json!({"pointer": "/over", "code": "too_many_iterations", "items": count});
            return Err(StepError::fail(ErrorKind::InvalidConfig, message, details));
        }
        Ok(Step::Iterate(Items::List { items, keyed }))
    }

    pub(super) fn references(&self) -> References {
        match &self.kind {
            Kind::Over(template) => template.references(),
            Kind::While(condition) => condition.references().clone(),
        }
    }

    /// Whether it is a `while`, whose condition sees the iteration before it.
    pub(crate) fn is_while(&self) -> bool {
        matches!(self.kind, Kind::While(_))
    }
}
