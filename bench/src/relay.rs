//! `relay`: how long an event takes from the log to a subscriber on NATS.
//!
//! Executions are started at a steady rate; each is some events. A durable pull consumer of `EVERLINE_EVENTS`, as any
//! subscriber would have, takes two times. *decided*, for each event: from `ce-time`, when its command was decided and not
//! yet durable; the commit and a millisecond of rounding are in it. *answered*, for each execution's last event: from
//! the moment in which its sender had the answer, after the commit; it is 0 for a subscriber that was faster.

use anyhow::{Context, Result, bail};
use async_nats::jetstream::{self, consumer};
use clap::Args;
use futures::StreamExt;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use domain::time::Timestamp;

use crate::ServerOptions;
use crate::process::{Server, own_cpu_seconds};
use crate::report::{Latencies, Report, Row};
use crate::services::Backend;

/// Connections that start executions.
const CLIENTS: u32 = 16;
/// How long the subscriber waits for a further event before it counts what it has.
const SILENCE: Duration = Duration::from_secs(5);
/// What is started: one execution is five events, for start and end are none.
const EVENTS_EACH: u32 = 5;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Events per second.
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Seconds during which executions are started.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    if options.server.backend == Backend::Embedded {
        bail!("without NATS there is no subscriber; add --backend cluster");
    }
    let server = Server::start(&options.server, &dir.join("server")).await?;
    let nats = server.services().context("the server runs on no services")?.nats_url();
    let workflow = create_workflow(&server).await?;
    let messages = subscribe(&nats).await?;
    let (cpu, own_cpu, begun) = (server.cpu_seconds(), own_cpu_seconds(), Instant::now());
    let subscriber = tokio::spawn(receive(messages));
    let (answers, failed) = start_executions(options, &server, &workflow).await?;
    let started = answers.len() as u64;
    let elapsed = begun.elapsed().as_secs_f64();
    let (cpu, own_cpu) = (server.cpu_seconds() - cpu, own_cpu_seconds() - own_cpu);
    let mut seen = subscriber.await??;
    seen.decided.sort();
    let events = seen.decided.count();
    let mut answered = Latencies::default();
    for (execution, at) in &seen.completed {
        if let Some(answer) = answers.get(execution) {
            answered.add(at.saturating_duration_since(*answer));
        }
    }
    answered.sort();
    let missing = (started * u64::from(EVENTS_EACH)).saturating_sub(events as u64);
    let row = Row::default()
        .number("executions/s", started as f64 / elapsed, 0)
        .number("events/s", events as f64 / elapsed, 0)
        .number("events", events as f64, 0)
        .latency(["decided p50 ms", "decided p99 ms", "decided max ms"], &seen.decided)
        .latency(["answered p50 ms", "answered p99 ms", "answered max ms"], &answered)
        .number("missing", missing as f64, 0)
        .number("repeated", seen.repeated as f64, 0)
        .number("server cpu", cpu / elapsed, 2)
        .number("generator cpu", own_cpu / elapsed, 2);
    Ok(Report {
        scenario: "relay",
        parameters: json!({"backend": options.server.backend.name(), "rate": options.rate, "seconds": options.seconds}),
        notes: vec![
            "decided: from ce-time, so the commit and up to 1 ms of rounding are in it; answered: from the sender's answer, after \
             the commit; cpu without Postgres and NATS"
                .to_owned(),
        ],
        rows: vec![row],
        failures: failed + missing,
    })
}

