//! The port to whoever runs foreign code, for `expressions/evaluate`.
//!
//! The gateway runs none itself. What is behind the port bounds time, memory and how many run at once.

use async_trait::async_trait;
use serde_json::Value;

/// Evaluates JavaScript expressions.
#[async_trait]
pub trait ScriptEvaluator: Send + Sync {
    /// The value of one expression; the fields of `context`, an object, are its variables. Answers within a bounded time.
    async fn evaluate(&self, source: &str, context: &Value) -> Result<Value, ScriptError>;
}

/// Why a script gave no value. The texts are shown to whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It is not one expression.
    #[error("{0}")]
    Syntax(String),
    /// It threw something, or gave what is not JSON.
    #[error("{0}")]
    Failed(String),
    /// It needed more time, memory or room than it may have.
    #[error("{0}")]
    Limit(String),
    /// Too many at once.
    #[error("too many scripts at once; try again shortly")]
    Busy,
    /// This process runs none at the moment; it has said why in its log.
    #[error("scripts cannot be run at the moment; try again later, or use cel")]
    Unavailable,
}
