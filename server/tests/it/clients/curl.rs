//! curl, as a shell script uses it.

use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::{ADMIN, Live, PASSWORD};
use crate::harness::{doubling, within};

/// What curl got: status, headers in lower case, body.
struct Got {
    status: u16,
    headers: String,
    body: Value,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    }
}

fn command(token: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]);
    if let Some(token) = token {
        command.args(["--oauth2-bearer", token]);
    }
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn curl(token: Option<&str>, arguments: &[&str]) -> Got {
    let mut command = command(token, arguments);
    let done = within("curl", command.arg("--include").output()).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = head.lines().skip(1).map(|line| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}\n", name.to_ascii_lowercase()),
        None => String::new(),
    });
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    Got { status, headers: headers.collect(), body }
}

#[tokio::test]
async fn curl_logs_in_runs_a_workflow_follows_it_and_is_refused_where_it_may_not() {
    let live = Live::start("").await;
    let api = format!("{}/api/v1", live.url);
    let to = |path: &str| format!("{api}{path}");
    let login = json!({"email": ADMIN, "password": PASSWORD}).to_string();
    let session = curl(None, &["--json", &login, &to("/auth/login")]).await;
    assert_eq!((session.status, session.header("cache-control")), (200, Some("no-store")));
    let token = session.body["access_token"].as_str().unwrap();

    let definition = doubling().to_string();
    let created = curl(Some(token), &["--json", &definition, &to("/workflows")]).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let workflow = created.body["id"].as_str().unwrap();
    let position = created.header("everline-position").expect("a position");
    let minimum = format!("Everline-Min-Position: {position}");
    let read = curl(Some(token), &["--header", &minimum, &to(&format!("/workflows/{workflow}"))]).await;
    let etag = read.header("etag").expect("an entity tag").to_owned();

    let path = to(&format!("/workflows/{workflow}"));
    let put = |if_match: Option<String>| {
        let (path, definition) = (path.clone(), definition.clone());
        async move {
            let if_match = if_match.map(|etag| format!("If-Match: {etag}"));
            let mut arguments = vec!["--request", "PUT", "--json", &definition];
            if let Some(header) = &if_match {
                arguments.extend(["--header", header]);
            }
            arguments.push(&path);
            curl(Some(token), &arguments).await
        }
    };
    assert_eq!(put(None).await.status, 428);
    assert_eq!(put(Some("\"99\"".to_owned())).await.status, 412);
    assert_eq!(put(Some(etag)).await.status, 200);

    let run = to(&format!("/workflows/{workflow}/execute"));
    let ended = curl(Some(token), &["--json", r#"{"input": {"n": 21}, "wait_ms": 20000}"#, &run]).await;
    assert_eq!((ended.status, &ended.body["output"]["n"]), (200, &json!(42)), "{}", ended.body);
    let execution = ended.body["execution_id"].as_str().unwrap();
    let read = curl(Some(token), &[&to(&format!("/executions/{execution}"))]).await;
    assert_eq!(read.body["status"], "completed");

    let mut follower =
        command(Some(token), &["--no-buffer", &to(&format!("/executions/{execution}/stream"))]);
    let mut child = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    within("the stream", async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(id) = line.strip_prefix("id: ").or_else(|| line.strip_prefix("id:")) {
                seen.push(id.trim().parse::<u64>().unwrap());
            }
            if line.contains("execution.completed") {
                break;
            }
        }
    })
    .await;
    assert!(seen.len() > 2 && seen.is_sorted(), "{seen:?}");

    let problem = curl(None, &[&to("/workflows")]).await;
    assert_eq!((problem.status, &problem.body["code"]), (401, &json!("unauthenticated")));
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    assert!(problem.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    let viewer = json!({"email": "v@example.test", "password": "another long password", "role": "VIEWER"});
    assert_eq!(curl(Some(token), &["--json", &viewer.to_string(), &to("/users")]).await.status, 201);
    let login = json!({"email": "v@example.test", "password": "another long password"}).to_string();
    let viewer = curl(None, &["--json", &login, &to("/auth/login")]).await;
    let viewer = viewer.body["access_token"].as_str().unwrap();
    let problem = curl(Some(viewer), &["--json", &definition, &to("/workflows")]).await;
    assert_eq!((problem.status, &problem.body["code"]), (403, &json!("forbidden")), "{}", problem.body);
    let logout = curl(Some(token), &["--request", "POST", &to("/auth/logout")]).await;
    assert_eq!(logout.status, 204);
    assert_eq!(
        curl(Some(token), &[&to("/auth/me")]).await.status,
        401,
        "a session that is over is refused at once"
    );
}
