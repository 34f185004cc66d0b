//! Read models deleted and rebuilt by command equal the live ones, row by row.

use read_models::{ReadModels, Table};
use serde_json::json;
use std::path::Path;
use std::process::Command;

use crate::harness::{Server, doubling, ticking};

async fn dump(directory: &Path) -> Vec<Vec<Vec<String>>> {
    let models = ReadModels::open(directory.join("read-models.db")).await.unwrap();
    let mut tables = Vec::new();
    for table in [Table::Workflows, Table::WorkflowVersions, Table::Executions] {
        tables.push(models.dump_rows(table).await.unwrap());
    }
    tables
}

fn everline(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_everline"))
        .args(arguments)
        .arg("--data-dir")
        .arg(directory)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_models_rebuilt_by_command_equal_the_live_ones() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::in_directory(directory.path()).await;
    let doubling = server.client.create(&doubling()).await;
    let ticking = server.client.create(&ticking(3)).await;
    for n in 0..20 {
        server.client.execute(&doubling, json!({"n": n})).await;
    }
    let execution = server.client.start(&ticking, json!({})).await;
    server.client.ended(&execution).await;
    server.stop().await;

    let live = dump(directory.path()).await;
    assert_eq!(live.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 21]);
    let said = everline(directory.path(), &["projection", "rebuild"]);
    assert!(said.contains("0 streams parked"), "{said}");
    assert_eq!(dump(directory.path()).await, live);

    // And from nothing at all.
    for file in ["read-models.db", "read-models.db-wal", "read-models.db-shm"] {
        let _ = std::fs::remove_file(directory.path().join(file));
    }
    everline(directory.path(), &["projection", "rebuild"]);
    assert_eq!(dump(directory.path()).await, live);

    let verified = everline(directory.path(), &["log", "verify", "--output", "json"]);
    assert!(verified.lines().all(|line| line.contains("\"intact\":true")), "{verified}");
}
