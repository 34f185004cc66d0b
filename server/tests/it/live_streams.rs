//! SSE and WebSocket: every event once and in order, whatever the connection does.

use futures::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{Client, Server, ticking, types, version, within};

const TICKS: usize = 60;

/// Opens the stream of an execution, reads at most `most` events, and hangs up. `None`: the stream is over.
async fn read_some(client: &Client, execution: &str, after: u64, most: usize) -> Option<Vec<Value>> {
    let mut request = client.request(Method::GET, &format!("/executions/{execution}/stream"));
    if after > 0 {
        request = request.header("last-event-id", after.to_string());
    }
    let response = request.send().await.unwrap();
    if response.status() == StatusCode::NO_CONTENT {
        return None;
    }
    assert_eq!(response.status(), StatusCode::OK);
    let mut bytes = response.bytes_stream();
    let (mut text, mut events) = (String::new(), Vec::new());
    while let Some(chunk) = within("the next event", bytes.next()).await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        while let Some((message, rest)) = text.split_once("\n\n") {
            let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let Some(data) = field("data:") {
                let event: Value = serde_json::from_str(data).unwrap();
                assert_eq!(field("id:"), Some(version(&event).to_string().as_str()));
                events.push(event);
            }
            text = rest.to_owned();
            if events.len() == most {
                return Some(events);
            }
        }
    }
    Some(events)
}

fn assert_whole(events: &[Value]) {
    let versions: Vec<_> = events.iter().map(version).collect();
    assert_eq!(versions, (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!(types(events).last(), Some(&"execution.completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sse_client_that_hangs_up_again_and_again_misses_nothing() {
    let server = Server::temporary().await;
    let workflow = server.client.create(&ticking(TICKS)).await;
    let execution = server.client.start(&workflow, json!({})).await;
    let mut events = Vec::new();
    while let Some(some) = read_some(&server.client, &execution, events.last().map_or(0, version), 3).await {
        events.extend(some);
    }
    assert_whole(&events);
    assert_eq!(events, server.client.events(&execution).await);
    server.stop().await;
}

/// Subscribes to an execution after a version, reads at most `most` events, and hangs up without a word.
async fn subscribe_for(client: &Client, execution: &str, after: u64, most: usize) -> Vec<Value> {
    let url = format!("{}/api/v1/ws", client.url.replace("http://", "ws://"));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", client.key).parse().unwrap());
    let (mut socket, _) = within("the connection", tokio_tungstenite::connect_async(request)).await.unwrap();
    let subscribe = json!({
        "type": "subscribe", "id": "s1", "channel": "execution", "execution_id": execution, "after_version": after,
    });
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    let mut events = Vec::new();
    while events.len() < most {
        let message = within("the next message", socket.next()).await.expect("an open socket").unwrap();
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "event" => {
                assert_eq!(message["subscription"], "s1", "{message}");
                events.push(message["event"].clone());
            }
            "error" => panic!("{message}"),
            _ => {}
        }
        if events.last().is_some_and(|event| event["type"] == "execution.completed") {
            break;
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_client_that_resumes_a_hundred_times_sees_every_event_once_and_in_order() {
    let server = Server::temporary().await;
    // Each tick is four events; one event per connection makes more than a hundred connections.
    let workflow = server.client.create(&ticking(30)).await;
    let execution = server.client.start(&workflow, json!({})).await;
    let mut events: Vec<Value> = Vec::new();
    let mut connections = 0;
    while events.last().is_none_or(|event| event["type"] != "execution.completed") {
        let after = events.last().map_or(0, version);
        events.extend(subscribe_for(&server.client, &execution, after, 1).await);
        connections += 1;
    }
    assert!(connections > 100, "{connections} connections");
    assert_whole(&events);
    assert_eq!(events, server.client.events(&execution).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_does_not_hold_the_shutdown() {
    let server = Server::temporary().await;
    let workflow = server
        .client
        .create(&json!({
            "name": "patient",
            "nodes": [
                {"id": "start", "type": "start"},
                {"id": "rest", "type": "delay", "config": {"duration_ms": 3_600_000}},
                {"id": "end", "type": "end"},
            ],
            "edges": [{"source": "start", "target": "rest"}, {"source": "rest", "target": "end"}],
        }))
        .await;
    let execution = server.client.start(&workflow, json!({})).await;
    let path = format!("/executions/{execution}/stream");
    let response = server.client.request(Method::GET, &path).send().await.unwrap();
    let reader = tokio::spawn(async move { response.bytes().await });
    server.stop().await;
    let _ = within("the end of the stream", reader).await.unwrap();
}
