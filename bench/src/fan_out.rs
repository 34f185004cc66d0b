//! `fan-out`: one event to very many subscribers of one execution, without and with a client that reads nothing.
//!
//! The dead client has many subscriptions to the same execution and a small buffer, so that what the server has for it
//! is soon more than the network takes; the server cuts it off with 4008 in the middle of the run.

use anyhow::{Context, Result};
use clap::Args;
use futures::{SinkExt, StreamExt};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::ServerOptions;
use crate::live::{handshake, receive, send_signals, start_execution, subscribe};
use crate::process::{Server, UNLIMITED};
use crate::report::{Latencies, Report, Row};

/// Clients that connect at once.
const AT_ONCE: usize = 50;
/// Subscriptions of the client that reads nothing.
const DEAD_SUBSCRIPTIONS: usize = 100;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// WebSocket clients that follow the execution.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Events per second.
    #[arg(long, default_value_t = 5)]
    rate: u32,
    /// Seconds of each case in each round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// How often the cases take turns.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Bytes that each event carries.
    #[arg(long, default_value_t = 200)]
    bytes: usize,
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    let server = Server::start_with(&options.server, &dir.join("server"), UNLIMITED).await?;
    let mut cases = [Case::default(), Case::default()];
    for _ in 0..options.rounds {
        for (dead, case) in [false, true].into_iter().zip(&mut cases) {
            case.measure(&server, options, dead).await?;
        }
    }
    let [alive, dead] = &mut cases;
    let rows = [("none", alive), ("one", dead)].map(|(name, case)| {
        case.times.sort();
        Row::default()
            .text("dead clients", name)
            .number("subscribers", options.subscribers as f64, 0)
            .number("deliveries", case.times.count() as f64, 0)
            .latency(["answered p50 ms", "answered p99 ms", "answered max ms"], &case.times)
            .number("failed", case.failures as f64, 0)
    });
    let failures = cases.iter().map(|case| case.failures).sum();
    let p99 = cases.each_ref().map(|case| case.times.percentile_ms(0.99));
    Ok(Report {
        scenario: "fan-out",
        parameters: json!({"subscribers": options.subscribers, "rate": options.rate, "seconds": options.seconds,
            "rounds": options.rounds, "bytes": options.bytes}),
        notes: vec![format!(
            "answered: from the sender's answer, after the commit, to each subscriber; p99 with a dead client is {:+.0} %",
            100.0 * (p99[1] / p99[0] - 1.0)
        )],
        rows: rows.into(),
        failures,
    })
}

#[derive(Default)]
struct Case {
    times: Latencies,
    failures: u64,
}

impl Case {
    async fn measure(&mut self, server: &Server, options: &Options, dead: bool) -> Result<()> {
        let execution = start_execution(server).await?;
        let signals = u64::from(options.rate) * u64::from(options.seconds);
        let connected = futures::stream::iter(0..options.subscribers)
            .map(|_| subscribe(server, &execution, 0))
            .buffer_unordered(AT_ONCE);
        let connected: Vec<_> = connected.collect().await;
        let mut subscribers = JoinSet::new();
        for socket in connected {
            subscribers.spawn(receive(socket?, signals));
        }
        // Kept to the end, and never read.
        let silent = if dead { Some(subscribe_and_go_silent(server, &execution).await?) } else { None };
        let load = "x".repeat(options.bytes);
        let answered = send_signals(server, &execution, signals, options.rate, &load).await?;
        while let Some(received) = subscribers.join_next().await {
            let received = received??;
            self.failures += received.disorder + answered.len().saturating_sub(received.deliveries.len()) as u64;
            for delivery in &received.deliveries {
                if let Some(answer) = answered.get(delivery.number as usize) {
                    self.times.add(delivery.at.saturating_duration_since(*answer));
                }
            }
        }
        drop(silent);
        // The next case begins when the connections of this one are gone.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }
}

/// A client with many subscriptions that will read nothing.
async fn subscribe_and_go_silent(server: &Server, execution: &str) -> Result<WebSocketStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4 * 1024)?;
    let stream = socket.connect(server.address).await?;
    let (mut socket, _) =
        tokio_tungstenite::client_async(handshake(server)?, stream).await.context("no WebSocket was opened")?;
    for number in 0..DEAD_SUBSCRIPTIONS {
        let subscribe = json!({"type": "subscribe", "id": format!("s{number}"), "channel": "execution",
            "execution_id": execution, "after_version": 0});
        socket.send(Message::text(subscribe.to_string())).await?;
    }
    Ok(socket)
}
