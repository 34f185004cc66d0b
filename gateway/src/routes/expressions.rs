//! `/expressions`: trying out expressions and templates.

use axum::extract::State;
use axum::response::Response;
use domain::expression::{Credentials, EvaluationError, Fuel, JsonScope, Program, Template};
use domain::ids::{Slot, new_id};
use domain::rejection::Problem;
use domain::time::Timestamp;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

use crate::answer::json as answer_json;
use crate::app::App;
use crate::failure::Failure;
use crate::request::{Caller, Fields, JsonBody};
use crate::{schemas, status};

/// What is to be evaluated.
enum Source {
    Expression(String),
    Template(Value),
}

/// Evaluates an expression or renders a template over a context.
#[utoipa::path(post, path = "/expressions/evaluate", tag = "expressions", request_body = schemas::Evaluate,
    responses((status = 200, description = "The value.", body = schemas::Evaluated)))]
pub(crate) async fn evaluate(
    State(app): State<Arc<App>>,
    _caller: Caller,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let expression = fields.text("expression");
    let template = fields.any("template").filter(|template| !template.is_null());
    let language = fields.text("language");
    let context = Value::Object(fields.object("context"));
    let source = match (expression, template) {
        (Some(expression), None) => Some(Source::Expression(expression)),
        (None, Some(template)) => Some(Source::Template(template)),
        _ => {
            fields.report("", "missing_field", "send one of `expression` and `template`");
            None
        }
    };
    if language.as_deref().is_some_and(|language| language != "cel") {
        fields.report("/language", "not_supported_yet", "this release evaluates `cel` only");
    }
    fields.finish()?;
    let Some(source) = source else { return Err(Failure::invalid_body(Vec::new())) };

    let now = app.clock.now();
    let seed = new_id(now, Slot::from_bits(0), crate::random::number());
    let turn = app.evaluation_turn().await?;
    let evaluated = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        evaluate_source(&source, &context, now, seed)
    });
    let value = evaluated
        .await
        .map_err(|_| Failure::new(status::INTERNAL, "the expression could not be evaluated"))??;
    answer_json(StatusCode::OK, &json!({ "value": value }))
}

fn evaluate_source(source: &Source, context: &Value, now: Timestamp, seed: Uuid) -> Result<Value, Failure> {
    let scope = JsonScope { context, now, seed };
    let mut fuel = Fuel::standard();
    match source {
        Source::Expression(text) => {
            let program = Program::parse(text).map_err(|error| {
                let detail = error.to_string();
                unparsable(vec![Problem::new("/expression", error.code, detail)])
            })?;
            program.evaluate(&scope, &mut fuel).map_err(|error| failed("/expression", &error))
        }
        Source::Template(value) => {
            let template = Template::parse(value, Credentials::Refused).map_err(|problems| {
                let at = |pointer: String| format!("/template{pointer}");
                unparsable(
                    problems.into_iter().map(|p| Problem::new(at(p.pointer), p.code, p.message)).collect(),
                )
            })?;
            template
                .render(&scope, &mut fuel)
                .map_err(|error| failed(&format!("/template{}", error.pointer), &error.error))
        }
    }
}

fn unparsable(problems: Vec<Problem>) -> Failure {
    let detail = problems.first().map_or_else(String::new, |problem| problem.detail.clone());
    Failure::new(status::INVALID_EXPRESSION, detail).with_errors(problems)
}

fn failed(pointer: &str, error: &EvaluationError) -> Failure {
    let problem = Problem::new(pointer, error.code(), error.to_string());
    Failure::new(status::EXPRESSION_FAILED, error.to_string()).with_errors(vec![problem])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(source: Source) -> Result<Value, Failure> {
        evaluate_source(&source, &json!({"input": {"n": 2}}), Timestamp::default(), Uuid::nil())
    }

    #[test]
    fn an_expression_and_a_template_give_values() {
        assert_eq!(run(Source::Expression("input.n + 1".into())).expect("a value"), json!(3));
        assert_eq!(run(Source::Template(json!({"a": "{{ input.n }}"}))).expect("a value"), json!({"a": 2}));
    }

    #[test]
    fn what_does_not_parse_or_evaluate_says_where() {
        let failure = run(Source::Expression("input.".into())).expect_err("a failure");
        assert_eq!(
            (failure.code.as_ref(), failure.errors[0].pointer.as_str()),
            ("invalid_expression", "/expression")
        );
        let failure = run(Source::Template(json!({"a": "{{ credentials.x }}"}))).expect_err("a failure");
        assert_eq!(failure.errors[0].pointer, "/template/a");
        let failure = run(Source::Expression("input.missing".into())).expect_err("a failure");
        assert_eq!(failure.code, "expression_failed");
    }
}
