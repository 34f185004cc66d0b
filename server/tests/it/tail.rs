//! `everline tail`: every event once, though its connections are cut and it is killed itself.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::command_line::{everline, output, text};
use crate::harness::{Server, doubling, within};

/// Bytes of answers after which the proxy cuts a connection: a few events.
const CUT_AFTER: usize = 6_000;

/// A way to a server on which every connection breaks after some bytes.
struct Cutting {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Cutting {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(cut(client, server));
            }
        });
        Self { url, task }
    }
}

impl Drop for Cutting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn cut(client: TcpStream, server: SocketAddr) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let down = async {
        let (mut left, mut buffer) = (CUT_AFTER, vec![0; 1_000]);
        while left > 0 {
            let most = left.min(buffer.len());
            match from_server.read(&mut buffer[..most]).await {
                Ok(read @ 1..) if to_client.write_all(&buffer[..read]).await.is_ok() => left -= read,
                _ => return,
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// A tail in a process of its own, and the lines that it prints.
struct Tail {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    async fn next(&mut self) -> Value {
        let line = within("the next line", self.lines.next_line()).await.unwrap().expect("a line");
        serde_json::from_str(&line).unwrap()
    }
}

fn ids(events: &[Value]) -> Vec<String> {
    let mut ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

fn tail(directory: &Path, server: &str, key: &str, more: &[&str]) -> Command {
    let mut arguments = vec!["tail", "--output", "json", "--server", server, "--api-key", key];
    arguments.extend(more);
    everline(directory, &arguments)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_is_cut_off_and_killed_again_and_again_tells_every_event_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::temporary().await;
    let address = server.client.url.trim_start_matches("http://").parse().unwrap();
    let cutting = Cutting::before(address).await;
    let workflow = server.client.create(&doubling()).await;
    for number in 0..10 {
        server.client.execute(&workflow, json!({"n": number})).await;
    }
    let filter = "event.type in ['execution.started', 'execution.completed'] && event.version >= 1";
    let running = async {
        for number in 10..30 {
            server.client.execute(&workflow, json!({"n": number})).await;
        }
    };
    let following = async {
        let mut told: Vec<Value> = Vec::new();
        while told.len() < 60 {
            let resume = told.last().map_or("beginning", |event| event["resume"].as_str().unwrap());
            let more = ["--category", "execution", "--filter", filter, "--from", resume];
            let mut tail = Tail::start(tail(directory.path(), &cutting.url, &server.client.key, &more));
            // Long enough for the connection to be cut in between.
            for _ in 0..25.min(60 - told.len()) {
                told.push(tail.next().await);
            }
            tail.process.kill().await.unwrap();
        }
        told
    };
    let ((), told) = within("the events", async { tokio::join!(running, following) }).await;
    let all = ["--category", "execution", "--filter", filter, "--no-follow"];
    let all = output(tail(directory.path(), &server.client.url, &server.client.key, &all)).await;
    assert_eq!(all.status.code(), Some(0), "{}", text(&all.stderr));
    let all: Vec<Value> = text(&all.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 60);
    assert_eq!(ids(&told), ids(&all));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_of_an_execution_ends_with_it_and_an_interrupted_one_ends_well() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::temporary().await;
    let workflow = server.client.create(&doubling()).await;
    let done = server.client.execute(&workflow, json!({"n": 1})).await;
    let execution = done["execution_id"].as_str().unwrap();
    let (url, key) = (&server.client.url, &server.client.key);
    let whole = output(tail(directory.path(), url, key, &["--execution", execution])).await;
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
    assert_eq!(text(&whole.stdout).lines().count(), server.client.events(execution).await.len());

    let mut command = everline(directory.path(), &["tail", "--from", "beginning", "--server", url, "--api-key", key]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut seen = String::new();
    while !seen.contains("execution.completed") {
        seen = within("a line", lines.next_line()).await.unwrap().expect("a line");
    }
    assert!(seen.starts_with(execution), "people see the stream: {seen}");
    let id = i32::try_from(process.id().expect("it runs")).unwrap();
    let interrupted = Command::new("kill").args(["-INT", &id.to_string()]).status().await.unwrap();
    assert!(interrupted.success());
    let ended = within("the end", process.wait_with_output()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(text(&ended.stderr).contains("go on with --from "), "{}", text(&ended.stderr));

    let wrong = output(tail(directory.path(), url, key, &["--filter", "event."])).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("filter"), "{}", text(&wrong.stderr));
    server.stop().await;
}
