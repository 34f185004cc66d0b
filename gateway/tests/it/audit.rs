//! The audit: what a gateway writes into the log, and what it never writes.

use domain::audit::event::{AuditEntry, AuditResult};
use domain::event::{AuditEvent, Event};
use domain::ids::{Partition, Slot, TenantId};
use gateway::GatewayConfig;
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::harness::{Harness, echo};

impl Harness {
    /// What the log has of the audit of the tenant `default`, in its order.
    async fn audited(&self) -> Vec<AuditEntry> {
        let log = &self.ports.log;
        let partition: Partition = Slot::of_tenant(&TenantId::default_tenant()).partition(log.partitions());
        let mut entries = Vec::new();
        for event in log.read_partition(partition, 0, 10_000).await.expect("read") {
            if let Event::Audit(AuditEvent::Recorded(recorded)) = event.decode().expect("decodes") {
                entries.extend(recorded.entries);
            }
        }
        entries
    }

    /// Waits until an entry is there.
    async fn until_audited(&self, is_it: impl Fn(&AuditEntry) -> bool) -> AuditEntry {
        let begun = Instant::now();
        loop {
            let entries = self.audited().await;
            if let Some(found) = entries.iter().find(|entry| is_it(entry)) {
                return found.clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "not in {entries:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_command_is_told_with_who_from_where_and_what_became_of_it() {
    let h = Harness::start().await;
    let request = h.request(Method::POST, "/api/v1/workflows").json(&echo("audited"));
    let request = request.header("x-request-id", "order-1").header("user-agent", "tester/1");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::CREATED);
    let position = answer.headers()["everline-position"].to_str().expect("text").to_owned();
    let entry = h.until_audited(|entry| entry.request_id.as_deref() == Some("order-1")).await;
    assert_eq!(entry.result, AuditResult::Accepted);
    assert_eq!(entry.route, "POST /api/v1/workflows");
    assert!(entry.actor.as_str().starts_with("key:"), "{entry:?}");
    assert!(entry.user.is_some() && entry.code.is_none());
    assert_eq!(entry.permission.as_deref(), Some("workflow:create"));
    assert_eq!(entry.position.map(|position| position.to_string()), Some(position));
    assert_eq!(entry.ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(entry.user_agent.as_deref(), Some("tester/1"));

    let again = h.post("/api/v1/workflows", &echo("audited")).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let refused = h.until_audited(|entry| entry.result == AuditResult::Rejected).await;
    assert_eq!(refused.action, entry.action);
}

#[tokio::test]
async fn denied_attempts_are_told_once_and_then_together() {
    let h = Harness::start().await;
    for _ in 0..5 {
        let request = h.bare(Method::GET, "/api/v1/workflows?q=hush").bearer_auth("evl_hush");
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    }
    let denied = |entry: &AuditEntry| entry.result == AuditResult::Denied;
    let first = h.until_audited(denied).await;
    assert_eq!(first.count, 1);
    assert_eq!(first.actor.as_str(), "anonymous:-");
    assert_eq!(first.code.as_deref(), Some("unauthenticated"));
    assert_eq!(first.route, "GET /api/v1/workflows");
    let rest = h.until_audited(|entry| denied(entry) && entry.count > 1).await;
    assert_eq!(rest.count, 4);
    let told = serde_json::to_string(&h.audited().await).expect("JSON");
    assert!(!told.contains("hush"), "neither query nor token: {told}");
}

#[tokio::test]
async fn a_denied_message_is_told_like_a_request() {
    let h = Harness::start().await;
    let mut socket = h.connect(None).await;
    socket.send(json!({"type": "auth", "token": "evl_hush"})).await;
    assert_eq!(socket.next().await, Err(4401));
    let entry = h.until_audited(|entry| entry.route == "WS auth").await;
    assert_eq!((entry.result, entry.actor.as_str()), (AuditResult::Denied, "anonymous:-"));
}

#[tokio::test]
async fn an_entry_is_sent_until_the_log_takes_it_and_is_there_once() {
    let h = Harness::start().await;
    h.create(&echo("first")).await;
    h.until_audited(|entry| entry.permission.as_deref() == Some("workflow:create")).await;
    // The next commands find no owner for a while: the audit's too.
    let request = h.bare(Method::GET, "/api/v1/workflows").bearer_auth("evl_wrong");
    h.owner.refusals.store(3, Ordering::SeqCst);
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    h.until_audited(|entry| entry.result == AuditResult::Denied).await;
    assert_eq!(h.owner.refusals.load(Ordering::SeqCst), 0);
    let denied = h.audited().await.into_iter().filter(|entry| entry.result == AuditResult::Denied);
    assert_eq!(denied.count(), 1);
}

#[tokio::test]
async fn what_there_is_no_room_for_is_counted_and_told() {
    let config = GatewayConfig { audit_buffer_entries: 2, ..GatewayConfig::default() };
    let h = Harness::with(config).await;
    // Nobody takes the audit for a while; each route's denial is one of its own.
    h.owner.refusals.store(6, Ordering::SeqCst);
    for path in ["workflows", "executions", "events", "variables", "node-types", "dead-letters"] {
        let request = h.bare(Method::GET, &format!("/api/v1/{path}"));
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    }
    let lost = h.until_audited(|entry| entry.action == "AuditEntriesLost").await;
    assert!(lost.count >= 1, "{lost:?}");
    let metrics = h.get("/metrics").await.text().await.expect("text");
    let counted = metrics.lines().find_map(|line| line.strip_prefix("everline_audit_lost_total "));
    assert!(counted.and_then(|text| text.parse::<u32>().ok()).is_some_and(|lost| lost >= 1), "{metrics}");
}

#[tokio::test]
async fn what_is_in_the_buffer_is_in_the_log_when_the_gateway_has_ended() {
    let h = Harness::start().await;
    h.create(&echo("last")).await;
    h.shutdown.cancel();
    let mut h = h;
    (&mut h.running).await.expect("ended");
    let entries = h.audited().await;
    let last = entries.iter().filter(|entry| entry.route == "POST /api/v1/workflows");
    assert_eq!(last.count(), 1, "{entries:#?}");
}
