//! JavaScript in `everline` itself: its own processes as the sandbox's workers.

use agents::nodes::ConditionExecutor;
use agents::{NodeContext, NodeExecutor};
use bus::{Task, TaskRef};
use domain::decision::NodeRun;
use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::TenantId;
use domain::node_type::NodeType;
use domain::time::Timestamp;
use sandbox::SandboxConfig;
use serde_json::{Value, json};
use server::EmbeddedOptions;
use std::num::{NonZeroU32, NonZeroUsize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::{Answer, LIMIT, Server, within};

/// Workers that are processes of the built program, with time enough on a busy machine.
fn sandbox() -> SandboxConfig {
    SandboxConfig {
        deadline_ms: NonZeroU32::new(20_000).unwrap(),
        queue_timeout_ms: 30_000,
        start_timeout_ms: 30_000,
        ..SandboxConfig::new(env!("CARGO_BIN_EXE_everline"))
    }
}

async fn evaluate(server: &Server, source: &str) -> Answer {
    let body =
        json!({"expression": source, "language": "js", "context": {"input": {"n": 20, "tags": ["a"]}}});
    server.client.post("/expressions/evaluate", &body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_evaluated_by_request() {
    let server = Server::with(EmbeddedOptions { sandbox: sandbox(), ..EmbeddedOptions::temporary() }).await;
    for (source, value) in [
        ("input.n * 2 + input.tags.length", json!(41)),
        ("({...input, more: [1.5, null]})", json!({"n": 20, "tags": ["a"], "more": [1.5, null]})),
        ("typeof process + typeof require + typeof fetch", json!("undefinedundefinedundefined")),
    ] {
        let answer = evaluate(&server, source).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &json!({ "value": value })), "{source}");
    }
    for (source, code, inner, says) in [
        ("input.", "invalid_expression", "expression_syntax", "SyntaxError"),
        ("input.a.b", "expression_failed", "expression_error", "TypeError"),
        ("() => 1", "expression_failed", "expression_error", "a function"),
        ("'x'.repeat(1 << 27)", "expression_failed", "sandbox_limit", "more memory"),
        ("(function f() { return f() + 1 })()", "expression_failed", "sandbox_limit", "nested too deeply"),
        ("'x'.repeat(1 << 21)", "expression_failed", "sandbox_limit", "too large"),
    ] {
        let answer = evaluate(&server, source).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["code"]),
            (422, &json!(code)),
            "{source}: {}",
            answer.body
        );
        assert_eq!(answer.body["errors"][0]["code"], inner);
        assert!(
            answer.body["detail"].as_str().unwrap().contains(says),
            "{source}: {}",
            answer.body["detail"]
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_do_not_end_are_cut_off_and_others_go_on() {
    let config = SandboxConfig { deadline_ms: NonZeroU32::new(300).unwrap(), ..sandbox() };
    let server = Server::with(EmbeddedOptions { sandbox: config, ..EmbeddedOptions::temporary() }).await;
    for source in [
        "(() => { while (true) {} })()",
        "(() => { for (;;) { try { for (;;) {} } catch (e) {} } })()",
        "/(a+)+$/.test('a'.repeat(40) + '!')",
        "Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)",
    ] {
        let answer = evaluate(&server, source).await;
        assert_eq!(answer.status.as_u16(), 422, "{source}: {}", answer.body);
        assert_eq!(answer.body["errors"][0]["code"], "sandbox_limit");
        assert!(answer.body["detail"].as_str().unwrap().contains("took too long"), "{}", answer.body);
    }
    let cel = server.client.post("/expressions/evaluate", &json!({"expression": "1 + 1"})).await;
    assert_eq!(cel.body, json!({"value": 2}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_workers_refuses_scripts_and_a_busy_one_too() {
    let server = Server::temporary().await;
    let answer = evaluate(&server, "1").await;
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (503, &json!("scripts_unavailable")));
    server.stop().await;

    let config = SandboxConfig {
        workers: NonZeroUsize::MIN,
        queue: 0,
        deadline_ms: NonZeroU32::new(5_000).unwrap(),
        ..sandbox()
    };
    let server = Server::with(EmbeddedOptions { sandbox: config, ..EmbeddedOptions::temporary() }).await;
    let forever = "(() => { for (;;) {} })()";
    let (first, second) = tokio::join!(evaluate(&server, forever), evaluate(&server, forever));
    let mut codes = [first, second].map(|answer| answer.body["code"].as_str().unwrap().to_owned());
    codes.sort();
    assert_eq!(codes, ["expression_failed", "overloaded"]);
    server.stop().await;
}

/// A condition as a worker carries it out.
async fn condition(source: &str) -> Result<Value, NodeError> {
    let node = NodeRun { node_id: "large".to_owned(), run: 1, attempt: 1 };
    let config = json!({"language": "js", "expression": source, "context": {"input": {"n": 20}}});
    let task = Task {
        task: TaskRef { execution: Uuid::nil(), node },
        tenant: TenantId::default_tenant(),
        node_type: NodeType::Condition,
        config: config.clone(),
        deadline: Timestamp::MAX,
        heartbeat_timeout_ms: None,
        correlation_id: Uuid::nil(),
        causation_id: Uuid::nil(),
        traceparent: None,
    };
    let executor = ConditionExecutor::new(&sandbox());
    let work = executor.execute(NodeContext { task: &task, config, deadline: Instant::now() + LIMIT });
    within("the condition", work).await
}

#[tokio::test]
async fn a_condition_is_a_script_that_gives_true_or_false() {
    assert_eq!(condition("input.n > 10").await, Ok(json!(true)));
    assert_eq!(condition("input.n > 100").await, Ok(json!(false)));
    let error = condition("input.n").await.expect_err("a number");
    assert_eq!((error.kind, &error.details["code"]), (ErrorKind::ExpressionError, &json!("not_a_boolean")));
    let error = condition("input.missing.field").await.expect_err("a throw");
    assert_eq!(
        (error.kind, &error.details["code"]),
        (ErrorKind::ExpressionError, &json!("expression_error"))
    );
    let error = condition("'x'.repeat(1 << 27)").await.expect_err("a limit");
    assert_eq!((error.kind, &error.details["limit"]), (ErrorKind::SandboxLimit, &json!("memory")));
}

#[test]
fn the_worker_is_not_shown_to_people_and_ends_with_its_input() {
    let everline = || std::process::Command::new(env!("CARGO_BIN_EXE_everline"));
    let help = everline().arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("sandbox-worker"));
    let worker =
        everline().args(["sandbox-worker", "js"]).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(worker.status.success());
    assert_eq!(worker.stdout, [0; 4], "it was ready");
}
