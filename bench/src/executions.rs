//! `executions`: executions per second and their latency, through HTTP with `wait_ms`.
//!
//! A closed loop: as many connections as executions in flight, each sending the next request when the last is
//! answered. An execution counts when it is answered as completed, which means that it is durable.

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ServerOptions;
use crate::http::Client;
use crate::process::{Server, own_cpu_seconds};
use crate::report::{Latencies, Report, Row};
use crate::target::Target;

/// How long each case runs before time is taken.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long read models may take to catch up before the run gives up.
const MAX_LAG: Duration = Duration::from_secs(30);
/// How many failures are told in full.
const SHOWN_FAILURES: u64 = 3;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Which workflows are run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Nodes::Engine, Nodes::Worker])]
    nodes: Vec<Nodes>,
    /// Executions in flight.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    in_flight: Vec<usize>,
    /// Seconds for each case.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// A workflow of three nodes between start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Nodes {
    /// They run in the engine.
    Engine,
    /// They are HTTP requests, one after the other.
    Worker,
}

impl Nodes {
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Worker => "worker",
        }
    }

    fn definition(self, target: &Target) -> Value {
        let (nodes, handle) = match self {
            Self::Engine => {
                let nodes = json!([
                    {"id": "start", "type": "start"},
                    {"id": "first", "type": "transform", "config": {"output":
                        {"order": "{{ input.order }}", "gross": "{{ input.total * 1.2 }}"}}},
                    {"id": "second", "type": "condition", "config": {"expression": "nodes.first.output.gross > 100.0"}},
                    {"id": "third", "type": "transform", "config": {"output":
                        {"text": "order {{ nodes.first.output.order }} is large"}}},
                    {"id": "end", "type": "end", "config": {"output": "{{ nodes.third.output }}"}},
                ]);
                (nodes, Some("true"))
            }
            Self::Worker => {
                let request = |id: &str| {
                    let url = format!("http://{}/stock/{{{{ input.order }}}}", target.address);
                    json!({"id": id, "type": "http_request", "config": {"method": "GET", "url": url}})
                };
                let end = json!({"id": "end", "type": "end", "config": {"output": "{{ nodes.third.output.body }}"}});
                let start = json!({"id": "start", "type": "start"});
                (json!([start, request("first"), request("second"), request("third"), end]), None)
            }
        };
        let mut edges = json!([
            {"source": "start", "target": "first"}, {"source": "first", "target": "second"},
            {"source": "second", "target": "third"}, {"source": "third", "target": "end"},
        ]);
        if let Some(handle) = handle {
            edges[2]["source_handle"] = json!(handle);
        }
        json!({"name": format!("bench-{}", self.name()), "nodes": nodes, "edges": edges})
    }
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    let target = Target::start().await?;
    let server = Arc::new(Server::start(&options.server, &dir.join("server")).await?);
    let (mut rows, mut failures) = (Vec::new(), 0);
    for nodes in &options.nodes {
        let mut client = server.client().await?;
        let definition = nodes.definition(&target).to_string();
        let created = client.post("/api/v1/workflows", definition.as_bytes()).await?.expect(201)?;
        let workflow = created["id"].as_str().context("the created workflow has no id")?;
        for in_flight in &options.in_flight {
            let case =
                Case { nodes: *nodes, in_flight: *in_flight, time: Duration::from_secs(options.seconds) };
            let (row, failed) = case.measure(&server, workflow).await?;
            rows.push(row);
            failures += failed;
        }
    }
    Ok(Report {
        scenario: "executions",
        parameters: json!({"backend": options.server.backend.name(), "seconds": options.seconds, "in_flight": options.in_flight,
            "nodes": options.nodes.iter().map(|nodes| nodes.name()).collect::<Vec<_>>()}),
        notes: vec![
            format!(
                "server: ready after {} ms, {:.0} MiB resident when idle, {:.0} MiB at most",
                server.ready_after.as_millis(), server.idle_mib, server.peak_mib()
            ),
            "lag: from the last answer until the read model shows every connection's last execution as completed; \
             cpu: processor seconds of the server, and of generator and target, per second"
                .to_owned(),
        ],
        rows,
        failures,
    })
}

