//! What can be asked of executions: over HTTP, and over the WebSocket with the same keys.

use bus::Commands;
use domain::command::{Command, CommandEnvelope};
use domain::decision::NodeRun;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::{Actor, TenantId, parse_id};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::harness::{Harness, text};

/// A workflow whose worker node can fail.
fn calling(name: &str) -> Value {
    json!({
        "name": name,
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "call", "type": "http_request", "config": {"url": "http://127.0.0.1:1/{{ input.n }}"}},
            {"id": "copy", "type": "transform", "config": {"output": "{{ nodes.call.output }}"}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.copy.output }}"}}
        ],
        "edges": [{"source": "start", "target": "call"}, {"source": "call", "target": "copy"},
            {"source": "copy", "target": "end"}]
    })
}

impl Harness {
    async fn start_calling(&self) -> String {
        let workflow = self.create(&calling(&format!("calling-{}", uuid::Uuid::now_v7()))).await;
        let path = format!("/api/v1/workflows/{workflow}/execute");
        let started = self.post(&path, &json!({"input": {"n": 1}})).await;
        assert_eq!(started.status(), StatusCode::ACCEPTED);
        text(&started.json().await.expect("JSON"), "execution_id")
    }

    /// What a worker reports of an attempt of the node `call`.
    async fn report(&self, execution: &str, attempt: u32, result: Result<Value, ErrorKind>) {
        let stream = parse_id(execution).expect("an id");
        let node = NodeRun { node_id: "call".to_owned(), run: 1, attempt };
        let error =
            |kind| NodeError { kind, message: "no".to_owned(), retryable: true, details: Value::Null };
        let id = uuid::Uuid::now_v7();
        let command = ExecutionCommand::CompleteNode { node, result: result.map_err(error) };
        let envelope = CommandEnvelope {
            id,
            tenant: TenantId::default_tenant(),
            actor: Actor::system("test"),
            stream,
            correlation_id: stream,
            causation_id: id,
            traceparent: None,
            digest: None,
            command: Command::Execution(command),
            authority: None,
        };
        self.owner.send(envelope).await.expect("accepted");
    }

    async fn ask(&self, execution: &str, verb: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.post(&format!("/api/v1/executions/{execution}/{verb}"), &body).await;
        (answer.status(), answer.json().await.expect("JSON"))
    }

    async fn event_types(&self, execution: &str) -> Vec<String> {
        let events = self.get_json(&format!("/api/v1/executions/{execution}/events?limit=200")).await;
        events["items"].as_array().expect("items").iter().map(|event| text(event, "type")).collect()
    }

    async fn latest(&self, execution: &str, event_type: &str) -> Value {
        let events = self.get_json(&format!("/api/v1/executions/{execution}/events?limit=200")).await;
        let items = events["items"].as_array().expect("items");
        let found = items.iter().rev().find(|event| event["type"] == event_type);
        found.unwrap_or_else(|| panic!("no {event_type} in {items:?}"))["data"].clone()
    }
}

#[tokio::test]
async fn an_execution_is_paused_and_resumed_and_keeps_the_reasons() {
    let h = Harness::start().await;
    let id = h.start_calling().await;
    let (status, answer) = h.ask(&id, "pause", json!({"reason": "a look"})).await;
    assert_eq!((status, &answer["status"]), (StatusCode::ACCEPTED, &json!("paused")), "{answer}");
    h.report(&id, 1, Ok(json!(1))).await;
    assert!(!h.event_types(&id).await.contains(&"execution.completed".to_owned()), "nothing new starts");
    let (status, answer) = h.ask(&id, "resume", json!({})).await;
    assert_eq!((status, &answer["status"]), (StatusCode::ACCEPTED, &json!("completed")), "{answer}");
    assert_eq!(h.latest(&id, "execution.paused").await["reason"], "a look");
    let (status, problem) = h.ask(&id, "resume", json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    for verb in ["pause", "terminate", "cancel"] {
        let (status, problem) = h.ask(&id, verb, json!({})).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::CONFLICT, &json!("execution_finished")),
            "{verb}"
        );
    }
}

#[tokio::test]
async fn a_termination_ends_at_once_and_a_repeated_key_is_one_command() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let terminate = || async {
        let path = format!("/api/v1/executions/{id}/terminate");
        let request = h.request(Method::POST, &path).header("idempotency-key", "t1");
        let answer = request.json(&json!({"reason": "stuck"})).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert!(answer.headers().contains_key("everline-position"));
        answer.json::<Value>().await.expect("JSON")
    };
    let first = terminate().await;
    assert_eq!(first, terminate().await);
    assert_eq!(first["status"], "terminated");
    assert_eq!(h.latest(&id, "execution.terminated").await["reason"], "stuck");
    assert_eq!(h.event_types(&id).await.iter().filter(|t| *t == "execution.terminated").count(), 1);
}

