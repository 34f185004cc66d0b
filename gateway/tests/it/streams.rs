//! The log as lists and as server-sent events.

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

use super::harness::{Harness, echo, text};

/// The events of an SSE answer, as pairs of id and data, until `enough` or the end.
async fn collect(
    answer: reqwest::Response,
    enough: impl Fn(&[(String, Value)]) -> bool,
) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut text = String::new();
    let mut chunks = answer.bytes_stream();
    while !enough(&found) {
        let next = tokio::time::timeout(Duration::from_secs(10), chunks.next()).await.expect("in time");
        let Some(chunk) = next else { break };
        text.push_str(std::str::from_utf8(&chunk.expect("a chunk")).expect("UTF-8"));
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                found.push((id.to_owned(), serde_json::from_str(data).expect("JSON")));
            }
        }
    }
    found
}

#[tokio::test]
async fn the_tenants_log_is_paged_without_gap_or_duplicate() {
    let h = Harness::start().await;
    let workflow = h.create(&echo("paged")).await;
    for number in 0..7 {
        let body = json!({"input": number, "wait_ms": 5_000});
        h.post(&format!("/api/v1/workflows/{workflow}/execute"), &body).await;
    }
    // The audit writes events of its own, whenever it has some.
    let all = h.get_json("/api/v1/events?limit=200&category=execution").await;
    let all: Vec<String> =
        all["items"].as_array().expect("items").iter().map(|e| text(e, "position")).collect();
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = h.get_json(&format!("/api/v1/events?limit=3&category=execution{after}")).await;
        paged.extend(page["items"].as_array().expect("items").iter().map(|e| text(e, "position")));
        after = format!("&after_position={}", text(&page, "resume"));
        if page["next_cursor"].is_null() {
            break;
        }
    }
    assert_eq!(paged, all);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    let last = all.last().expect("an event");
    let rest = h.get_json(&format!("/api/v1/events?after_position={last}&category=workflow")).await;
    assert!(rest["items"].as_array().expect("items").iter().all(|e| e["position"] != last.as_str()));
    let page = h.get("/api/v1/events?limit=1").await;
    assert!(page.headers()["link"].to_str().expect("text").starts_with("</api/v1/events?limit=1&cursor="));
    let none = h.get_json("/api/v1/events?after_position=latest&category=execution").await;
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn an_executions_stream_goes_from_history_to_live_and_ends_with_it() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let answer = h.get(&format!("/api/v1/executions/{id}/stream")).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let reading = tokio::spawn(collect(answer, |_| false));
    for number in 0..20 {
        h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(number)).await;
    }
    h.post(&format!("/api/v1/executions/{id}/cancel"), &json!({})).await;
    let found = reading.await.expect("read");
    let versions: Vec<u64> = found.iter().map(|(id, _)| id.parse().expect("a version")).collect();
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    assert!(versions.len() > 22);
    assert_eq!(found.last().expect("an event").1["type"], "execution.cancelled");

    let resumed =
        h.request(Method::GET, &format!("/api/v1/executions/{id}/stream")).header("last-event-id", "5");
    let resumed = collect(resumed.send().await.expect("an answer"), |_| false).await;
    assert_eq!(resumed, found[5..]);
    let over = h.request(Method::GET, &format!("/api/v1/executions/{id}/stream"));
    let over = over.header("last-event-id", versions.len().to_string()).send().await.expect("an answer");
    assert_eq!(over.status(), 204);
}

#[tokio::test]
async fn the_tenants_stream_resumes_from_any_of_its_tokens() {
    let h = Harness::start().await;
    let workflow = h.create(&echo("feed")).await;
    let answer = h.get("/api/v1/events/stream?category=execution").await;
    let reading = tokio::spawn(collect(answer, |found| found.len() >= 20));
    for number in 0..10 {
        let body = json!({"input": number, "wait_ms": 5_000});
        h.post(&format!("/api/v1/workflows/{workflow}/execute"), &body).await;
    }
    let found = reading.await.expect("read");
    let positions: Vec<_> = found.iter().map(|(_, event)| text(event, "position")).collect();
    assert_eq!(positions.iter().collect::<HashSet<_>>().len(), positions.len());
    for middle in [0, 7, 18] {
        let request = h.request(Method::GET, "/api/v1/events/stream?category=execution");
        let request = request.header("last-event-id", &found[middle].0);
        let wanted = found.len() - middle - 1;
        let rest = collect(request.send().await.expect("an answer"), |rest| rest.len() >= wanted).await;
        let rest: HashSet<_> = rest.iter().map(|(_, event)| text(event, "position")).collect();
        for later in &positions[middle + 1..] {
            assert!(rest.contains(later), "{later} is missing after {middle}");
        }
        for earlier in &positions[..=middle] {
            assert!(!rest.contains(earlier), "{earlier} comes again after {middle}");
        }
    }
}

#[tokio::test]
async fn a_stop_ends_streams_and_fails_readiness() {
    let h = Harness::with(gateway::GatewayConfig { drain_notice_ms: 300, ..Default::default() }).await;
    let id = h.start_waiting().await;
    let answer = h.get(&format!("/api/v1/executions/{id}/stream")).await;
    let reading = tokio::spawn(collect(answer, |_| false));
    h.shutdown.cancel();
    let ready = h.bare(Method::GET, "/readyz").send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.json::<Value>().await.expect("JSON")["status"], "draining");
    reading.await.expect("the stream ends");
    tokio::time::timeout(Duration::from_secs(5), h.running).await.expect("in time").expect("stopped");
}
