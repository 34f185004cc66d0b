//! Tests of the module as a whole: meaning, bombs, templates, properties.

mod bombs;
mod laziness;
mod properties;
mod semantics;
mod templates;

use super::{EvaluationError, Fuel, JsonScope, Program, Template};
use crate::time::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

/// The scope most tests use.
fn scope(context: &Value) -> JsonScope<'_> {
    JsonScope { context, now: Timestamp::from_unix_ms(1_795_228_800_007), seed: Uuid::from_u128(7) }
}

/// Evaluates `source` over `context` with the standard fuel.
fn evaluate_over(source: &str, context: &Value) -> Result<Value, EvaluationError> {
    let program = Program::parse(source).unwrap_or_else(|error| panic!("`{source}`: {error}"));
    program.evaluate(&scope(context), &mut Fuel::standard())
}

/// A context with something of everything.
fn context() -> Value {
    json!({
        "input": {
            "amount": 150, "rate": 1.5, "name": "Ada", "tags": ["a", "x"], "none": null, "big": 18_446_744_073_709_551_615_u64,
            "items": [{"sku": "p1", "qty": 2}, {"sku": "p2", "qty": 0}], "text": "héllo", "my-key": 1,
        },
        "nodes": {"fetch": {"output": {"status": 200, "body": {"total": 7}}}},
    })
}

fn render(template: &Value, context: &Value) -> Value {
    let template = Template::parse(template, super::Credentials::Refused).expect("a template");
    template.render(&scope(context), &mut Fuel::standard()).expect("a value")
}
