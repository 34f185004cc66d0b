//! `everline test` as people and scripts use it.

use serde_json::{Value, json};
use std::path::Path;

use crate::command_line::{everline, output, text, write};
use crate::harness::{Server, doubling};

fn case(name: &str, n: i64, expect: Value) -> Value {
    json!({"name": name, "input": {"n": n}, "expect": expect})
}

async fn tested(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut all = vec!["test"];
    all.extend(arguments);
    let done = output(everline(directory, &all)).await;
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[tokio::test]
async fn a_line_for_each_case_differences_below_and_1_if_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "doubling.json", &doubling());
    let good = case(
        "small",
        2,
        json!({"output": {"n": 4, "large": false}, "nodes": {"yes": {"status": "skipped"}}}),
    );
    let bad = case("large", 20, json!({"output": {"n": 41, "large": true}}));
    write(directory.path(), "doubling.test.json", &json!({"cases": [good, bad]}));
    let (code, stdout, stderr) = tested(directory.path(), &["doubling.json"]).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert_eq!(
        stdout.lines().collect::<Vec<_>>(),
        [
            "ok      doubling.json: small",
            "FAILED  doubling.json: large",
            "        output.n: expected 41, found 40",
            "1 passed, 1 failed"
        ]
    );
    let (code, stdout, _) =
        tested(directory.path(), &["doubling.json", "--case", "small", "--output", "json"]).await;
    assert_eq!(code, Some(0));
    let line: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(line, json!({"file": "doubling.json", "case": "small", "passed": true, "findings": []}));
    let (_, stdout, _) =
        tested(directory.path(), &["doubling.json", "--case", "large", "--output", "json"]).await;
    let line: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(line["findings"], json!([{"path": "output.n", "expected": 41, "found": 40}]));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is written");
}

#[tokio::test]
async fn a_fixture_that_cannot_be_used_exits_with_2_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "doubling.json", &doubling());
    let (code, _, stderr) = tested(directory.path(), &["doubling.json"]).await;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("cannot open doubling.test.json"), "{stderr}");
    write(directory.path(), "other.json", &json!({"cases": [{"name": "a", "outputs": {}}]}));
    let (code, _, stderr) = tested(directory.path(), &["doubling.json", "--fixture", "other.json"]).await;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("cases[0]: `outputs` is not a field here"), "{stderr}");
    let (code, _, stderr) =
        tested(directory.path(), &["doubling.json", "other.json", "--fixture", "other.json"]).await;
    assert_eq!((code, stderr.contains("are for one FILE")), (Some(2), true), "{stderr}");
}

#[tokio::test]
async fn the_examples_with_cases_pass_them() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let with_cases: Vec<_> = std::fs::read_dir(&examples)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("workflow.json"))
        .filter(|file| file.with_extension("test.json").exists())
        .map(|file| file.display().to_string())
        .collect();
    assert!(!with_cases.is_empty());
    let files: Vec<_> = with_cases.iter().map(String::as_str).collect();
    let (code, stdout, stderr) = tested(&std::env::temp_dir(), &files).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[tokio::test]
async fn a_case_recorded_from_an_execution_passes() {
    let directory = tempfile::tempdir().unwrap();
    let router = axum::Router::new().route("/", axum::routing::post(|body: String| async move { body }));
    let target = crate::harness::Target::serve(router).await;
    let mut definition = crate::harness::posting(&format!("{}/", target.url));
    definition["nodes"]
        .as_array_mut()
        .unwrap()
        .insert(2, json!({"id": "go", "type": "wait", "config": {"for": "signal", "signal": "go"}}));
    definition["edges"] = json!([
        {"source": "start", "target": "call"}, {"source": "call", "target": "go"}, {"source": "go", "target": "end"}
    ]);
    write(directory.path(), "posting.json", &definition);
    let mut options = server::EmbeddedOptions::temporary();
    options.agents.egress.allow_private = true;
    let server = Server::with(options).await;
    let workflow = server.client.create(&definition).await;
    let execution = server.client.start(&workflow, json!({"a": 1})).await;
    let signal = server.client.post(&format!("/executions/{execution}/signals/go"), &json!("now")).await;
    assert!(signal.status.is_success(), "{}", signal.body);
    server.client.ended(&execution).await;
    let record = ["posting.json", "--from-execution", &execution, "--server", &server.client.url];
    let record = [&record[..], &["--api-key", &server.client.key]].concat();
    for _ in 0..2 {
        let (code, stdout, stderr) = tested(directory.path(), &record).await;
        assert_eq!(code, Some(0), "{stdout}{stderr}");
    }
    server.stop().await;
    let fixture: Value =
        serde_json::from_slice(&std::fs::read(directory.path().join("posting.test.json")).unwrap()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 1, "recording again replaces the case");
    assert_eq!(cases[0]["signals"][0]["payload"], "now");
    assert!(cases[0]["nodes"]["call"]["output"]["body"].is_string(), "{fixture:#}");
    let (code, stdout, stderr) = tested(directory.path(), &["posting.json"]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}
