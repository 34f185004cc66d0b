//! What is wrong is refused with the right status, code and pointers, and the process lives.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Client, Server, doubling};

/// What is sent and what must come back: method, path, body, status, code, and pointers that must be named.
struct Case {
    name: &'static str,
    method: Method,
    path: String,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    pointers: Vec<&'static str>,
}

impl Case {
    fn post(
        name: &'static str,
        path: &str,
        body: impl Into<Vec<u8>>,
        status: u16,
        code: &'static str,
    ) -> Self {
        Self {
            name,
            method: Method::POST,
            path: path.to_owned(),
            body: body.into(),
            status,
            code,
            pointers: Vec::new(),
        }
    }

    fn at(mut self, pointers: &[&'static str]) -> Self {
        self.pointers = pointers.to_vec();
        self
    }

    async fn check(&self, client: &Client) {
        let request = client.request(self.method.clone(), &self.path);
        let request = request.header("content-type", "application/json").body(self.body.clone());
        let answer = client.send(request).await;
        let Self { name, status, code, .. } = self;
        assert_eq!(answer.status.as_u16(), *status, "{name}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{name}");
        assert_eq!(answer.body["code"], *code, "{name}: {}", answer.body);
        assert_eq!(answer.body["status"], *status, "{name}");
        let named: Vec<_> = answer.body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|error| error["pointer"].as_str())
            .collect();
        for pointer in &self.pointers {
            assert!(named.contains(pointer), "{name}: {pointer} in {named:?}");
        }
        assert_lives(client, name).await;
    }
}

async fn assert_lives(client: &Client, after: &str) {
    let health = client.http.get(format!("{}/readyz", client.url)).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK, "after {after}");
}

/// `doubling` with a change.
fn changed(pointer: &str, value: Value) -> Vec<u8> {
    let mut definition = doubling();
    *definition.pointer_mut(pointer).expect("a place in the definition") = value;
    definition.to_string().into_bytes()
}

fn definitions() -> Vec<Case> {
    let refused = |name, body: Vec<u8>| Case::post(name, "/workflows", body, 422, "invalid_definition");
    let bomb = |open: &str, close: &str| format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
    let chain = vec!["1"; 100_000].join(" + ");
    vec![
        Case::post("not JSON", "/workflows", "{\"name\": ", 400, "invalid_json"),
        Case::post("not UTF-8", "/workflows", b"{\"name\": \"\xff\xfe\"}".as_slice(), 400, "invalid_utf8"),
        Case::post("too deep JSON", "/workflows", bomb("[", "]"), 400, "invalid_json"),
        Case::post("2 MiB", "/workflows", vec![b' '; 2 * 1024 * 1024], 413, "body_too_large"),
        refused("an unknown node type", changed("/nodes/1/type", json!("teleport"))).at(&["/nodes/1/type"]),
        refused("a missing edge target", changed("/edges/1/target", json!("nowhere")))
            .at(&["/edges/1/target"]),
        refused("a bad expression", changed("/nodes/2/config/expression", json!("1 +")))
            .at(&["/nodes/2/config/expression"]),
        refused("nested brackets", changed("/nodes/2/config/expression", json!(bomb("(", ")"))))
            .at(&["/nodes/2/config/expression"]),
        refused("a long chain", changed("/nodes/2/config/expression", json!(chain)))
            .at(&["/nodes/2/config/expression"]),
        refused(
            "a credential from a template in the engine",
            changed("/nodes/1/config/output", json!("{{ credentials.x }}")),
        )
        .at(&["/nodes/1/config/output"]),
        refused("a cycle", changed("/edges/1", json!({"source": "double", "target": "double"})))
            .at(&["/edges/1"]),
        Case::post("an array", "/workflows", "[]", 422, "invalid_body"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_definitions_are_refused_where_they_are_wrong() {
    let server = Server::temporary().await;
    for case in definitions() {
        case.check(&server.client).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused() {
    let server = Server::temporary().await;
    let workflow = server.client.create(&doubling()).await;
    let unknown = "01936b2e-7f00-7000-8000-000000000000";
    let execute = format!("/workflows/{workflow}/execute");
    let missing = |path: String, code| Case {
        method: Method::GET,
        ..Case::post("something unknown", &path, Vec::new(), 404, code)
    };
    let cases = [
        missing(format!("/executions/{unknown}"), "execution_not_found"),
        missing(format!("/workflows/{unknown}"), "workflow_not_found"),
        missing("/executions/7".to_owned(), "not_found"),
        missing("/executions/%27%20or%201=1--".to_owned(), "not_found"),
        missing("/nothing".to_owned(), "not_found"),
        Case::post(
            "an unknown workflow",
            &format!("/workflows/{unknown}/execute"),
            "{}",
            404,
            "workflow_not_found",
        ),
        Case::post("a wait that is too long", &execute, r#"{"wait_ms": 3600000}"#, 422, "invalid_body")
            .at(&["/wait_ms"]),
        Case::post("an unknown field", &execute, r#"{"inptu": 1}"#, 422, "invalid_body").at(&["/inptu"]),
        Case::post("a priority out of range", &execute, r#"{"priority": 10}"#, 422, "invalid_body")
            .at(&["/priority"]),
    ];
    for case in cases {
        case.check(&server.client).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_needs_the_version_that_was_read() {
    let server = Server::temporary().await;
    let workflow = server.client.create(&doubling()).await;
    let path = format!("/workflows/{workflow}");
    let put = || server.client.request(Method::PUT, &path).json(&doubling());
    let absent = server.client.send(put()).await;
    assert_eq!((absent.status.as_u16(), &absent.body["code"]), (428, &json!("precondition_required")));
    let stale = server.client.send(put().header("if-match", "\"999\"")).await;
    assert_eq!(
        (stale.status.as_u16(), &stale.body["code"]),
        (412, &json!("version_mismatch")),
        "{}",
        stale.body
    );
    assert_lives(&server.client, "wrong versions").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_wrong_key_is_refused_everywhere_but_in_public() {
    let server = Server::temporary().await;
    for path in ["/workflows", "/executions", "/events", "/variables", "/auth/me"] {
        let url = format!("{}/api/v1{path}", server.client.url);
        for request in [server.client.http.get(&url), server.client.http.get(&url).bearer_auth("evl_wrong")] {
            let answer = server.client.send(request).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(answer.body["code"], "unauthenticated", "{path}");
        }
    }
    for path in ["/livez", "/readyz", "/version", "/api/v1/openapi.json"] {
        let answer = server.client.http.get(format!("{}{path}", server.client.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_from_input_is_never_a_template_nor_sql() {
    let server = Server::temporary().await;
    let mut definition = doubling();
    definition["name"] = json!("'; drop table workflows; --");
    definition["nodes"] = json!([
        {"id": "start", "type": "start"},
        {"id": "end", "type": "end", "config": {"output": "said: {{ input.text }}"}},
    ]);
    definition["edges"] = json!([{"source": "start", "target": "end"}]);
    let workflow = server.client.create(&definition).await;
    let text = "{{ credentials.x }} {{ vars.secret }} '; delete from events; --\u{0}";
    let answer = server.client.execute(&workflow, json!({"text": text})).await;
    assert_eq!(answer["output"], json!(format!("said: {text}")), "{answer}");
    let found = server.client.get(&format!("/workflows/{workflow}")).await;
    assert_eq!(found.body["name"], definition["name"]);
    assert_lives(&server.client, "an attack").await;
    server.stop().await;
}
