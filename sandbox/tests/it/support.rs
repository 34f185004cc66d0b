//! A sandbox whose workers are this crate's own program.

use sandbox::{Limit, Limits, Sandbox, SandboxConfig, SandboxError};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::time::Duration;

/// Long enough for anything that ends, on a machine with other things to do.
pub(crate) fn patient() -> Limits {
    Limits { deadline: Duration::from_secs(60), ..Limits::default() }
}

/// Short, for what does not end.
pub(crate) fn impatient() -> Limits {
    Limits { deadline: Duration::from_millis(300), ..Limits::default() }
}

pub(crate) fn config() -> SandboxConfig {
    let mut config = SandboxConfig::new(env!("CARGO_BIN_EXE_sandbox-worker"));
    config.workers = NonZeroUsize::MIN;
    config.start_timeout_ms = 60_000;
    config.queue_timeout_ms = 60_000;
    config
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(config())
}

/// The value of an expression that has one.
#[track_caller]
pub(crate) fn value(result: Result<Value, SandboxError>) -> Value {
    result.unwrap_or_else(|error| panic!("no value: {error:?}"))
}

/// The limit that was broken.
#[track_caller]
pub(crate) fn limit(result: Result<Value, SandboxError>) -> Limit {
    match result {
        Err(SandboxError::Limit(limit)) => limit,
        other => panic!("expected a broken limit, not {other:?}"),
    }
}

/// The message of a failure.
#[track_caller]
pub(crate) fn failure(result: Result<Value, SandboxError>) -> String {
    match result {
        Err(SandboxError::Failed { message }) => message,
        other => panic!("expected a failure, not {other:?}"),
    }
}

/// That the sandbox goes on as if nothing had been.
pub(crate) async fn assert_goes_on(sandbox: &Sandbox) {
    assert_eq!(value(sandbox.evaluate("a + 1", &json!({"a": 1}), patient()).await), 2);
}
