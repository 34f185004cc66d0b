//! `live`: how long an event takes from the log to WebSocket clients.
//!
//! One execution waits in a `delay`; each signal sent to it is one event, which every subscriber gets. Two times
//! are taken for each delivery. *decided*: from `recorded_at`, when the command was decided and not yet durable;
//! it holds the commit and up to a millisecond of rounding, so it is never too small. *answered*: from the
//! moment in which the sender had the answer, after the commit; it is 0 for a client that was faster.

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use domain::time::Timestamp;

use crate::ServerOptions;
use crate::process::{Server, own_cpu_seconds};
use crate::report::{Latencies, Report, Row};

/// How long a subscriber waits for the next message before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// WebSocket clients that follow the execution.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Signals per second.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Seconds during which signals are sent.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the server sends, as far as it matters here.
#[derive(Deserialize)]
struct Incoming {
    #[serde(rename = "type")]
    kind: String,
    event: Option<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    version: u64,
    recorded_at: String,
    data: Value,
}

/// One event at one subscriber.
pub(crate) struct Delivery {
    pub(crate) number: u64,
    pub(crate) at: Instant,
    since_decided: Duration,
}

/// What one subscriber got.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) deliveries: Vec<Delivery>,
    /// Events that came twice, out of order or after a gap.
    pub(crate) disorder: u64,
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    if options.rate == 0 || options.subscribers == 0 {
        bail!("at least one subscriber and one signal per second are needed");
    }
    let server = Server::start(&options.server, &dir.join("server")).await?;
    let execution = start_execution(&server).await?;
    let signals = u64::from(options.rate) * u64::from(options.seconds);
    let mut subscribers = JoinSet::new();
    for _ in 0..options.subscribers {
        let socket = subscribe(&server, &execution, 0).await?;
        subscribers.spawn(receive(socket, signals));
    }
    let (server_cpu, own_cpu, start) = (server.cpu_seconds(), own_cpu_seconds(), Instant::now());
    let answered = send_signals(&server, &execution, signals, options.rate, "").await?;
    let mut received = Vec::with_capacity(options.subscribers);
    while let Some(one) = subscribers.join_next().await {
        received.push(one??);
    }
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = ((server.cpu_seconds() - server_cpu) / elapsed, (own_cpu_seconds() - own_cpu) / elapsed);
    Ok(report(options, &answered, &received, cpu))
}

fn report(options: &Options, answered: &[Instant], received: &[Received], cpu: (f64, f64)) -> Report {
    let (mut since_decided, mut since_answered) = (Latencies::default(), Latencies::default());
    let mut failures = 0;
    for one in received {
        failures += one.disorder + answered.len().saturating_sub(one.deliveries.len()) as u64;
        for delivery in &one.deliveries {
            since_decided.add(delivery.since_decided);
            if let Some(answer) = answered.get(delivery.number as usize) {
                since_answered.add(delivery.at.saturating_duration_since(*answer));
            }
        }
    }
    since_decided.sort();
    since_answered.sort();
    let row = Row::default()
        .number("subscribers", options.subscribers as f64, 0)
        .number("signals/s", f64::from(options.rate), 0)
        .number("deliveries", since_decided.count() as f64, 0)
        .latency(["decided p50 ms", "decided p99 ms", "decided max ms"], &since_decided)
        .latency(["answered p50 ms", "answered p99 ms", "answered max ms"], &since_answered)
        .number("failed", failures as f64, 0)
        .number("server cpu", cpu.0, 2)
        .number("generator cpu", cpu.1, 2);
    Report {
        scenario: "live",
        parameters: json!({"subscribers": options.subscribers, "rate": options.rate, "seconds": options.seconds}),
        notes: vec![
            "decided: from recorded_at, so the commit and up to 1 ms of rounding are in it; answered: from the \
             sender's answer, after the commit; failed: events that a subscriber missed, or got twice or out of order"
                .to_owned(),
        ],
        rows: vec![row],
        failures,
    }
}

