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
        let mut command = Command::new(env!("CARGO_BIN_EXE_everline"));
        command.args(["run", "--local", "--output", "json", "--input"]);
        command.arg(format!("@{}", input_of(&example).display())).arg(example.join("workflow.json"));
        command.stdin(Stdio::null()).kill_on_drop(true).current_dir(std::env::temp_dir());
        let done = within("an example", command.output()).await.unwrap();
        let name = example.display();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        let result: Value = serde_json::from_slice(&done.stdout).unwrap();
        let expected: Value =
            serde_json::from_slice(&std::fs::read(example.join("expected.json")).unwrap()).unwrap();
        assert_eq!(result["output"], expected, "{name}");
        checked += 1;
    }
    assert!(checked >= 3, "only {checked} examples in {}", examples.display());
}
