//! What an execution was, what differs, the nodes inside it, and dead letters.

use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::TenantId;
use domain::node_type::NodeType;
use domain::time::Timestamp;
use read_models::{DeadLetter, WorkflowVersionRow};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::harness::{Harness, echo, text};

/// A workflow that copies each item of its input, inside a loop.
fn copying(name: &str) -> Value {
    let body = json!({
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "copy", "type": "transform", "config": {"output": {"got": "{{ item }}"}}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.copy.output }}"}}
        ],
        "edges": [{"source": "start", "target": "copy"}, {"source": "copy", "target": "end"}]
    });
    json!({
        "name": name,
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "each", "type": "loop", "config": {"over": "{{ input }}", "body": body}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.each.output }}"}}
        ],
        "edges": [{"source": "start", "target": "each"}, {"source": "each", "target": "end"}]
    })
}

/// Creates a workflow, and puts its definition where a projection would; its id.
pub(crate) async fn create(h: &Harness, definition: &Value) -> String {
    let id = h.create(definition).await;
    let row = WorkflowVersionRow {
        tenant: TenantId::default_tenant(),
        workflow_id: id.parse().expect("an id"),
        version: 1,
        hash: String::new(),
        created_at: Timestamp::from_unix_ms(1),
        created_by: "user:1".to_owned(),
        definition: definition.to_string(),
    };
    let mut tx = h.models.begin().await.expect("a transaction");
    tx.put_workflow_version(&row).await.expect("written");
    tx.commit().await.expect("a commit");
    id
}

/// Runs it to its end; the execution's id.
async fn run(h: &Harness, workflow: &str, input: Value) -> String {
    let body = json!({"input": input, "wait_ms": 10_000});
    let answer = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["status"], "completed", "{answer}");
    text(&answer, "execution_id")
}

async fn refused(h: &Harness, path: &str) -> (u16, String) {
    let answer = h.get(path).await;
    let status = answer.status().as_u16();
    (status, text(&answer.json().await.expect("JSON"), "code"))
}

#[tokio::test]
async fn an_execution_is_shown_as_of_each_of_its_events_and_of_no_other() {
    let h = Harness::start().await;
    let workflow = create(&h, &echo("as-of")).await;
    let id = run(&h, &workflow, json!(7)).await;
    let path = format!("/api/v1/executions/{id}/state");
    let last = h.get_json(&path).await;
    let versions = last["version"].as_u64().expect("a version");
    for version in 1..=versions {
        let state = h.get_json(&format!("{path}?at_version={version}")).await;
        assert_eq!(state["version"], version);
        let ended = version == versions;
        assert_eq!(state["status"], if ended { "completed" } else { "running" });
        assert_eq!(state["finished_at"].is_null(), !ended);
        let ids: Vec<String> =
            state["nodes"].as_array().expect("nodes").iter().map(|node| text(node, "id")).collect();
        assert_eq!(ids, ["start", "copy", "end"], "the whole top level, reached or not");
    }
    assert_eq!(h.get_json(&format!("{path}?at_version={versions}")).await, last);
    for wrong in ["0".to_owned(), (versions + 1).to_string(), u64::MAX.to_string()] {
        let answer = refused(&h, &format!("{path}?at_version={wrong}")).await;
        assert_eq!(answer, (404, "execution_version_not_found".to_owned()), "{wrong}");
    }
    let other = "/api/v1/executions/0190b2c4-7d5e-7abc-8def-0123456789ab/state";
    assert_eq!(refused(&h, other).await, (404, "execution_not_found".to_owned()));
}

