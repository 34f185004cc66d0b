//! The binary as people and scripts use it.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Server, doubling, within};

/// `everline` in a directory, with none of the test's own settings.
pub(crate) fn everline(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everline"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVERLINE_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) async fn output(mut command: Command) -> Output {
    within("the command", command.output()).await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn write(directory: &Path, name: &str, value: &Value) {
    std::fs::write(directory.join(name), value.to_string()).unwrap();
}

#[tokio::test]
async fn run_local_prints_each_event_and_the_output_and_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    write(directory.path(), "doubling.json", &doubling());
    let mut command =
        everline(directory.path(), &["run", "--local", "doubling.json", "--input", "{\"n\": 4}"]);
    command.env("TMPDIR", temporary.path());
    // What is set for talking to a server is no contradiction.
    command.env("EVERLINE_API_KEY", "evl_of_another").env("EVERLINE_SERVER", "http://127.0.0.1:1");
    let done = output(command).await;
    let (stdout, stderr) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{stdout}{stderr}");
    for part in ["execution.started", "execution.node.completed", "execution.completed", "completed\n{"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let printed = &stdout[stdout.rfind("\n{").unwrap()..];
    assert_eq!(serde_json::from_str::<Value>(printed).unwrap(), json!({"n": 8, "large": false}));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn run_local_keeps_a_data_directory_and_a_definition_that_did_not_change() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "doubling.json", &doubling());
    write(directory.path(), "input.json", &json!({"n": 40}));
    let arguments = [
        "run",
        "--local",
        "doubling.json",
        "--input",
        "@input.json",
        "--data-dir",
        "kept",
        "--output",
        "json",
    ];
    for _ in 0..2 {
        let done = output(everline(directory.path(), &arguments)).await;
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        let result: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((&result["status"], &result["output"]["n"]), (&json!("completed"), &json!(80)));
    }
    let server = Server::in_directory(&directory.path().join("kept")).await;
    let workflows = server.client.get("/workflows").await;
    assert_eq!(workflows.body["items"][0]["version"], 1, "{}", workflows.body);
    server.stop().await;
}

#[tokio::test]
async fn a_failed_execution_exits_with_1_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "doubling.json", &doubling());
    let done =
        output(everline(directory.path(), &["run", "--local", "doubling.json", "--input", "{}"])).await;
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("failed: "), "{}", text(&done.stdout));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_exits_with_64() {
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("dev", "EVERLINE_DATABASE_URL", "postgres://u:hunter2@h", "database is missing"),
        ("dev", "EVERLINE_READ_MODEL_URL", "postgres://u:hunter2@h/d", "would be on Postgres"),
        ("dev", "EVERLINE_NATS_URL", "http://hunter2@h:4222", "begins with nats://"),
        ("serve all", "EVERLINE_NO_SUCH_THING", "1", "unknown key `no_such_thing`"),
        ("serve all", "EVERLINE_LOG", "a=b=c", "not a log filter"),
        ("serve gateway", "UNRELATED", "", "database_url: `everline serve gateway` needs Postgres"),
        (
            "serve agents",
            "EVERLINE_DATABASE_URL",
            "postgres://u:hunter2@h/d",
            "nats_url: `everline serve agents`",
        ),
        ("serve vector", "UNRELATED", "", "later release"),
        ("cluster nodes", "UNRELATED", "", "an embedded store has one process"),
        ("dev --config nowhere.toml", "UNRELATED", "", "cannot be read"),
    ];
    for (arguments, name, value, said) in cases {
        let mut command = everline(directory.path(), &arguments.split(' ').collect::<Vec<_>>());
        command.env(name, value);
        let done = output(command).await;
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said) && !stderr.contains("hunter2"), "{arguments:?}: {stderr}");
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            0,
            "{arguments:?} left something behind"
        );
    }
}

#[tokio::test]
async fn run_local_works_on_no_other_store_than_an_embedded_one() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "doubling.json", &doubling());
    let mut command = everline(directory.path(), &["run", "--local", "doubling.json"]);
    command.env("EVERLINE_DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d");
    let done = output(command).await;
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("embedded store") && !stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test]
async fn a_server_that_is_needed_and_not_there_is_named_when_the_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = everline(directory.path(), &["serve", "all", "--port", "0"]);
    command.env("EVERLINE_DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d");
    command.env("EVERLINE_STARTUP_TIMEOUT_MS", "300");
    let done = output(command).await;
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    for part in ["the log's database postgres://127.0.0.1:1/d", "within 300 ms", "startup_timeout_ms"] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test]
async fn a_store_is_only_created_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let done = output(everline(directory.path(), &["migrate", "--data-dir", "mistyped"])).await;
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("there is no log at mistyped/log.db") && stderr.contains("--create"), "{stderr}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    let done = output(everline(directory.path(), &["migrate", "--data-dir", "meant", "--create"])).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let done =
        output(everline(directory.path(), &["projection", "lag", "--data-dir", "meant", "--output", "json"]))
            .await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout).lines().count(), 16);
    let first: Value = serde_json::from_str(text(&done.stdout).lines().next().unwrap()).unwrap();
    assert_eq!(first, json!({"partition": 0, "head": 0, "projected": 0, "behind": 0}));
}

