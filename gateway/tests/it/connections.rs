//! What connections cost others, and how they end.

use futures::{SinkExt, StreamExt};
use gateway::GatewayConfig;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;

use super::harness::{EMAIL, Harness, PASSWORD, text};
use super::websocket::Socket;

/// Answers of the log that all come soon, while others are connected.
async fn answers_come_soon(h: &Harness, for_long: Duration) {
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < for_long {
        let asked = Instant::now();
        h.get_json("/api/v1/events?limit=1").await;
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "an answer took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_subscriptions_keep_nobody_from_the_log() {
    let h = Harness::with(GatewayConfig { idle_reread_ms: 200, ..Default::default() }).await;
    let execution = h.start_waiting().await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = h.connect(Some(&h.key)).await;
        for number in 0..100 {
            let id = format!("s{number}");
            socket
                .send(match number % 2 {
                    0 => json!({"type": "subscribe", "id": id, "channel": "events", "after_position": "latest"}),
                    _ => json!({"type": "subscribe", "id": id, "channel": "execution", "execution_id": execution}),
                })
                .await;
        }
        sockets.push(socket);
    }
    answers_come_soon(&h, Duration::from_secs(3)).await;
    for socket in &mut sockets {
        let mut caught_up = 0;
        while caught_up < 100 {
            caught_up += usize::from(socket.next().await.expect("a message")["type"] == "caught_up");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_keep_nobody_from_the_log() {
    let h = Harness::with(GatewayConfig { idle_reread_ms: 100, ..Default::default() }).await;
    let execution = h.start_waiting().await;
    for _ in 0..60 {
        let payload = "x".repeat(60_000);
        h.post(&format!("/api/v1/executions/{execution}/signals/s"), &json!(payload)).await;
    }
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(h.get("/api/v1/events/stream").await);
    }
    answers_come_soon(&h, Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_stream_ends_with_the_session_that_it_was_opened_in() {
    let h = Harness::with(GatewayConfig { heartbeat_ms: 100, ..Default::default() }).await;
    let login =
        h.bare(Method::POST, "/api/v1/auth/login").json(&json!({"email": EMAIL, "password": PASSWORD}));
    let session = login.send().await.expect("an answer").json().await.expect("JSON");
    let token = text(&session, "access_token");
    let stream = h.bare(Method::GET, "/api/v1/events/stream").bearer_auth(&token);
    let mut chunks = stream.send().await.expect("an answer").bytes_stream();
    // It lives over some heartbeats.
    let alive = async { while chunks.next().await.expect("alive").is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_millis(500), alive).await.is_err());
    let logout = h.bare(Method::POST, "/api/v1/auth/logout").bearer_auth(&token);
    assert_eq!(logout.send().await.expect("an answer").status(), 204);
    let end = async { while chunks.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(5), end).await.expect("the stream ends");
}

#[tokio::test]
async fn a_position_beyond_the_log_is_refused_wherever_it_is_given() {
    let h = Harness::start().await;
    h.start_waiting().await;
    for position in ["0:18446744073709551615", "3:999999"] {
        for path in ["events", "events/stream"] {
            let answer = h.get(&format!("/api/v1/{path}?after_position={position}")).await;
            assert_eq!(answer.status(), 400);
            let problem: serde_json::Value = answer.json().await.expect("JSON");
            assert_eq!(problem["code"], "invalid_position");
        }
        let mut socket = h.connect(Some(&h.key)).await;
        socket
            .send(json!({"type": "subscribe", "id": "e", "channel": "events", "after_position": position}))
            .await;
        assert_eq!(socket.next().await.expect("a message")["code"], "invalid_position");
    }
}

#[tokio::test]
async fn the_end_of_a_subscription_is_told_and_what_makes_no_sense_is_answered() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let mut socket = h.connect(Some(&h.key)).await;
    socket.send(json!({"type": "auth", "token": h.key})).await;
    assert_eq!(socket.next().await.expect("a message")["code"], "bad_request");
    socket.send(json!({"type": "subscribe", "id": "s", "channel": "execution", "execution_id": id})).await;
    while socket.next().await.expect("a message")["type"] != "caught_up" {}
    h.post(&format!("/api/v1/executions/{id}/cancel"), &json!({})).await;
    while socket.next().await.expect("a message")["event"]["type"] != "execution.cancelled" {}
    assert_eq!(socket.next().await, Ok(json!({"type": "ended", "subscription": "s"})));
    socket.send(json!({"type": "unsubscribe", "id": "s"})).await;
    let error = socket.next().await.expect("a message");
    assert_eq!((&error["id"], &error["code"]), (&json!("s"), &json!("not_found")));
}

/// What comes last, whatever comes before it.
async fn last(socket: &mut Socket) -> Option<Message> {
    let mut last = None;
    let read = async {
        while let Some(Ok(message)) = socket.0.next().await {
            last = Some(message);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("the connection ends");
    last
}

#[tokio::test]
async fn a_close_is_answered_with_a_close() {
    let h = Harness::start().await;
    for key in [None, Some(h.key.as_str())] {
        let mut socket = h.connect(key).await;
        socket.0.send(Message::Close(None)).await.expect("sent");
        assert!(matches!(last(&mut socket).await, Some(Message::Close(_))));
    }
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_with_the_code_for_it() {
    let h = Harness::with(GatewayConfig { max_body_bytes: 64 * 1024, ..Default::default() }).await;
    // Frames with a mask of zeros: an unknown opcode, and a text that is not UTF-8.
    for (frame, code) in [(&[0x83, 0x80, 0, 0, 0, 0][..], 1002), (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007)] {
        let mut socket = h.connect(Some(&h.key)).await;
        let MaybeTlsStream::Plain(stream) = socket.0.get_mut() else { panic!("no TLS here") };
        stream.write_all(frame).await.expect("sent");
        assert_eq!(socket.next().await, Err(code));
    }
    let mut socket = h.connect(Some(&h.key)).await;
    socket.send(json!({"type": "ping", "id": "x".repeat(70_000)})).await;
    assert_eq!(socket.next().await, Err(1009));
    // Of somebody unknown far less is read.
    let mut unknown = h.connect(None).await;
    unknown.send(json!({"type": "auth", "token": "x".repeat(9_000)})).await;
    assert_eq!(unknown.next().await, Err(1009));
}
