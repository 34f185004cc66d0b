//! `reads`: executions by id through HTTP with a key, against a bare axum handler in the same run.
//!
//! A closed loop of kept connections. Two servers: one keeps nothing in memory, so that every answer is made from the
//! read model; the other is as it is by default. The cases take turns, so that what else the machine does meets all.

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::future::try_join_all;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ServerOptions;
use crate::http::Client;
use crate::plain::Plain;
use crate::process::Server;
use crate::report::{Latencies, Report, Row};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Executions that are read.
    #[arg(long, default_value_t = 200)]
    executions: usize,
    /// Seconds for each case in each round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often the cases take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Where requests go.
struct Case {
    name: &'static str,
    address: SocketAddr,
    key: String,
    paths: Arc<[String]>,
    times: Latencies,
    seconds: f64,
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    let plain = Plain::start().await?;
    let unlimited = crate::process::UNLIMITED;
    let without: Vec<_> = unlimited.iter().copied().chain([("EVERLINE_GATEWAY__CACHE_BYTES", "0")]).collect();
    let model = Server::start_with(&options.server, &dir.join("model"), &without).await?;
    let memory = Server::start_with(&options.server, &dir.join("memory"), unlimited).await?;
    let mut cases = vec![Case::new("bare axum", plain.address, "", vec!["/".to_owned()])];
    for (name, server) in [("read model", &model), ("memory", &memory)] {
        let paths = executions(server, options.executions).await?;
        cases.push(Case::new(name, server.address, &server.key, paths));
    }
    for _ in 0..options.rounds {
        for case in &mut cases {
            case.measure(options).await?;
        }
    }
    let bare = cases[0].rate();
    let rows = cases.iter_mut().map(|case| {
        case.times.sort();
        Row::default()
            .text("GET", case.name)
            .number("requests/s", case.rate(), 0)
            .number("of bare %", 100.0 * case.rate() / bare, 1)
            .latency(["p50 ms", "p99 ms", "max ms"], &case.times)
    });
    Ok(Report {
        scenario: "reads",
        parameters: json!({"connections": options.connections, "executions": options.executions,
            "seconds": options.seconds, "rounds": options.rounds}),
        notes: vec!["read model: a server that keeps nothing in memory (cache_bytes = 0)".to_owned()],
        rows: rows.collect(),
        failures: 0,
    })
}

impl Case {
    fn new(name: &'static str, address: SocketAddr, key: &str, paths: Vec<String>) -> Self {
        let times = Latencies::default();
        Self { name, address, key: key.to_owned(), paths: paths.into(), times, seconds: 0.0 }
    }

    fn rate(&self) -> f64 {
        self.times.count() as f64 / self.seconds
    }

    async fn measure(&mut self, options: &Options) -> Result<()> {
        let (begun, until) = (Instant::now(), Instant::now() + Duration::from_secs(options.seconds));
        let loops = (0..options.connections).map(|number| {
            let (address, key, paths) = (self.address, self.key.clone(), self.paths.clone());
            let work = async move {
                let mut client = Client::connect(address, &key).await?;
                let mut times = Latencies::default();
                let mut next = number;
                while Instant::now() < until {
                    let asked = Instant::now();
                    let answer = client.get(&paths[next % paths.len()], None).await?;
                    if answer.status != 200 {
                        bail!("a read was answered {}: {}", answer.status, answer.text());
                    }
                    times.add(asked.elapsed());
                    next += 1;
                }
                Ok(times)
            };
            async move { tokio::spawn(work).await.context("a connection's task")? }
        });
        for times in try_join_all(loops).await? {
            self.times.merge(times);
        }
        self.seconds += begun.elapsed().as_secs_f64();
        Ok(())
    }
}

/// Runs so many executions of three nodes; their paths.
async fn executions(server: &Server, count: usize) -> Result<Vec<String>> {
    let definition = json!({
        "name": "bench-reads",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "copy", "type": "transform", "config": {"output": {"order": "{{ input.order }}"}}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.copy.output }}"}},
        ],
        "edges": [{"source": "start", "target": "copy"}, {"source": "copy", "target": "end"}],
    });
    let mut client = server.client().await?;
    let created = client.post("/api/v1/workflows", definition.to_string().as_bytes()).await?.expect(201)?;
    let workflow = created["id"].as_str().context("the created workflow has no id")?.to_owned();
    let path = format!("/api/v1/workflows/{workflow}/execute");
    let mut paths = Vec::with_capacity(count);
    for order in 0..count {
        let body = json!({"input": {"order": order}, "wait_ms": 10_000}).to_string();
        let done = client.post(&path, body.as_bytes()).await?.expect(200)?;
        let id = done["execution_id"].as_str().context("the answer names no execution")?;
        paths.push(format!("/api/v1/executions/{id}"));
    }
    Ok(paths)
}