#[tokio::test]
async fn a_failed_execution_goes_on_with_another_configuration() {
    let h = Harness::start().await;
    let id = h.start_calling().await;
    let (status, problem) = h.ask(&id, "retry", json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "it has not failed: {problem}");
    h.report(&id, 1, Err(ErrorKind::Http5xx)).await;
    let (status, problem) = h.ask(&id, "retry", json!({"node_inputs": {"copy": {}}})).await;
    assert!(status.is_client_error(), "only worker nodes take a configuration: {problem}");
    let (status, problem) = h
        .ask(
            &id,
            "retry",
            json!({"node_inputs": {"call": {"$blob": {"sha256": "0", "bytes": 1, "media_type": "x"}}}}),
        )
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["pointer"], "/node_inputs/call");
    let fixed = json!({"method": "GET", "url": "http://127.0.0.1:2/fixed"});
    let (status, answer) =
        h.ask(&id, "retry", json!({"reason": "typo", "node_inputs": {"call": fixed}})).await;
    assert_eq!((status, &answer["status"]), (StatusCode::ACCEPTED, &json!("running")), "{answer}");
    let scheduled = h.latest(&id, "execution.node.scheduled").await;
    assert_eq!((&scheduled["attempt"], &scheduled["config"]["url"]), (&json!(2), &fixed["url"]));
    h.report(&id, 2, Ok(json!("up"))).await;
    assert_eq!(h.latest(&id, "execution.completed").await["output"], "up");
    assert_eq!(h.ask(&id, "retry", json!({})).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_fork_has_an_id_of_its_own_and_one_for_a_repeated_key() {
    let h = Harness::start().await;
    let id = h.start_calling().await;
    h.report(&id, 1, Ok(json!("origin"))).await;
    let fork = |key: &'static str, body: Value| {
        let request = h.request(Method::POST, &format!("/api/v1/executions/{id}/fork"));
        let request = request.header("idempotency-key", key).json(&body);
        async move {
            let answer = request.send().await.expect("an answer");
            (answer.status(), answer.headers().clone(), answer.json::<Value>().await.expect("JSON"))
        }
    };
    let body = json!({"at_version": 2, "effects": "mute", "input": {"n": 2}});
    let (status, headers, first) = fork("f1", body.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{first}");
    let forked = text(&first, "execution_id");
    assert_ne!(forked, id);
    assert_eq!(headers["location"], format!("/api/v1/executions/{forked}").as_str());
    assert_eq!(fork("f1", body.clone()).await.2, first);
    assert_ne!(text(&fork("f2", body).await.2, "execution_id"), forked);
    let data = h.latest(&forked, "execution.forked").await;
    assert_eq!(
        (&data["origin"], &data["at_version"], &data["effects"]),
        (&json!(id), &json!(2), &json!("mute"))
    );
    assert_eq!(data["input"], json!({"n": 2}));

    let (status, _, problem) = fork("f3", json!({"effects": "some"})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid_body")));
    let (status, _, problem) = fork("f4", json!({"at_version": 1_000})).await;
    assert!(status.is_client_error(), "{problem}");
    let nobody = h.ask("0190b2c4-7d5e-7abc-8def-0123456789ab", "fork", json!({"at_version": 1})).await;
    assert_eq!(nobody.0, StatusCode::NOT_FOUND, "{}", nobody.1);
}

#[tokio::test]
async fn every_command_of_rest_goes_over_the_websocket_under_the_same_keys() {
    let h = Harness::start().await;
    let id = h.start_calling().await;
    let mut socket = h.connect(Some(&h.key)).await;
    let mut ask = async |name: &str, more: Value| {
        let mut message = json!({"type": "command", "id": name, "name": name, "execution_id": id});
        message.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        socket.send(message).await;
        let answer = socket.next().await.expect("a message");
        assert_eq!(answer["id"], json!(name), "{answer}");
        answer
    };
    assert_eq!(ask("pause", json!({})).await["status"], "paused");
    assert_eq!(ask("resume", json!({})).await["status"], "running");
    h.report(&id, 1, Err(ErrorKind::Timeout)).await;
    assert_eq!(ask("retry", json!({"reason": "again"})).await["status"], "running");
    let fork = ask("fork", json!({"at_version": 1, "effects": "mute"})).await;
    assert_ne!(fork["execution_id"], json!(id), "{fork}");
    assert_eq!(ask("dance", json!({})).await["code"], "invalid_body");

    let keyed = json!({"reason": "done", "idempotency_key": "k"});
    let first = ask("terminate", keyed.clone()).await;
    assert_eq!((&first["type"], &first["status"]), (&json!("result"), &json!("terminated")));
    assert_eq!(ask("terminate", keyed).await, first);
    let other = ask("terminate", json!({"reason": "other", "idempotency_key": "k"})).await;
    assert_eq!(other["code"], "idempotency_key_reused");
    // The same key on the same request over HTTP is the same command.
    let request = h.request(Method::POST, &format!("/api/v1/executions/{id}/terminate"));
    let request = request.header("idempotency-key", "k").json(&json!({"reason": "done"}));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["status"], first["status"]);
}
