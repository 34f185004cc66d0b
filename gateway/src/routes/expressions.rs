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
use crate::scripts::ScriptError;
use crate::{schemas, status};

/// What is to be evaluated, and where.
enum Asked {
    /// JavaScript, by whoever runs foreign code.
    Script(String),
    /// CEL, here.
    Cel(Source),
}

/// What is CEL.
enum Source {
    Expression(String),
    Template(Value),
}

/// Evaluates an expression or renders a template over a context.
#[utoipa::path(post, path = "/expressions/evaluate", tag = "expressions", request_body = schemas::Evaluate,
    responses((status = 200, description = "The value.", body = schemas::Evaluated)))]
pub(crate) async fn evaluate(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Failure> {
    caller.may_kind("expression")?;
    let mut fields = Fields::open(body.required()?)?;
    let expression = fields.text("expression");
    let template = fields.any("template").filter(|template| !template.is_null());
    let language = fields.text("language");
    let context = Value::Object(fields.object("context"));
    let is_script = match language.as_deref() {
        None | Some("cel") => false,
        Some("js") => true,
        Some(_) => {
            fields.report("/language", "invalid_value", "use `cel` or `js`");
            false
        }
    };
    let asked = match (expression, template) {
        (Some(expression), None) if is_script => Some(Asked::Script(expression)),
        (Some(expression), None) => Some(Asked::Cel(Source::Expression(expression))),
        (None, Some(_)) if is_script => {
            fields.report("/language", "conflicting_fields", "the inside of templates is always `cel`");
            None
        }
        (None, Some(template)) => Some(Asked::Cel(Source::Template(template))),
        _ => {
            fields.report("", "missing_field", "send one of `expression` and `template`");
            None
        }
    };
    fields.finish()?;
    let value = match asked {
        Some(Asked::Script(script)) => {
            app.scripts.evaluate(&script, &context).await.map_err(|error| script_failed(&error))?
        }
        Some(Asked::Cel(source)) => evaluate_here(&app, source, context).await?,
        // What is neither has been reported above.
        None => return Err(Failure::invalid_body(Vec::new())),
    };
    answer_json(StatusCode::OK, &json!({ "value": value }))
}

/// CEL, on a thread that may be kept busy.
async fn evaluate_here(app: &App, source: Source, context: Value) -> Result<Value, Failure> {
    let now = app.clock.now();
    let seed = new_id(now, Slot::from_bits(0), crate::random::number());
    let turn = app.evaluation_turn().await?;
    let evaluated = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        evaluate_source(&source, &context, now, seed)
    });
    evaluated.await.map_err(|_| Failure::new(status::INTERNAL, "the expression could not be evaluated"))?
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

fn script_failed(error: &ScriptError) -> Failure {
    let problem = |code| vec![Problem::new("/expression", code, error.to_string())];
    let failed = || Failure::new(status::EXPRESSION_FAILED, error.to_string());
    match error {
        ScriptError::Syntax(_) => unparsable(problem("expression_syntax")),
        ScriptError::Failed(_) => failed().with_errors(problem("expression_error")),
        ScriptError::Limit(_) => failed().with_errors(problem("sandbox_limit")),
        ScriptError::Busy => Failure::new(status::OVERLOADED, error.to_string()),
        ScriptError::Unavailable => Failure::new(status::SCRIPTS_UNAVAILABLE, error.to_string()),
    }
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