/// One line of the table.
struct Case {
    nodes: Nodes,
    in_flight: usize,
    time: Duration,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    latencies: Latencies,
    failed: u64,
    /// The last execution that was answered, and its position.
    last: Option<(String, Option<String>)>,
}

impl Case {
    async fn measure(&self, server: &Server, workflow: &str) -> Result<(Row, u64)> {
        let mut clients = Vec::with_capacity(self.in_flight);
        for _ in 0..self.in_flight {
            clients.push(server.client().await?);
        }
        let path = format!("/api/v1/workflows/{workflow}/execute");
        let warm = clients.iter_mut().map(|client| load(client, &path, WARM_UP));
        try_join_all(warm).await?;

        let (server_cpu, own_cpu, start) = (server.cpu_seconds(), own_cpu_seconds(), Instant::now());
        // Each connection on a task of its own, as clients of their own would be.
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let (path, time) = (path.clone(), self.time);
                tokio::spawn(async move { load(&mut client, &path, time).await.map(|seen| (client, seen)) })
            })
            .collect();
        let mut done = Vec::with_capacity(tasks.len());
        for task in tasks {
            done.push(task.await??);
        }
        let elapsed = start.elapsed().as_secs_f64();
        let (server_cpu, own_cpu) = (server.cpu_seconds() - server_cpu, own_cpu_seconds() - own_cpu);
        let lag = lag(&mut done).await?;

        let (mut latencies, mut failed) = (Latencies::default(), 0);
        for (_, seen) in done {
            latencies.merge(seen.latencies);
            failed += seen.failed;
        }
        latencies.sort();
        let row = Row::default()
            .text("3 nodes", self.nodes.name())
            .number("in flight", self.in_flight as f64, 0)
            .number("executions", latencies.count() as f64, 0)
            .number("executions/s", latencies.count() as f64 / elapsed, 0)
            .latency(["p50 ms", "p99 ms", "max ms"], &latencies)
            .number("failed", failed as f64, 0)
            .number("lag ms", lag.as_secs_f64() * 1_000.0, 0)
            .number("server cpu", server_cpu / elapsed, 2)
            .number("generator cpu", own_cpu / elapsed, 2);
        Ok((row, failed))
    }
}

/// Executes one after the other until the time is over.
async fn load(client: &mut Client, path: &str, time: Duration) -> Result<Seen> {
    let mut seen = Seen::default();
    let start = Instant::now();
    let mut number = 0u64;
    while start.elapsed() < time {
        number += 1;
        let body = format!(r#"{{"input":{{"order":{number},"total":129.5}},"wait_ms":30000}}"#);
        let sent = Instant::now();
        let answer = client.post(path, body.as_bytes()).await?;
        let took = sent.elapsed();
        let position = answer.position.clone();
        if answer.status == 200 && has(answer.body, b"\"status\":\"completed\"") {
            seen.latencies.add(took);
            // Parsing every answer would cost more than sending the request.
            if start.elapsed() + took * 2 >= time || seen.last.is_none() {
                let id = answer.json()?["execution_id"].as_str().map(str::to_owned);
                seen.last = Some((id.context("an answer names no execution")?, position));
            }
        } else {
            seen.failed += 1;
            if seen.failed <= SHOWN_FAILURES {
                eprintln!("bench: execution answered {}: {}", answer.status, answer.text());
            }
        }
    }
    Ok(seen)
}

fn has(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

/// How long it takes until the read model shows what was last answered to each connection.
async fn lag(done: &mut [(Client, Seen)]) -> Result<Duration> {
    let start = Instant::now();
    let reads = done.iter_mut().filter_map(|(client, seen)| {
        let (id, position) = seen.last.as_ref()?;
        Some(shown_as_completed(client, id, position.as_deref(), start))
    });
    try_join_all(reads).await?;
    Ok(start.elapsed())
}

async fn shown_as_completed(
    client: &mut Client,
    id: &str,
    position: Option<&str>,
    start: Instant,
) -> Result<()> {
    let path = format!("/api/v1/executions/{id}");
    loop {
        let answer = client.get(&path, position).await?;
        if answer.status == 200 && answer.json()?["status"] == "completed" {
            return Ok(());
        }
        if start.elapsed() > MAX_LAG {
            bail!("the read model does not show execution {id} after {MAX_LAG:?}: {}", answer.text());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