async fn create_workflow(server: &Server) -> Result<String> {
    let definition = json!({"name": "relay", "nodes": [
        {"id": "start", "type": "start"},
        {"id": "a", "type": "transform", "config": {"output": {"order": "{{ input.order }}"}}},
        {"id": "b", "type": "transform", "config": {"output": "{{ nodes.a.output.order }}"}},
        {"id": "c", "type": "transform", "config": {"output": "{{ nodes.b.output }}"}},
        {"id": "end", "type": "end", "config": {"output": "{{ nodes.c.output }}"}},
    ], "edges": [
        {"source": "start", "target": "a"}, {"source": "a", "target": "b"},
        {"source": "b", "target": "c"}, {"source": "c", "target": "end"},
    ]});
    let mut client = server.client().await?;
    let created = client.post("/api/v1/workflows", definition.to_string().as_bytes()).await?.expect(201)?;
    Ok(created["id"].as_str().context("the created workflow has no id")?.to_owned())
}

/// A durable consumer of what is published from now on.
async fn subscribe(url: &str) -> Result<consumer::pull::Stream> {
    let client = async_nats::connect(url).await.context("the subscriber cannot connect")?;
    let stream = jetstream::new(client).get_stream("EVERLINE_EVENTS").await?;
    let config = consumer::pull::Config {
        durable_name: Some("bench".to_owned()),
        deliver_policy: consumer::DeliverPolicy::New,
        ack_policy: consumer::AckPolicy::None,
        filter_subject: "everline.evt.*.default.execution.>".to_owned(),
        ..Default::default()
    };
    Ok(stream.create_consumer(config).await?.messages().await?)
}

/// What the subscriber saw.
#[derive(Default)]
struct Seen {
    decided: Latencies,
    /// By execution: when its last event came.
    completed: HashMap<String, Instant>,
    repeated: u64,
}

async fn receive(mut messages: consumer::pull::Stream) -> Result<Seen> {
    let (mut seen, mut ids) = (Seen::default(), HashSet::new());
    // Silence counts from the first event on.
    let mut patience = Duration::from_secs(60);
    while let Ok(Some(message)) = tokio::time::timeout(patience, messages.next()).await {
        patience = SILENCE;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let message = message?;
        let header = |name: &str| -> Result<String> {
            let headers = message.headers.as_ref().context("an event has no headers")?;
            Ok(headers.get(name).with_context(|| format!("an event has no {name}"))?.as_str().to_owned())
        };
        if !ids.insert(header("ce-id")?) {
            seen.repeated += 1;
            continue;
        }
        if header("ce-type")? == "execution.completed" {
            seen.completed.insert(header("ce-subject")?, Instant::now());
        }
        let decided: Timestamp = serde_json::from_value(header("ce-time")?.into())?;
        seen.decided.add(Duration::from_millis((now - decided.unix_ms()).max(0) as u64));
    }
    Ok(seen)
}

/// By execution: when its start was answered.
type Answers = HashMap<String, Instant>;

/// Starts executions at the rate. When each was answered, and how many were refused.
async fn start_executions(options: &Options, server: &Server, workflow: &str) -> Result<(Answers, u64)> {
    let each_second = f64::from(options.rate) / f64::from(EVENTS_EACH) / f64::from(CLIENTS);
    let count = (each_second * f64::from(options.seconds)) as u64;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = server.client().await?;
        let path = format!("/api/v1/workflows/{workflow}/execute");
        clients.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / each_second));
            // What was late is made good, so that the rate holds.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut answers, mut failed) = (Answers::new(), 0);
            for number in 0..count {
                ticks.tick().await;
                let body = format!(r#"{{"input":{{"order":{number}}}}}"#);
                let answer = client.post(&path, body.as_bytes()).await?;
                let at = Instant::now();
                match answer.status {
                    202 => {
                        let id = answer.json()?["execution_id"].as_str().map(str::to_owned);
                        answers.insert(id.context("an answer names no execution")?, at);
                    }
                    _ => failed += 1,
                }
            }
            anyhow::Ok((answers, failed))
        });
    }
    let (mut answers, mut failed) = (Answers::new(), 0);
    while let Some(client) = clients.join_next().await {
        let (answered, refused) = client??;
        answers.extend(answered);
        failed += refused;
    }
    Ok((answers, failed))
}
