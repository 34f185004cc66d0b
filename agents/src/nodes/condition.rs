//! `condition` in JavaScript: true or false, from a script in the sandbox.
//!
//! The engine sends what it would evaluate itself if it were CEL: `{language, expression, context}`. Invariants: the
//! configuration is data to its last key, so nothing in it is taken for a credential; an attempt waits for a busy
//! sandbox until its own deadline, since how busy this process is says nothing about the condition. Absent: CEL, which the
//! engine evaluates, and the sandbox itself.

use async_trait::async_trait;
use domain::execution::event::{ErrorKind, NodeError};
use sandbox::{Limit, Sandbox, SandboxConfig, SandboxError};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

use crate::failure::invalid_config;

use super::{ConfigForm, NodeContext, NodeExecutor};

/// How much of an expression is told with its failure, in bytes.
const EXCERPT_BYTES: usize = 2 * 1024;
/// Before a busy sandbox is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Carries out conditions that the engine does not evaluate itself.
pub struct ConditionExecutor {
    sandbox: Sandbox,
}

impl ConditionExecutor {
    /// An executor with a sandbox of its own.
    pub fn new(config: &SandboxConfig) -> Self {
        Self { sandbox: Sandbox::new(config.clone()) }
    }

    /// The value, once the sandbox has a worker for it.
    async fn evaluate(&self, source: &str, context: &Value, until: Instant) -> Result<Value, SandboxError> {
        loop {
            let mut limits = self.sandbox.limits();
            limits.deadline = limits.deadline.min(until.saturating_duration_since(Instant::now()));
            match self.sandbox.evaluate(source, context, limits).await {
                // The attempt's deadline bounds the loop: it drops this future.
                Err(SandboxError::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                result => return result,
            }
        }
    }
}

#[async_trait]
impl NodeExecutor for ConditionExecutor {
    fn config_form(&self) -> ConfigForm {
        ConfigForm::Data
    }

    async fn execute(&self, node: NodeContext<'_>) -> Result<Value, NodeError> {
        if node.config["language"] != "js" {
            return Err(invalid_config("a worker evaluates conditions in `js` only"));
        }
        let source = node.config["expression"].as_str();
        let source = source.ok_or_else(|| invalid_config("`expression` must be a text"))?;
        let context = &node.config["context"];
        if !context.is_object() {
            return Err(invalid_config("`context` must be an object"));
        }
        match self.evaluate(source, context, node.deadline).await {
            Ok(Value::Bool(taken)) => Ok(Value::Bool(taken)),
            Ok(other) => Err(not_a_boolean(source, &other)),
            Err(error) => Err(failed(source, error)),
        }
    }
}

fn not_a_boolean(source: &str, value: &Value) -> NodeError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    NodeError {
        kind: ErrorKind::ExpressionError,
        message: format!("the expression gave {kind} where true or false is needed"),
        retryable: false,
        details: json!({ "expression": excerpt(source), "code": "not_a_boolean" }),
    }
}

fn failed(source: &str, error: SandboxError) -> NodeError {
    let message = error.to_string();
    let expression = excerpt(source);
    let (kind, retryable, details) = match error {
        SandboxError::Syntax { .. } => {
            let details = json!({ "expression": expression, "code": "expression_syntax" });
            (ErrorKind::ExpressionError, false, details)
        }
        SandboxError::Failed { .. } => {
            let details = json!({ "expression": expression, "code": "expression_error" });
            (ErrorKind::ExpressionError, false, details)
        }
        SandboxError::Limit(limit) => {
            // Time depends on the machine too; the other limits would be broken again.
            let retryable = limit == Limit::Deadline;
            let details = json!({ "expression": expression, "limit": limit.name(), "code": "sandbox_limit" });
            (ErrorKind::SandboxLimit, retryable, details)
        }
        SandboxError::Busy | SandboxError::Unavailable { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "a script could not be run");
            (ErrorKind::Custom, true, json!({ "code": "scripts_unavailable" }))
        }
    };
    NodeError { kind, message, retryable, details }
}

fn excerpt(source: &str) -> &str {
    &source[..source.floor_char_boundary(EXCERPT_BYTES)]
}