#[tokio::test]
async fn a_mistake_on_the_command_line_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["fly"][..], &["run", "nowhere.json"], &["serve", "everything"]] {
        let done = output(everline(directory.path(), arguments)).await;
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {}", text(&done.stderr));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let done =
        output(everline(directory.path(), &["workflow", "list", "--server", "http://127.0.0.1:1"])).await;
    assert_eq!(done.status.code(), Some(1));
    let stderr = text(&done.stderr);
    assert!(stderr.contains("http://127.0.0.1:1") && stderr.contains("everline dev"), "{stderr}");
}

/// A running `everline dev` and its URL.
async fn dev(directory: &Path) -> (Child, String) {
    let mut child = everline(directory, &["dev", "--port", "0"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = within("the first line", lines.next_line()).await.unwrap().unwrap();
    let url = first.rsplit(' ').next().unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{first}");
    while let Some(line) = within("the greeting", lines.next_line()).await.unwrap() {
        if line.starts_with("Stop it") {
            break;
        }
    }
    (child, url)
}

async fn terminate(child: &mut Child) -> Option<i32> {
    // The shell's own `kill`: a bare machine has no program of that name.
    let kill = format!("kill -TERM {}", child.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    within("the end", child.wait()).await.unwrap().code()
}

#[tokio::test]
async fn dev_serves_the_command_line_and_ends_well() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    write(here, "doubling.json", &doubling());
    let (mut child, url) = dev(here).await;
    let asked = |arguments: &[&str]| {
        let mut command = everline(here, arguments);
        command.env("EVERLINE_SERVER", &url);
        output(command)
    };
    let said = |done: &Output| {
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    assert!(said(&asked(&["workflow", "apply", "doubling.json"]).await).contains("version 1 created"));
    assert!(said(&asked(&["workflow", "apply", "doubling.json"]).await).contains("version 1 unchanged"));
    let run = asked(&["run", "doubling.json", "--input", "{\"n\": 1}", "--output", "json", "--watch"]).await;
    let lines: Vec<Value> = said(&run).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["output"]["n"], 2);
    let execution = lines.last().unwrap()["execution_id"].as_str().unwrap().to_owned();
    assert_eq!(lines[0]["type"], "execution.started");

    let mut changed = doubling();
    changed["description"] = json!("changed");
    write(here, "doubling.json", &changed);
    assert!(said(&asked(&["workflow", "apply", "doubling.json"]).await).contains("version 2 updated"));
    assert!(said(&asked(&["workflow", "list"]).await).contains("doubling"));
    assert_eq!(
        said(&asked(&["workflow", "versions", "doubling", "--output", "json"]).await).lines().count(),
        2
    );
    said(&asked(&["workflow", "disable", "doubling"]).await);
    assert_eq!(asked(&["execution", "start", "doubling"]).await.status.code(), Some(1));
    said(&asked(&["workflow", "enable", "doubling"]).await);
    assert!(said(&asked(&["execution", "list", "--workflow", "doubling"]).await).contains(&execution));
    assert!(said(&asked(&["execution", "get", &execution]).await).contains("\"completed\""));
    assert!(said(&asked(&["execution", "events", &execution]).await).contains("execution.completed"));
    assert!(said(&asked(&["execution", "watch", &execution]).await).contains("execution.started"));
    assert!(
        said(&asked(&["execution", "state", &execution, "--at-version", "1"]).await).contains("\"running\"")
    );
    assert!(said(&asked(&["events", "list", "--category", "workflow"]).await).contains("workflow.created"));
    said(&asked(&["variable", "set", "shop", "\"http://shop\""]).await);
    assert!(said(&asked(&["variable", "list"]).await).contains("http://shop"));
    said(&asked(&["variable", "delete", "shop"]).await);
    said(&asked(&["workflow", "delete", "doubling"]).await);
    let healthy = asked(&["health", "--url", &url, "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&said(&healthy)).unwrap()["checks"]["log"]["status"], "ok");
    assert_eq!(asked(&["workflow", "get", "doubling"]).await.status.code(), Some(1));
    assert_eq!(terminate(&mut child).await, Some(0));
    assert_eq!(asked(&["health", "--url", &url]).await.status.code(), Some(1));
    assert!(said(&asked(&["migrate"]).await).contains("up to date"));
}

#[tokio::test]
async fn a_definition_that_is_not_valid_is_refused_with_its_pointers() {
    let directory = tempfile::tempdir().unwrap();
    let mut broken = doubling();
    broken["edges"][0]["target"] = json!("nowhere");
    write(directory.path(), "broken.json", &broken);
    let done = output(everline(directory.path(), &["workflow", "validate", "broken.json"])).await;
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stdout).contains("/edges/0/target"), "{}", text(&done.stdout));
    let done = output(everline(directory.path(), &["run", "--local", "broken.json"])).await;
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("/edges/0/target"), "{}", text(&done.stderr));
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = everline(directory.path(), &["config", "default"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = within("the end", child.wait_with_output()).await.unwrap();
    assert_eq!((done.status.code(), text(&done.stderr).as_str()), (Some(0), ""));
}
