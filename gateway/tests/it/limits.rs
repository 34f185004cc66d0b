//! Rate limits: who is told to wait, how they are told, and that gateways share what they count.

use async_trait::async_trait;
use bus::in_process::InProcessFeed;
use event_store::StoreError;
use event_store::rate_counters::{RateCounters, Spent};
use gateway::{GatewayConfig, LimitsConfig, Networks};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use uuid::Uuid;

use super::harness::{EMAIL, Harness};

fn limited(limits: LimitsConfig) -> GatewayConfig {
    GatewayConfig {
        limits,
        trusted_proxies: Networks::try_from(vec!["127.0.0.0/8".to_owned()]).expect("a network"),
        ..GatewayConfig::default()
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_for_how_long_to_wait() {
    let h = Harness::with(limited(LimitsConfig { per_key: 3, ..LimitsConfig::default() })).await;
    for left in [2, 1, 0] {
        let answer = h.get("/api/v1/auth/me").await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "ratelimit-policy"), "\"key\";q=3;w=60");
        assert!(header(&answer, "ratelimit").starts_with(&format!("\"key\";r={left};t=")));
    }
    let answer = h.get("/api/v1/auth/me").await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = header(&answer, "retry-after").parse().expect("seconds");
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(header(&answer, "ratelimit"), format!("\"key\";r=0;t={wait}"));
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(problem["code"], "rate_limited");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(h.get(path).await.status(), StatusCode::OK, "{path} is never limited");
    }
    let metrics = h.get("/metrics").await.text().await.expect("text");
    assert!(metrics.contains("everline_rate_limited_total{policy=\"key\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn strangers_are_limited_by_their_address_and_known_callers_are_not() {
    let h = Harness::with(limited(LimitsConfig { anonymous_per_ip: 4, ..LimitsConfig::default() })).await;
    let from = |ip: &str, token: &str| {
        h.bare(Method::GET, "/api/v1/auth/me").bearer_auth(token).header("x-forwarded-for", ip).send()
    };
    for _ in 0..4 {
        assert_eq!(
            from("203.0.113.7", "evl_wrong").await.expect("an answer").status(),
            StatusCode::UNAUTHORIZED
        );
    }
    let wrong = from("203.0.113.7", "evl_wrong").await.expect("an answer");
    assert_eq!(wrong.status(), StatusCode::TOO_MANY_REQUESTS);
    // The same household in IPv6, another address, and the same address with a key.
    for (ip, status) in [("2001:db8::1", 401), ("203.0.113.8", 401)] {
        assert_eq!(from(ip, "evl_wrong").await.expect("an answer").status().as_u16(), status, "{ip}");
    }
    assert_eq!(from("203.0.113.7", &h.key).await.expect("an answer").status(), StatusCode::OK);
    // What a client writes before what the proxy adds does not make it somebody else.
    let forged = from("198.51.100.1, 203.0.113.7", "evl_wrong").await.expect("an answer");
    assert_eq!(forged.status(), StatusCode::TOO_MANY_REQUESTS);
    let login = h.bare(Method::POST, "/api/v1/auth/login").header("x-forwarded-for", "203.0.113.7");
    let login = login.json(&json!({"email": EMAIL, "password": "wrong"})).send().await.expect("an answer");
    assert_eq!(login.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn an_address_is_limited_before_anybody_is_recognised() {
    let h = Harness::with(limited(LimitsConfig { per_ip: 2, ..LimitsConfig::default() })).await;
    for status in [200, 200, 429] {
        assert_eq!(h.get("/api/v1/auth/me").await.status().as_u16(), status);
    }
}

#[tokio::test]
async fn messages_over_a_websocket_count_as_requests() {
    let h = Harness::with(limited(LimitsConfig { per_user: 3, ..LimitsConfig::default() })).await;
    let mut socket = h.connect(Some(&h.key)).await;
    let id = Uuid::now_v7();
    for number in 1..=3 {
        socket.send(json!({"type": "command", "id": number, "name": "cancel", "execution_id": id})).await;
        let answer = socket.next().await.expect("an answer");
        let code = answer["code"].as_str().unwrap_or_default().to_owned();
        // The connection itself was the first.
        assert_eq!(code == "rate_limited", number == 3, "{answer}");
    }
}

/// What gateways share, in memory. Time stands still: nothing wears off.
#[derive(Default)]
struct Shared(Mutex<HashMap<Uuid, i64>>);

#[async_trait]
impl RateCounters for Shared {
    async fn exchange(&self, spent: &[Spent]) -> Result<Vec<i64>, StoreError> {
        let mut debts = self.0.lock().expect("nobody panicked");
        let add = |spent: &Spent| {
            let debt = debts.entry(spent.key).or_default();
            *debt += spent.cost_us;
            *debt
        };
        Ok(spent.iter().map(add).collect())
    }

    async fn forget_full(&self, _limit: usize) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[tokio::test]
async fn two_gateways_learn_what_the_other_has_counted() {
    let config = limited(LimitsConfig { per_key: 20, exchange_ms: 20, ..LimitsConfig::default() });
    let mut h = Harness::start().await;
    let shared = Arc::new(Shared::default());
    h.ports.rates = Some(shared.clone());
    let one = h.beside(config.clone(), Arc::new(InProcessFeed::new())).await;
    let other = h.beside(config, Arc::new(InProcessFeed::new())).await;
    let ask = async |address| {
        let url = format!("http://{address}/api/v1/auth/me");
        h.http.get(url).bearer_auth(&h.key).send().await.expect("an answer").status()
    };
    for _ in 0..20 {
        assert_eq!(ask(one).await, StatusCode::OK);
    }
    assert_eq!(ask(one).await, StatusCode::TOO_MANY_REQUESTS);
    // The other finds out once it has used the bucket and exchanged; until then it gives of its own.
    let (begun, mut given) = (Instant::now(), 0);
    while ask(other).await == StatusCode::OK {
        given += 1;
        assert!(begun.elapsed().as_secs() < 10, "the other gateway never learns");
        tokio::task::yield_now().await;
    }
    assert!(given < 20 + 10, "{given}");
    // What the first has taken is told with its next exchange at the latest.
    let debt = || *shared.0.lock().expect("nobody panicked").values().next().expect("a bucket");
    while debt() < 20 * 3_000_000 {
        assert!(begun.elapsed().as_secs() < 10, "the shared bucket has {} only", debt());
        tokio::task::yield_now().await;
    }
}
