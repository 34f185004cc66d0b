//! The memory level of the cache: two gateways on one log, and a feed that loses messages.

use async_trait::async_trait;
use bus::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
use gateway::GatewayConfig;
use read_models::MAIN_PROJECTION;
use reqwest::Response;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::harness::{Harness, text, waiting};
use super::reads::create;

/// A feed that loses every third batch of events without a word.
struct Lossy(Arc<dyn CommitFeed>);

impl CommitFeed for Lossy {
    fn publish(&self, batch: CommittedBatch) {
        self.0.publish(batch);
    }

    fn subscribe(&self) -> Box<dyn FeedSubscription> {
        Box::new(LossySubscription { inner: self.0.subscribe(), count: 0 })
    }
}

struct LossySubscription {
    inner: Box<dyn FeedSubscription>,
    count: u32,
}

#[async_trait]
impl FeedSubscription for LossySubscription {
    async fn next(&mut self) -> Option<FeedMessage> {
        loop {
            let message = self.inner.next().await?;
            if matches!(&message, FeedMessage::Batch(batch) if !batch.events.is_empty()) {
                self.count += 1;
                if self.count.is_multiple_of(3) {
                    continue;
                }
            }
            return Some(message);
        }
    }
}

/// What a projection and the owners of partitions do: checkpoints up to the heads, and signs of life.
async fn settle(h: &Harness) {
    let heads = h.ports.log.heads().await.expect("heads");
    let reached = h.models.checkpoints(MAIN_PROJECTION).await.expect("checkpoints");
    let mut tx = h.models.begin().await.expect("a transaction");
    for head in &heads {
        let from = reached.iter().find(|(partition, _)| *partition == head.partition).map_or(0, |one| one.1);
        if head.offset > from {
            let advanced = tx.advance_checkpoint(MAIN_PROJECTION, head.partition, from, head.offset);
            advanced.await.expect("advanced");
        }
    }
    tx.commit().await.expect("a commit");
    for head in heads {
        let batch =
            CommittedBatch { partition: head.partition, first_offset: head.offset + 1, events: Vec::new() };
        h.ports.feed.publish(batch);
    }
}

async fn read(h: &Harness, address: SocketAddr, id: &str, min_position: Option<&str>) -> Value {
    let mut request = h.http.get(format!("http://{address}/api/v1/executions/{id}")).bearer_auth(&h.key);
    if let Some(position) = min_position {
        request = request.header("everline-min-position", position);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let tag = header(&answer, "etag");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(tag, format!("\"{}\"", body["version"]));
    body
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers()[name].to_str().expect("text").to_owned()
}

/// A counter of a gateway.
async fn counter(h: &Harness, address: SocketAddr, line: &str) -> u64 {
    let text = h.http.get(format!("http://{address}/metrics")).send().await.expect("an answer");
    let text = text.text().await.expect("text");
    let value =
        text.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("{line}: {text}"));
    value.trim().parse().expect("a number")
}

const HITS: &str = "everline_cache_hits_total{cache=\"executions\"}";

#[tokio::test]
async fn two_gateways_show_every_change_though_one_of_them_hears_of_two_in_three() {
    let h = Harness::start().await;
    let second = h.beside(GatewayConfig::default(), Arc::new(Lossy(h.ports.feed.clone()))).await;
    let workflow = create(&h, &waiting("kept")).await;
    let started = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &json!({})).await;
    let id = text(&started.json().await.expect("JSON"), "execution_id");
    settle(&h).await;
    for round in 0..40 {
        let signal = h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(round)).await;
        let position = header(&signal, "everline-position");
        settle(&h).await;
        let truth = h.get_json(&format!("/api/v1/executions/{id}/state")).await;
        assert_eq!(read(&h, h.address, &id, None).await, truth, "one's own write, in round {round}");
        assert_eq!(read(&h, second, &id, Some(&position)).await, truth, "a position, in round {round}");
        // Without a demand the other gateway is behind for no longer than until the next sign of life.
        let caught_up = async { while read(&h, second, &id, None).await != truth {} };
        tokio::time::timeout(Duration::from_secs(5), caught_up).await.expect("caught up");
        for address in [h.address, second] {
            let before = counter(&h, address, HITS).await;
            while counter(&h, address, HITS).await == before {
                assert_eq!(read(&h, address, &id, None).await, truth);
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_taken_from_memory_when_the_feed_is_silent() {
    let h = Harness::start().await;
    let workflow = create(&h, &waiting("silent")).await;
    let started = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &json!({})).await;
    let id = text(&started.json().await.expect("JSON"), "execution_id");
    settle(&h).await;
    while counter(&h, h.address, HITS).await == 0 {
        read(&h, h.address, &id, None).await;
    }
    // The silence itself is what is waited for.
    let silent = async {
        loop {
            let before = counter(&h, h.address, HITS).await;
            read(&h, h.address, &id, None).await;
            if counter(&h, h.address, HITS).await == before {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), silent).await.expect("the memory is not trusted for ever");
}

#[tokio::test]
async fn whoever_has_the_version_is_answered_without_a_body() {
    let h = Harness::start().await;
    let workflow = create(&h, &waiting("tagged")).await;
    let started = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &json!({})).await;
    let id = text(&started.json().await.expect("JSON"), "execution_id");
    settle(&h).await;
    let path = format!("/api/v1/executions/{id}");
    for _ in 0..3 {
        let tag = header(&h.get(&path).await, "etag");
        for (sent, status) in [
            (tag.clone(), 304),
            (format!("\"x\", W/{tag}"), 304),
            ("*".to_owned(), 304),
            ("\"0\"".to_owned(), 200),
        ] {
            let request = h.request(reqwest::Method::GET, &path).header("if-none-match", &sent);
            let answer = request.send().await.expect("an answer");
            assert_eq!((answer.status().as_u16(), header(&answer, "etag")), (status, tag.clone()), "{sent}");
            assert_eq!(answer.bytes().await.expect("a body").is_empty(), status == 304);
        }
    }
    let stranger = h.bare(reqwest::Method::GET, &path).send().await.expect("an answer");
    assert_eq!(stranger.status(), 401);
}
