//! `sockets`: what idle WebSocket clients cost the server in memory.
//!
//! Every client is authenticated and follows an execution in which nothing happens, and answers the server's signs of
//! life. Memory is taken after so many seconds, so that every connection has had some of them.

use anyhow::{Context, Result};
use clap::Args;
use futures::StreamExt;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

use crate::ServerOptions;
use crate::live::{start_execution, subscribe};
use crate::process::{Server, UNLIMITED};
use crate::report::{Report, Row};

/// Clients that connect at once.
const AT_ONCE: usize = 50;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Idle clients.
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
    /// Seconds to be idle: longer than two of the server's heartbeats.
    #[arg(long, default_value_t = 45)]
    seconds: u64,
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    let server = Server::start_with(&options.server, &dir.join("server"), UNLIMITED).await?;
    let execution = start_execution(&server).await?;
    let before = server.resident_mib();
    let begun = Instant::now();
    let connected = futures::stream::iter(0..options.clients)
        .map(|_| subscribe(&server, &execution, 0))
        .buffer_unordered(AT_ONCE);
    let connected: Vec<_> = connected.collect().await;
    let took = begun.elapsed();
    let mut clients = JoinSet::new();
    for socket in connected {
        let mut socket = socket.context("a client was not taken")?;
        // Reading is what answers a sign of life.
        clients.spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
    }
    let cpu = server.cpu_seconds();
    let idle = tokio::time::timeout(Duration::from_secs(options.seconds), clients.join_next()).await;
    let failures = u64::from(idle.is_ok());
    let after = server.resident_mib();
    let row = Row::default()
        .number("clients", options.clients as f64, 0)
        .number("before MiB", before, 0)
        .number("with them MiB", after, 0)
        .number("at most MiB", server.peak_mib(), 0)
        .number("KiB each", (after - before) * 1024.0 / options.clients as f64, 1)
        .number("connected in s", took.as_secs_f64(), 1)
        .number("idle server cpu", (server.cpu_seconds() - cpu) / options.seconds as f64, 2);
    Ok(Report {
        scenario: "sockets",
        parameters: json!({"clients": options.clients, "seconds": options.seconds}),
        notes: vec!["resident memory of the whole server, `everline dev`".to_owned()],
        rows: vec![row],
        failures,
    })
}
