//! `for_each`: one execution with very many iterations inside the engine, and what others notice of it.
//!
//! A `loop` over so many items, each of which is transformed; then the same with a closed loop of small executions
//! beside it. Small ones are measured without it first. The large one is long in one partition and yields after every
//! 500 events, so the small ones, which are spread over all partitions, should hardly notice.

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ServerOptions;
use crate::http::Client;
use crate::process::Server;
use crate::report::{Latencies, Report, Row};

/// How long small executions run before time is taken.
const WARM_UP: Duration = Duration::from_secs(2);
/// How many failures are told in full.
const SHOWN_FAILURES: u64 = 3;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Items of the loop.
    #[arg(long, default_value_t = 10_000)]
    items: usize,
    /// Iterations at the same time.
    #[arg(long, default_value_t = 1)]
    max_concurrency: usize,
    /// Small executions in flight beside it.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// Seconds for which small executions are measured without it.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often all of it is done.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

impl Options {
    fn large(&self) -> Value {
        let body = json!({
            "nodes": [
                {"id": "start", "type": "start"},
                {"id": "double", "type": "transform", "config": {"output": "{{ item * 2 }}"}},
                {"id": "end", "type": "end", "config": {"output": "{{ nodes.double.output }}"}},
            ],
            "edges": [{"source": "start", "target": "double"}, {"source": "double", "target": "end"}],
        });
        let config = json!({
            "over": "{{ input.items }}", "body": body, "max_iterations": self.items.max(1),
            "max_concurrency": self.max_concurrency,
        });
        json!({
            "name": "bench-for-each",
            "nodes": [
                {"id": "start", "type": "start"},
                {"id": "each", "type": "loop", "config": config},
                {"id": "end", "type": "end", "config": {"output": "{{ size(nodes.each.output) }}"}},
            ],
            "edges": [{"source": "start", "target": "each"}, {"source": "each", "target": "end"}],
        })
    }
}

/// Two engine nodes.
fn small() -> Value {
    json!({
        "name": "bench-beside",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "first", "type": "transform", "config": {"output": {"gross": "{{ input.total * 1.2 }}"}}},
            {"id": "second", "type": "transform", "config": {"output": "{{ nodes.first.output.gross > 100.0 }}"}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.second.output }}"}},
        ],
        "edges": [
            {"source": "start", "target": "first"}, {"source": "first", "target": "second"},
            {"source": "second", "target": "end"},
        ],
    })
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    let server = Arc::new(Server::start(&options.server, &dir.join("server")).await?);
    let mut client = server.client().await?;
    let large = create(&mut client, &options.large()).await?;
    let small = create(&mut client, &small()).await?;
    let beside = Beside { server: server.clone(), path: small, in_flight: options.in_flight };
    beside.measure_for(WARM_UP).await?;
    let (mut rows, mut failures) = (Vec::new(), 0);
    for number in 1..=options.runs {
        let alone = for_each(&mut client, &large, options.items).await?;
        let (quiet, quiet_failed) = beside.measure_for(Duration::from_secs(options.seconds)).await?;
        let ((loud, loud_failed), together) =
            beside.measure_while(async { for_each(&mut client, &large, options.items).await }).await?;
        failures += quiet_failed + loud_failed;
        rows.push(
            Row::default()
                .text("run", number.to_string())
                .number("items", options.items as f64, 0)
                .number("alone s", alone.as_secs_f64(), 2)
                .number("beside others s", together.as_secs_f64(), 2)
                .latency(["quiet p50 ms", "quiet p99 ms", "quiet max ms"], &quiet)
                .latency(["loud p50 ms", "loud p99 ms", "loud max ms"], &loud)
                .number("quiet/s", quiet.count() as f64 / options.seconds.max(1) as f64, 0)
                .number("loud/s", loud.count() as f64 / together.as_secs_f64(), 0)
                .number("peak MiB", server.peak_mib(), 0)
                .number("failed", (quiet_failed + loud_failed) as f64, 0),
        );
    }
    Ok(Report {
        scenario: "for_each",
        parameters: json!({
            "backend": options.server.backend.name(), "items": options.items, "in_flight": options.in_flight,
            "max_concurrency": options.max_concurrency, "seconds": options.seconds,
        }),
        notes: vec![
            format!("server: {:.0} MiB resident when idle, {:.0} MiB at most", server.idle_mib, server.peak_mib()),
            "alone, beside others: from the request until the answer that the loop is completed; quiet, loud: small \
             executions without and with it beside them"
                .to_owned(),
        ],
        rows,
        failures,
    })
}

/// Creates a workflow. Returns the path that executes it.
async fn create(client: &mut Client, definition: &Value) -> Result<String> {
    let created = client.post("/api/v1/workflows", definition.to_string().as_bytes()).await?.expect(201)?;
    let id = created["id"].as_str().context("the created workflow has no id")?;
    Ok(format!("/api/v1/workflows/{id}/execute"))
}

/// Executes the loop once. Returns how long that took.
async fn for_each(client: &mut Client, path: &str, items: usize) -> Result<Duration> {
    let items: Vec<usize> = (0..items).collect();
    let body = json!({"input": {"items": items}, "wait_ms": 30_000}).to_string();
    let sent = Instant::now();
    let answer = client.post(path, body.as_bytes()).await?.expect(200)?;
    let took = sent.elapsed();
    if answer["status"] != "completed" || answer["output"] != json!(items.len()) {
        let shown: String = answer.to_string().chars().take(500).collect();
        bail!("the loop did not complete with {} outputs: {shown}", items.len());
    }
    Ok(took)
}

/// Small executions, on connections of their own.
struct Beside {
    server: Arc<Server>,
    path: String,
    in_flight: usize,
}

impl Beside {
    async fn measure_for(&self, time: Duration) -> Result<(Latencies, u64)> {
        let (measured, ()) = self
            .measure_while(async {
                tokio::time::sleep(time).await;
                Ok(())
            })
            .await?;
        Ok(measured)
    }

    /// Runs them until something is done.
    async fn measure_while<T>(
        &self,
        until: impl Future<Output = Result<T>>,
    ) -> Result<((Latencies, u64), T)> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::with_capacity(self.in_flight);
        for _ in 0..self.in_flight {
            let (client, path, stop) = (self.server.client().await?, self.path.clone(), stop.clone());
            tasks.push(tokio::spawn(load(client, path, stop)));
        }
        let done = until.await;
        stop.store(true, Ordering::Relaxed);
        let (mut latencies, mut failed) = (Latencies::default(), 0);
        for task in tasks {
            let (seen, bad) = task.await??;
            latencies.merge(seen);
            failed += bad;
        }
        latencies.sort();
        Ok(((latencies, failed), done?))
    }
}

/// Executes one after the other until it is told to stop.
async fn load(mut client: Client, path: String, stop: Arc<AtomicBool>) -> Result<(Latencies, u64)> {
    let (mut latencies, mut failed) = (Latencies::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let answer = client.post(&path, br#"{"input":{"total":129.5},"wait_ms":30000}"#).await?;
        let took = sent.elapsed();
        let completed = b"\"status\":\"completed\"";
        if answer.status == 200 && answer.body.windows(completed.len()).any(|part| part == completed) {
            latencies.add(took);
        } else {
            failed += 1;
            if failed <= SHOWN_FAILURES {
                eprintln!("bench: a small execution was answered {}: {}", answer.status, answer.text());
            }
        }
    }
    Ok((latencies, failed))
}
