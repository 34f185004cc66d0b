//! The WebSocket: authentication, hand-over, resumption, slow clients, commands.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::harness::{Harness, text};

pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Harness {
    pub(crate) async fn connect(&self, key: Option<&str>) -> Socket {
        let mut request =
            format!("ws://{}/api/v1/ws", self.address).into_client_request().expect("a request");
        if let Some(key) = key {
            request.headers_mut().insert("authorization", format!("Bearer {key}").parse().expect("a header"));
        }
        Socket(connect_async(request).await.expect("connected").0)
    }
}

impl Socket {
    pub(crate) async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// The next message, or the code of the close.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(40), self.0.next()).await.expect("in time");
            match next {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }
}

#[tokio::test]
async fn a_token_comes_in_the_header_or_first_or_the_connection_ends() {
    let h = Harness::with(gateway::GatewayConfig { websocket_auth_ms: 200, ..Default::default() }).await;
    let mut socket = h.connect(Some(&h.key)).await;
    socket.send(json!({"type": "ping"})).await;
    assert_eq!(socket.next().await, Ok(json!({"type": "pong"})));

    let mut socket = h.connect(None).await;
    socket.send(json!({"type": "auth", "token": h.key})).await;
    socket.send(json!({"type": "ping", "id": 7})).await;
    assert_eq!(socket.next().await, Ok(json!({"type": "pong", "id": 7})));

    let mut silent = h.connect(None).await;
    assert_eq!(silent.next().await, Err(4401));
    let mut wrong = h.connect(None).await;
    wrong.send(json!({"type": "auth", "token": "evl_wrong"})).await;
    assert_eq!(wrong.next().await, Err(4401));
    let mut early = h.connect(None).await;
    early.send(json!({"type": "ping"})).await;
    assert_eq!(early.next().await, Err(4401));
}

#[tokio::test]
async fn a_client_that_resumes_a_hundred_times_sees_every_event_once_in_order() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let signals = async {
        for number in 0..150 {
            h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(number)).await;
        }
        h.post(&format!("/api/v1/executions/{id}/cancel"), &json!({})).await;
    };
    let read = async {
        let mut versions: Vec<u64> = Vec::new();
        for round in 0..=100 {
            let mut socket = h.connect(Some(&h.key)).await;
            let after = versions.last().copied().unwrap_or(0);
            socket
                .send(json!({"type": "subscribe", "id": "s", "channel": "execution", "execution_id": id, "after_version": after}))
                .await;
            let mut taken = 0;
            while round == 100 || taken < 1 {
                let message = socket.next().await.expect("a message");
                if message["type"] != "event" {
                    continue;
                }
                assert_eq!(message["resume"], message["event"]["version"]);
                versions.push(message["resume"].as_u64().expect("a version"));
                taken += 1;
                if message["event"]["type"] == "execution.cancelled" {
                    return versions;
                }
            }
        }
        versions
    };
    let ((), versions) = tokio::join!(signals, read);
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    assert!(versions.len() > 150);
}

#[tokio::test]
async fn the_events_channel_tells_history_then_live_and_resumes() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let mut socket = h.connect(Some(&h.key)).await;
    socket.send(json!({"type": "subscribe", "id": "e", "channel": "events", "category": "execution"})).await;
    let mut seen = Vec::new();
    loop {
        let message = socket.next().await.expect("a message");
        if message["type"] == "caught_up" {
            break;
        }
        seen.push(message);
    }
    assert_eq!(seen[0]["event"]["type"], "execution.started");
    h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(1)).await;
    let live = socket.next().await.expect("a message");
    assert_eq!(live["event"]["type"], "execution.signal.received");
    let mut other = h.connect(Some(&h.key)).await;
    let resume = &seen.last().expect("an event")["resume"];
    other.send(json!({"type": "subscribe", "id": "e", "channel": "events", "category": "execution", "after_position": resume})).await;
    assert_eq!(other.next().await.expect("a message")["event"], live["event"]);
}

