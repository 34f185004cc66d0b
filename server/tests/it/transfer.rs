//! Moving the log with the command line: to a file and back, to Postgres and back, and going on there.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;

use crate::command_line::{everline, output, text, write};
use crate::harness::{doubling, within};

/// What a command that must succeed says on standard output.
async fn done(directory: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Vec<u8> {
    let done = attempt(directory, arguments, settings).await;
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", text(&done.stderr));
    done.stdout
}

async fn attempt(directory: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = everline(directory, arguments);
    command.envs(settings.iter().copied());
    output(command).await
}

/// Runs a workflow in a data directory and returns its result.
async fn run(directory: &Path, data: &str) -> Value {
    let arguments =
        ["run", "--local", "doubling.json", "--input", "{\"n\": 4}", "--data-dir", data, "--output", "json"];
    serde_json::from_slice(&done(directory, &arguments, &[]).await).unwrap()
}

/// The lines of an export that do not depend on when it was made.
fn bare(export: &[u8]) -> Vec<Value> {
    let mut lines: Vec<Value> =
        text(export).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        line.as_object_mut().unwrap().retain(|key, _| !["exported_at", "check", "sha256"].contains(&&**key));
    }
    lines.sort_by_key(ToString::to_string);
    lines
}

#[tokio::test]
async fn a_log_moves_to_another_directory_and_its_workflows_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    write(here, "doubling.json", &doubling());
    assert_eq!(run(here, "one").await["status"], "completed");

    let export = ["log", "export", "moved.jsonl", "--with-verifiers", "--data-dir", "one"];
    assert!(text(&done(here, &export, &[]).await).contains("to moved.jsonl"));
    let mode = std::fs::metadata(here.join("moved.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = attempt(here, &export, &[]).await;
    assert_eq!(again.status.code(), Some(2), "a file that is there is not written over");
    assert!(text(&again.stderr).contains("cannot create moved.jsonl"), "{}", text(&again.stderr));

    let import =
        ["log", "import", "moved.jsonl", "--with-verifiers", "--data-dir", "two", "--output", "json"];
    let heads = text(&done(here, &import, &[]).await);
    assert_eq!(heads.lines().count(), 16);
    let mode = std::fs::metadata(here.join("two/log.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let full = attempt(here, &import, &[]).await;
    assert_eq!(full.status.code(), Some(2));
    assert!(text(&full.stderr).contains("not empty: it has events"), "{}", text(&full.stderr));

    std::fs::copy(here.join("one/admin.key"), here.join("two/admin.key")).unwrap();
    assert_eq!(run(here, "two").await["output"], json!({"n": 8, "large": false}));
    let verified = done(here, &["log", "verify", "--data-dir", "two", "--output", "json"], &[]).await;
    assert!(text(&verified).lines().all(|line| line.contains("\"intact\":true")), "{}", text(&verified));
    let rebuilt = done(here, &["projection", "rebuild", "--data-dir", "two", "--output", "json"], &[]).await;
    let rebuilt: Value = serde_json::from_slice(&rebuilt).unwrap();
    assert!(rebuilt["events"].as_u64().unwrap() > 0 && rebuilt["parked"] == 0, "{rebuilt}");
}

#[tokio::test]
async fn a_log_moves_through_a_pipe_and_a_broken_one_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    write(here, "doubling.json", &doubling());
    run(here, "one").await;
    let export = done(here, &["log", "export", "-", "--data-dir", "one"], &[]).await;

    let mut broken = export.clone();
    let third = text(&export).lines().take(2).map(|line| line.len() + 1).sum::<usize>() + 20;
    broken[third] ^= 1;
    for (sent, code, said) in [
        (&broken[..], 2, "line 3 of the export is not what was written"),
        (&export, 0, "Read models are not moved"),
    ] {
        let mut command = everline(here, &["log", "import", "-", "--data-dir", "two"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // A file that is refused is not read to its end.
        let _ = input.write_all(sent).await;
        drop(input);
        let done = within("the import", child.wait_with_output()).await.unwrap();
        assert_eq!(done.status.code(), Some(code), "{}", text(&done.stderr));
        assert!(text(&done.stderr).to_lowercase().contains(&said.to_lowercase()), "{}", text(&done.stderr));
    }
    let back = done(here, &["log", "export", "-", "--data-dir", "two"], &[]).await;
    assert_eq!(bare(&back), bare(&export));
    let error = attempt(here, &["log", "export", "-", "--data-dir", "nowhere"], &[]).await;
    assert_eq!(error.status.code(), Some(2));
}

#[tokio::test]
async fn a_log_is_copied_to_postgres_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    write(here, "doubling.json", &doubling());
    run(here, "one").await;
    let url = test_services::database().await.unwrap();
    std::fs::write(here.join("url"), format!("{url}\n")).unwrap();
    let there = [("EVERLINE_DATABASE_URL", url.as_str())];

    let copy = ["log", "copy", "--to", "@url", "--with-verifiers", "--data-dir", "one"];
    done(here, &copy, &[]).await;
    let full = attempt(here, &copy, &[]).await;
    assert_eq!(full.status.code(), Some(2), "{}", text(&full.stderr));
    done(here, &["log", "verify"], &there).await;
    let exported = done(here, &["log", "export", "-", "--with-verifiers"], &there).await;
    let to = format!("sqlite://{}", here.join("back/log.db").display());
    done(here, &["log", "copy", "--to", &to, "--with-verifiers"], &there).await;

    let before = done(here, &["log", "export", "-", "--with-verifiers", "--data-dir", "one"], &[]).await;
    let after = done(here, &["log", "export", "-", "--with-verifiers", "--data-dir", "back"], &[]).await;
    assert_eq!(bare(&exported), bare(&before));
    assert_eq!(bare(&after), bare(&before));
    std::fs::copy(here.join("one/admin.key"), here.join("back/admin.key")).unwrap();
    assert_eq!(run(here, "back").await["status"], "completed");
    let wrong =
        attempt(here, &["log", "copy", "--to", "mysql://u:hunter2@h/d", "--data-dir", "one"], &[]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!text(&wrong.stderr).contains("hunter2"), "{}", text(&wrong.stderr));
}
