//! Every example gives the output that it says it gives.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

use crate::harness::within;

/// The input is the file beside the workflow and its expected output.
pub(crate) fn input_of(example: &Path) -> PathBuf {
    let mut inputs: Vec<_> = std::fs::read_dir(example)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| {
            !["workflow.json", "workflow.test.json", "expected.json"].iter().any(|name| path.ends_with(name))
        })
        .collect();
    assert_eq!(inputs.len(), 1, "inputs of {}", example.display());
    inputs.remove(0)
}

#[tokio::test]
async fn every_example_gives_its_expected_output() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut checked = 0;
    for example in std::fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path()) {
        if !example.join("workflow.json").exists() {
            continue;
        }
        let input = format!("@{}", input_of(&example).display());
        let result = run_locally(&example.join("workflow.json"), &input).await;
        let name = example.display();
        let expected: Value =
            serde_json::from_slice(&std::fs::read(example.join("expected.json")).unwrap()).unwrap();
        assert_eq!(result["output"], expected, "{name}");
        checked += 1;
    }
    assert!(checked >= 3, "only {checked} examples in {}", examples.display());
}

async fn run_locally(workflow: &Path, input: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everline"));
    command.args(["run", "--local", "--output", "json", "--input", input]).arg(workflow);
    command.stdin(Stdio::null()).kill_on_drop(true).current_dir(std::env::temp_dir());
    let done = within("an example", command.output()).await.unwrap();
    assert!(done.status.success(), "{}: {}", workflow.display(), String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Those that the README marks with a ▶: the first of their cases needs no worker, signal, event or child.
#[tokio::test]
async fn every_small_example_that_needs_nobody_runs_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/control");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let marked = readme.split("](").skip(1).filter_map(|rest| {
        let (name, after) = rest.split_once(".json)")?;
        after.trim_start().starts_with('▶').then_some(name)
    });
    let mut checked = 0;
    for name in marked {
        let fixture = std::fs::read(folder.join(format!("{name}.test.json"))).unwrap();
        let fixture: Value = serde_json::from_slice(&fixture).unwrap();
        let case = &fixture["cases"][0];
        let result = run_locally(&folder.join(format!("{name}.json")), &case["input"].to_string()).await;
        assert_eq!(result["output"], case["expect"]["output"], "{name}");
        checked += 1;
    }
    assert!(checked >= 15, "only {checked} examples are marked");
}

/// From the engine to a worker, into a process of the sandbox, and back to the handle of the node.
#[tokio::test]
async fn a_condition_in_javascript_is_evaluated_by_a_worker_and_decides_the_way() {
    let workflow = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/control/js-condition.json");
    for (input, way) in
        [(r#"{"sizes": [1, 2], "room": 5}"#, "it fits"), (r#"{"sizes": [4, 2], "room": 5}"#, "too large")]
    {
        assert_eq!(run_locally(&workflow, input).await["output"], way);
    }
}
