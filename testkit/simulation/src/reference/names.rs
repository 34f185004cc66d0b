//! What expressions see.

use domain::expression::{Credentials, EvaluationError, Fuel, JsonScope, Program, References, Template};
use domain::time::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Fault;
use super::course::Course;

impl Course<'_> {
    /// Renders any JSON with templates; what is left out is null.
    pub(super) fn render(&self, scope: &str, value: &Value) -> Result<Value, Fault> {
        let template = Template::parse(value, Credentials::Refused).map_err(|_| expression_error())?;
        let context = self.context(scope, &template.references(), None);
        template.render(&over(&context), &mut Fuel::standard()).map_err(|_| expression_error())
    }

    /// Evaluates an expression that must give true or false.
    pub(super) fn truth(
        &self,
        scope: &str,
        source: &Value,
        names: Option<&Map<String, Value>>,
    ) -> Result<bool, Fault> {
        let source = source.as_str().unwrap_or_default();
        let program = Program::parse(source).map_err(|_| expression_error())?;
        let context = self.context(scope, program.references(), names);
        let value: Result<Value, EvaluationError> = program.evaluate(&over(&context), &mut Fuel::standard());
        value.ok().and_then(|value| value.as_bool()).ok_or_else(expression_error)
    }

    /// The names at a scope: nodes of its own graph, then of those around it; the innermost loop's names.
    fn context(&self, scope: &str, used: &References, names: Option<&Map<String, Value>>) -> Value {
        let mut context = Map::new();
        let mut nodes = Map::new();
        let mut path = Some(scope);
        context.extend(names.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        while let Some(here) = path {
            if let Some(scope) = self.scopes.get(here) {
                for (name, value) in &scope.names {
                    context.entry(name.clone()).or_insert_with(|| value.clone());
                }
                for id in &used.nodes {
                    if let Some(output) = scope.nodes.get(id.as_str()).and_then(|node| node.latest.as_ref()) {
                        nodes.entry(id.clone()).or_insert_with(|| json!({"output": output}));
                    }
                }
            }
            path = (!here.is_empty()).then(|| around(here));
        }
        context.insert("input".to_owned(), self.input.clone());
        for id in &used.nodes {
            nodes.entry(id.clone()).or_insert_with(|| json!({}));
        }
        context.insert("nodes".to_owned(), Value::Object(nodes));
        Value::Object(context)
    }
}

/// The scope around `loop/3`, or around `outer/0/loop/3`.
fn around(scope: &str) -> &str {
    let container = scope.rsplit_once('/').map_or("", |(container, _)| container);
    container.rsplit_once('/').map_or("", |(scope, _)| scope)
}

fn over(context: &Value) -> JsonScope<'_> {
    JsonScope { context, now: Timestamp::from_unix_ms(0), seed: Uuid::nil() }
}

fn expression_error() -> Fault {
    Fault { kind: "expression_error".to_owned(), inner: None }
}