/// An execution that waits for longer than the run.
pub(crate) async fn start_execution(server: &Server) -> Result<String> {
    let definition = json!({
        "name": format!("bench-live-{}", uuid::Uuid::now_v7()),
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "wait", "type": "delay", "config": {"duration_ms": 86_400_000}},
            {"id": "end", "type": "end"},
        ],
        "edges": [{"source": "start", "target": "wait"}, {"source": "wait", "target": "end"}],
    });
    let mut client = server.client().await?;
    let created = client.post("/api/v1/workflows", definition.to_string().as_bytes()).await?.expect(201)?;
    let workflow = created["id"].as_str().context("the created workflow has no id")?;
    let path = format!("/api/v1/workflows/{workflow}/execute");
    let started = client.post(&path, br#"{"input":{}}"#).await?.expect(202)?;
    started["execution_id"].as_str().map(str::to_owned).context("the answer names no execution")
}

/// Sends signals at an even pace, each with a text to carry. Gives when each was answered.
pub(crate) async fn send_signals(
    server: &Server,
    execution: &str,
    signals: u64,
    rate: u32,
    load: &str,
) -> Result<Vec<Instant>> {
    let mut client = server.client().await?;
    let path = format!("/api/v1/executions/{execution}/signals/tick");
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut answered = Vec::new();
    for number in 0..signals {
        pace.tick().await;
        let answer = client.post(&path, json!({"number": number, "load": load}).to_string().as_bytes()).await?;
        let at = Instant::now();
        answer.expect(202)?;
        answered.push(at);
    }
    Ok(answered)
}

/// A request for a WebSocket.
pub(crate) fn handshake(server: &Server) -> Result<Request> {
    let mut request = format!("ws://{}/api/v1/ws", server.address).into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", server.key).parse()?);
    Ok(request)
}

/// Connects, subscribes after a version, and reads on until everything so far has come.
pub(crate) async fn subscribe(server: &Server, execution: &str, after: u64) -> Result<Socket> {
    let request = handshake(server)?;
    // A client of its own reads into small buffers; a thousand of them share this process.
    let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
    let (mut socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(config), true)
        .await
        .context("no WebSocket was opened")?;
    let subscribe = json!({"type": "subscribe", "id": "s1", "channel": "execution",
        "execution_id": execution, "after_version": after});
    socket.send(Message::text(subscribe.to_string())).await?;
    loop {
        let incoming = next(&mut socket).await?;
        match incoming.kind.as_str() {
            "caught_up" => return Ok(socket),
            "error" => bail!("the server refused the subscription"),
            _ => {}
        }
    }
}

/// Takes in signals until the last.
pub(crate) async fn receive(mut socket: Socket, signals: u64) -> Result<Received> {
    let mut received = Received::default();
    let mut last_version = None;
    while (received.deliveries.len() as u64) < signals {
        let incoming = next(&mut socket).await?;
        let (at, now) = (Instant::now(), SystemTime::now());
        let Some(event) = incoming.event else { continue };
        if last_version.is_some_and(|last| event.version != last + 1) {
            received.disorder += 1;
        }
        last_version = Some(event.version);
        if event.kind != "execution.signal.received" {
            continue;
        }
        let number = event.data["payload"]["number"].as_u64().context("a signal has lost its number")?;
        let decided: Timestamp = event.recorded_at.parse().context("an event has no readable time")?;
        let decided =
            UNIX_EPOCH + Duration::from_millis(u64::try_from(decided.unix_ms()).unwrap_or_default());
        // The clocks are one, so a negative time is only rounding.
        let since_decided = now.duration_since(decided).unwrap_or_default();
        received.deliveries.push(Delivery { number, at, since_decided });
    }
    Ok(received)
}

async fn next(socket: &mut Socket) -> Result<Incoming> {
    loop {
        let message =
            tokio::time::timeout(PATIENCE, socket.next()).await.context("the server has gone quiet")?;
        match message.context("the server closed the WebSocket")?? {
            Message::Text(text) => return serde_json::from_str(&text).context("a message is not understood"),
            Message::Close(frame) => bail!("the server closed the WebSocket: {frame:?}"),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}