#[tokio::test]
async fn nodes_inside_a_loop_are_paged_in_the_order_of_its_iterations() {
    let h = Harness::start().await;
    let workflow = create(&h, &copying("bodies")).await;
    let items: Vec<u32> = (0..12).collect();
    let id = run(&h, &workflow, json!(items)).await;
    let state = h.get_json(&format!("/api/v1/executions/{id}/state")).await;
    assert_eq!(state["nodes"][1]["iterations"], json!({"count": 12, "completed": 12}));
    let version = state["version"].as_u64().expect("a version");
    let base = format!("/api/v1/executions/{id}/nodes?at_version={version}&limit=5");
    let mut ids = Vec::new();
    let mut more = String::new();
    loop {
        let page = h.get_json(&format!("{base}&parent=each{more}")).await;
        for node in page["items"].as_array().expect("items") {
            assert_eq!(node["status"], "completed");
            ids.push(text(node, "id"));
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        more = format!("&cursor={cursor}");
    }
    let expected: Vec<String> = (0..12).map(|number| format!("each/{number}/copy")).collect();
    assert_eq!(ids, expected);
    let top = h.get_json(&base).await;
    let top: Vec<String> = top["items"].as_array().expect("items").iter().map(|n| text(n, "id")).collect();
    assert_eq!(top, ["start", "each", "end"]);
    for parent in ["nothing", "start", "each/0", "each/0/copy"] {
        let answer = refused(&h, &format!("{base}&parent={parent}")).await;
        assert_eq!(answer, (404, "node_not_found".to_owned()), "{parent}");
    }
    let answer = refused(&h, &format!("{base}&parent=each&cursor=x")).await;
    assert_eq!(answer, (400, "invalid_cursor".to_owned()));
}

#[tokio::test]
async fn what_differs_between_executions_and_versions_is_told_node_by_node() {
    let h = Harness::start().await;
    let workflow = create(&h, &copying("differing")).await;
    let one = run(&h, &workflow, json!([1, 2])).await;
    let other = run(&h, &workflow, json!([1, 3, 4])).await;
    let path = format!("/api/v1/executions/{one}/diff/{other}");
    let diff = h.get_json(&path).await;
    assert_eq!((&diff["from"]["execution_id"], &diff["to"]["execution_id"]), (&json!(one), &json!(other)));
    assert_eq!(diff["execution"]["input"], json!({"from": [1, 2], "to": [1, 3, 4]}));
    assert!(diff["execution"]["status"].is_null(), "what is the same is not told");
    let nodes: Vec<(String, String)> = diff["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| (text(node, "id"), text(node, "change")))
        .collect();
    let expected = [
        ("each", "changed"),
        ("each/1/copy", "changed"),
        ("each/2/copy", "added"),
        ("end", "changed"),
        ("start", "changed"),
    ];
    assert_eq!(nodes, expected.map(|(id, change)| (id.to_owned(), change.to_owned())));
    assert_eq!(diff["nodes"][1]["fields"], json!({"output": {"from": {"got": 2}, "to": {"got": 3}}}));

    let page = h.get_json(&format!("{path}?limit=2")).await;
    let cursor = text(&page, "next_cursor");
    let rest = h.get_json(&format!("{path}?limit=200&cursor={cursor}")).await;
    assert_eq!(rest["nodes"].as_array().expect("nodes")[..], diff["nodes"].as_array().expect("nodes")[2..]);
    assert!(h.get_json(&format!("/api/v1/executions/{one}/diff/{one}")).await["nodes"] == json!([]));

    let versions = h.get_json(&format!("/api/v1/executions/{one}/diff?from=1")).await;
    assert_eq!(versions["execution"]["status"], json!({"from": "running", "to": "completed"}));
    assert_eq!((&versions["from"]["version"], &versions["from"]["execution_id"]), (&json!(1), &json!(one)));
    let answer = refused(&h, &format!("/api/v1/executions/{one}/diff?from=1&to=999")).await;
    assert_eq!(answer, (404, "execution_version_not_found".to_owned()));
}

#[tokio::test]
async fn dead_letters_are_listed_by_what_is_asked_for() {
    let h = Harness::start().await;
    let tenant = TenantId::default_tenant();
    let letter = |number: u64, kind: ErrorKind| DeadLetter {
        id: domain::ids::new_id(
            Timestamp::from_unix_ms(1_795_000_000_000 + number as i64),
            domain::ids::Slot::from_bits(1),
            number,
        ),
        execution_id: uuid::Uuid::now_v7(),
        workflow_id: uuid::Uuid::now_v7(),
        workflow_name: "orders".to_owned(),
        node_id: "fetch".to_owned(),
        run: 1,
        attempt: 3,
        node_type: NodeType::HttpRequest,
        error: NodeError { kind, message: "no".to_owned(), retryable: true, details: Value::Null },
        dead_lettered_at: Timestamp::from_unix_ms(1_795_000_000_000 + number as i64),
        redriven_at: None,
    };
    let letters =
        [letter(1, ErrorKind::Http5xx), letter(2, ErrorKind::Timeout), letter(3, ErrorKind::Http5xx)];
    let mut tx = h.models.begin().await.expect("a transaction");
    for letter in &letters {
        tx.put_dead_letter(&tenant, letter).await.expect("written");
    }
    let redriven = ["fetch".to_owned()];
    let at = Timestamp::from_unix_ms(1_795_000_009_000);
    tx.redrive_dead_letters(&tenant, letters[0].execution_id, &redriven, at).await.expect("marked");
    tx.commit().await.expect("a commit");

    let found = async |query: &str| -> Vec<String> {
        let page = h.get_json(&format!("/api/v1/dead-letters{query}")).await;
        page["items"].as_array().expect("items").iter().map(|letter| text(letter, "id")).collect()
    };
    let ids: Vec<String> = letters.iter().map(|letter| letter.id.to_string()).collect();
    assert_eq!(found("").await, [ids[2].as_str(), ids[1].as_str()]);
    assert_eq!(found("?redriven=true").await, [ids[0].as_str()]);
    assert_eq!(found("?error_kind=timeout").await, [ids[1].as_str()]);
    assert_eq!(found(&format!("?workflow_id={}", letters[2].workflow_id)).await, [ids[2].as_str()]);
    assert_eq!(
        found(&format!("?execution_id={}&redriven=true", letters[0].execution_id)).await,
        [ids[0].as_str()]
    );
    assert!(found("?node_id=other").await.is_empty());
    let page = h.get_json("/api/v1/dead-letters?limit=1").await;
    let next = text(&page, "next_cursor");
    assert_eq!(found(&format!("?limit=1&cursor={next}")).await, [ids[1].as_str()]);
    let one = h.get_json(&format!("/api/v1/dead-letters/{}", ids[0])).await;
    assert_eq!((&one["error"]["kind"], &one["attempt"]), (&json!("http_5xx"), &json!(3)));
    assert!(one["redriven_at"].is_string());

    let nobody = "/api/v1/dead-letters/0190b2c4-7d5e-7abc-8def-0123456789ab";
    assert_eq!(refused(&h, nobody).await, (404, "dead_letter_not_found".to_owned()));
    for wrong in ["redriven=perhaps", "error_kind=http_6xx", "kind=timeout"] {
        let answer = refused(&h, &format!("/api/v1/dead-letters?{wrong}")).await;
        assert_eq!(answer, (400, "invalid_parameter".to_owned()), "{wrong}");
    }
}
