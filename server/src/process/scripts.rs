//! The gateway's door to the sandbox.

use async_trait::async_trait;
use gateway::{ScriptError, ScriptEvaluator};
use sandbox::{Sandbox, SandboxConfig, SandboxError};
use serde_json::Value;

/// Evaluates scripts with workers of the gateway's own, so that those who try expressions out do not hold up executions.
pub(super) struct Scripts {
    sandbox: Sandbox,
}

impl Scripts {
    pub(super) fn new(config: &SandboxConfig) -> Self {
        Self { sandbox: Sandbox::new(config.clone()) }
    }
}

#[async_trait]
impl ScriptEvaluator for Scripts {
    async fn evaluate(&self, source: &str, context: &Value) -> Result<Value, ScriptError> {
        let result = self.sandbox.evaluate(source, context, self.sandbox.limits()).await;
        result.map_err(|error| match error {
            SandboxError::Syntax { message } => ScriptError::Syntax(message),
            SandboxError::Failed { message } => ScriptError::Failed(message),
            SandboxError::Limit(limit) => ScriptError::Limit(limit.to_string()),
            SandboxError::Busy => ScriptError::Busy,
            SandboxError::Unavailable { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "a script could not be run");
                ScriptError::Unavailable
            }
        })
    }
}