#[tokio::test]
async fn mistakes_are_answered_and_the_connection_lives() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let mut socket = h.connect(Some(&h.key)).await;
    for (message, code) in [
        (
            json!({"type": "subscribe", "id": "a", "channel": "execution", "execution_id": "0190b2c4-7d5e-7abc-8def-0123456789ab"}),
            "execution_not_found",
        ),
        (json!({"type": "subscribe", "id": "a", "channel": "agent_tokens"}), "invalid_body"),
        (
            json!({"type": "subscribe", "id": "a", "channel": "events", "after_position": "x"}),
            "invalid_position",
        ),
        (json!({"type": "dance"}), "invalid_body"),
        (json!([]), "invalid_body"),
    ] {
        socket.send(message).await;
        let error = socket.next().await.expect("a message");
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
    }
    socket.send(json!({"type": "subscribe", "id": "a", "channel": "execution", "execution_id": id})).await;
    while socket.next().await.expect("a message")["type"] != "caught_up" {}
    socket.send(json!({"type": "subscribe", "id": "a", "channel": "events"})).await;
    assert_eq!(socket.next().await.expect("a message")["code"], "subscription_exists");
    socket.send(json!({"type": "unsubscribe", "id": "a"})).await;
    socket
        .send(json!({"type": "command", "id": "c", "name": "cancel", "execution_id": id, "reason": "done"}))
        .await;
    let result = socket.next().await.expect("a message");
    assert_eq!(
        (&result["type"], &result["id"], &result["status"]),
        (&json!("result"), &json!("c"), &json!("cancelled"))
    );
    socket
        .send(json!({"type": "command", "id": "d", "name": "signal", "execution_id": id, "signal": "x"}))
        .await;
    let error = socket.next().await.expect("a message");
    assert_eq!((&error["id"], &error["code"]), (&json!("d"), &json!("execution_finished")));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_others_are_not_slowed() {
    let config = gateway::GatewayConfig {
        websocket_buffer_bytes: 64 * 1024,
        slow_client_ms: 300,
        ..Default::default()
    };
    let h = Harness::with(config).await;
    let id = h.start_waiting().await;
    let subscribe = json!({"type": "subscribe", "id": "s", "channel": "execution", "execution_id": id});
    let mut slow = h.connect(Some(&h.key)).await;
    slow.send(subscribe.clone()).await;
    let mut quick = h.connect(Some(&h.key)).await;
    quick.send(subscribe).await;
    let payload = "x".repeat(60_000);
    let signals = async {
        for _ in 0..200 {
            h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(payload)).await;
        }
    };
    let read = async {
        let mut seen = 0;
        while seen < 200 {
            seen += usize::from(
                quick.next().await.expect("a message")["event"]["type"] == "execution.signal.received",
            );
        }
    };
    tokio::join!(signals, read);
    let metrics = || async { h.get("/metrics").await.text().await.expect("text") };
    let cut_off = async { while !metrics().await.contains("everline_websocket_slow_clients_total 1") {} };
    tokio::time::timeout(Duration::from_secs(20), cut_off).await.expect("cut off in time");
    let end = loop {
        if let Err(code) = slow.next().await {
            break code;
        }
    };
    assert_eq!(end, 4008);
}

#[tokio::test]
async fn a_stop_closes_connections_with_1001() {
    let h = Harness::start().await;
    let mut socket = h.connect(Some(&h.key)).await;
    socket.send(json!({"type": "ping"})).await;
    socket.next().await.expect("a pong");
    h.shutdown.cancel();
    assert_eq!(socket.next().await, Err(1001));
    tokio::time::timeout(Duration::from_secs(5), h.running).await.expect("in time").expect("stopped");
}

#[tokio::test]
async fn a_hundred_subscribers_hear_of_a_commit_soon() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        let mut socket = h.connect(Some(&h.key)).await;
        socket
            .send(json!({"type": "subscribe", "id": "s", "channel": "execution", "execution_id": id}))
            .await;
        while socket.next().await.expect("a message")["type"] != "caught_up" {}
        sockets.push(socket);
    }
    h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(1)).await;
    let heard = futures::future::join_all(sockets.iter_mut().map(Socket::next)).await;
    let heard: Vec<_> =
        heard.into_iter().map(|message| text(&message.expect("a message")["event"], "type")).collect();
    assert!(heard.iter().all(|name| name == "execution.signal.received"));
}
