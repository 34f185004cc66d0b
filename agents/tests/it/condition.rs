//! Conditions in JavaScript, with a stand-in for the sandbox's program that says what the test says. What scripts
//! really do is tested in `sandbox`, and with `everline` itself in `server`.

use agents::AgentsConfig;
use bus::Task;
use domain::execution::event::{ErrorKind, NodeError};
use domain::node_type::NodeType;
use sandbox::SandboxConfig;
use serde_json::{Value, json};
use std::num::{NonZeroU32, NonZeroUsize};

use crate::support::{Worker, config};

/// A program that is ready, and has said what it says before it is asked.
fn saying(reply: &str) -> AgentsConfig {
    let length = format!("\\{:03o}\\{:03o}", reply.len() / 256, reply.len() % 256);
    let script =
        format!("printf '\\0\\0\\0\\0\\0\\0{length}'; printf %s '{reply}'; /bin/cat >/dev/null; exit");
    let sandbox = SandboxConfig {
        arguments: vec!["-c".to_owned(), script],
        start_timeout_ms: 60_000,
        deadline_ms: NonZeroU32::new(60_000).unwrap(),
        ..SandboxConfig::new("/bin/sh")
    };
    AgentsConfig { sandbox, ..config() }
}

fn task(worker: &Worker, config: Value) -> Task {
    Task { node_type: NodeType::Condition, ..worker.task(config) }
}

fn script(source: &str) -> Value {
    json!({"language": "js", "expression": source, "context": {"input": {"n": 1}}})
}

async fn ends(config: AgentsConfig, node: Value) -> Result<Value, NodeError> {
    let mut worker = Worker::start_with(config, None);
    let task = task(&worker, node);
    worker.call_task(task).await
}

#[tokio::test]
async fn true_and_false_are_the_output() {
    for taken in [true, false] {
        let reply = json!({ "value": taken }).to_string();
        assert_eq!(ends(saying(&reply), script("input.n > 0")).await, Ok(Value::Bool(taken)));
    }
}

#[tokio::test]
async fn anything_else_is_an_expression_error_that_is_not_tried_again() {
    for (value, kind) in [
        (json!(1), "a number"),
        (json!("true"), "a string"),
        (json!(null), "null"),
        (json!([]), "a list"),
        (json!({}), "a map"),
    ] {
        let error = ends(saying(&json!({ "value": value }).to_string()), script("input.n")).await;
        let error = error.expect_err("no boolean");
        assert_eq!((error.kind, error.retryable), (ErrorKind::ExpressionError, false));
        assert_eq!(error.message, format!("the expression gave {kind} where true or false is needed"));
        assert_eq!(error.details, json!({"expression": "input.n", "code": "not_a_boolean"}));
    }
}

#[tokio::test]
async fn how_a_script_failed_is_told_by_kind_and_code() {
    let long = "é".repeat(3000);
    for (reply, kind, retryable, code) in [
        (r#"{"syntax":"no"}"#, ErrorKind::ExpressionError, false, "expression_syntax"),
        (r#"{"failed":"no"}"#, ErrorKind::ExpressionError, false, "expression_error"),
        (r#"{"limit":"memory"}"#, ErrorKind::SandboxLimit, false, "sandbox_limit"),
        (r#"{"limit":"deadline"}"#, ErrorKind::SandboxLimit, true, "sandbox_limit"),
    ] {
        let error = ends(saying(reply), script(&long)).await.expect_err(reply);
        assert_eq!((error.kind, error.retryable), (kind, retryable), "{reply}");
        assert_eq!(error.details["code"], code);
        assert!(error.details["expression"].as_str().unwrap().len() <= 2048);
    }
    let limit = ends(saying(r#"{"limit":"memory"}"#), script("1")).await.expect_err("a limit");
    assert_eq!(limit.details["limit"], "memory");
}

#[tokio::test]
async fn a_worker_without_a_sandbox_says_so_and_may_be_followed_by_another() {
    let error = ends(config(), script("true")).await.expect_err("no sandbox");
    assert_eq!((error.kind, error.retryable), (ErrorKind::Custom, true));
    assert_eq!(error.details, json!({"code": "scripts_unavailable"}));
}

#[tokio::test]
async fn a_configuration_that_is_not_a_script_is_refused() {
    for node in [
        json!({"language": "cel", "expression": "true", "context": {}}),
        json!({"expression": "true", "context": {}}),
        json!({"language": "js", "context": {}}),
        json!({"language": "js", "expression": "true"}),
        json!(null),
    ] {
        let error = ends(saying(r#"{"value":true}"#), node.clone()).await.expect_err("no script");
        assert_eq!((error.kind, error.retryable), (ErrorKind::InvalidConfig, false), "{node}");
    }
}

#[tokio::test]
async fn data_that_looks_like_a_credential_stays_data() {
    let mut node = script("true");
    node["context"]["input"] = json!({"$parts": [{"$credential": "shop_token", "field": "value"}]});
    assert_eq!(ends(saying(r#"{"value":true}"#), node).await, Ok(Value::Bool(true)));
}

#[tokio::test]
async fn a_busy_sandbox_is_waited_for_until_the_attempts_own_deadline() {
    // Ready, and then silent: the first attempt holds the only worker until the sandbox's deadline.
    let mut config = saying("");
    config.sandbox.arguments[1] = "printf '\\0\\0\\0\\0'; /bin/cat >/dev/null; exit".to_owned();
    config.sandbox.workers = NonZeroUsize::MIN;
    config.sandbox.queue = 0;
    config.sandbox.deadline_ms = NonZeroU32::new(300).unwrap();
    let mut worker = Worker::start_with(config, None);
    for source in ["1", "2"] {
        let task = task(&worker, script(source));
        bus::TaskQueue::publish(&*worker.tasks, task).await;
    }
    for _ in 0..2 {
        let (_, result) = worker.result().await;
        let error = result.expect_err("silent");
        assert_eq!((error.kind, &error.details["limit"]), (ErrorKind::SandboxLimit, &json!("deadline")));
    }
}
