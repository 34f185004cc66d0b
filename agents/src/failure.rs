//! Short ways to say how a node failed. Messages never hold credentials or what a URL says beyond its origin.

use domain::execution::event::{ErrorKind, NodeError};
use serde_json::Value;

/// The rendered configuration cannot be used; another attempt would not help.
pub(crate) fn invalid_config(message: impl Into<String>) -> NodeError {
    NodeError {
        kind: ErrorKind::InvalidConfig,
        message: message.into(),
        retryable: false,
        details: Value::Null,
    }
}

/// A failure that is the node's own; another attempt would not help.
pub(crate) fn custom(message: impl Into<String>, details: Value) -> NodeError {
    NodeError { kind: ErrorKind::Custom, message: message.into(), retryable: false, details }
}

/// The target was not reached, or hung up.
pub(crate) fn connection(message: impl Into<String>) -> NodeError {
    NodeError { kind: ErrorKind::Connection, message: message.into(), retryable: true, details: Value::Null }
}

/// The attempt passed its deadline.
pub(crate) fn timeout() -> NodeError {
    NodeError {
        kind: ErrorKind::Timeout,
        message: "the attempt was not done at its deadline; raise the node's timeout_ms if it needs longer"
            .to_owned(),
        retryable: true,
        details: Value::Null,
    }
}
