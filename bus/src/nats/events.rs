//! The stream of published events: CloudEvents 1.0 in the binary mode of the NATS binding.
//!
//! What the stream holds of a partition must be a prefix of what was sent, so that "where does it end" is a question
//! with an answer. A connection that came back by itself would break that: it would send what it still held, after a
//! stretch that was lost with the old connection. So this connection ends with its first loss, everything that was not
//! acknowledged fails, and [`EventPublisher::reset`] makes a new one. What the server still reads from the old one
//! meanwhile does no harm: both send every event in order and without a gap, and the stream keeps the first of two
//! messages with one id, which leaves them in order whoever is ahead.

use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;

use domain::event::{Codec, RecordedEvent};
use domain::ids::{Partition, Position};

use super::NatsOptions;
use super::api;
use super::connect::{Endpoint, Link};
use super::lifetime::Lifetime;
use super::requests::{Answers, AskError, Requests};
use super::streams::{ensure_stream, events_stream};
use super::subjects::{self, EVENTS_STREAM};
use super::wire::visible;
use crate::error::BusError;
use crate::events::{Continuity, EventPublisher};

/// Events that are not acknowledged yet, of one call.
const WINDOW: usize = 512;
/// How long an acknowledgement may take.
const ACK: Duration = Duration::from_secs(10);
/// Room for headers in a message.
const HEADERS: usize = 4_096;
/// The header of an event whose data the bus could not carry.
const TRUNCATED: &str = "everline-truncated";
/// The header that says where the event is in the log.
const POSITION: &str = "ce-position";

/// Publishes events, over a connection of its own.
pub(super) struct NatsEvents {
    endpoint: Endpoint,
    options: NatsOptions,
    lifetime: Lifetime,
    session: RwLock<Option<Arc<Session>>>,
}

/// A connection, until it is lost or something went wrong on it.
struct Session {
    requests: Requests,
    lifetime: Lifetime,
    broken: AtomicBool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.lifetime.stop.cancel();
    }
}

impl NatsEvents {
    pub(super) fn new(endpoint: Endpoint, options: NatsOptions, lifetime: Lifetime) -> Self {
        Self { endpoint, options, lifetime, session: RwLock::new(None) }
    }

    async fn session(&self) -> Result<Arc<Session>, BusError> {
        let session = self.session.read().await.clone();
        session.filter(|session| !session.broken.load(Ordering::Acquire)).ok_or_else(|| BusError {
            operation: "publish events".to_owned(),
            source: "the connection to NATS was lost; it must be made anew".into(),
        })
    }
}

#[async_trait]
impl EventPublisher for NatsEvents {
    async fn reset(&self) -> Result<Continuity, BusError> {
        let mut session = self.session.write().await;
        if let Some(old) = session.take() {
            old.broken.store(true, Ordering::Release);
            old.lifetime.stop.cancel();
        }
        let lifetime = self.lifetime.part();
        // However this ends short of a session, the connection's task ends with it, and the connection with that.
        let unfinished = lifetime.stop.clone().drop_guard();
        let link = Link::open_once(&self.endpoint, &self.options.connection_name("events")).await?;
        link.check_version(&self.endpoint)?;
        let compressed = link.at_least(2, 10);
        let requests = Requests::start(link, &lifetime).await?;
        ensure_stream(&requests, &events_stream(&self.options, compressed)).await?;
        unfinished.disarm();
        *session = Some(Arc::new(Session { requests, lifetime, broken: AtomicBool::new(false) }));
        Ok(Continuity::Kept)
    }

    async fn last_published(&self, partition: Partition) -> Result<Option<Position>, BusError> {
        let session = self.session().await?;
        let operation = || format!("find the last published event of partition {partition}");
        let subject = subjects::events_of(partition);
        let last = api::last_headers(&session.requests, EVENTS_STREAM, &subject).await;
        let Some(headers) = last.map_err(BusError::of(operation()))? else {
            return Ok(None);
        };
        let position = headers.get(POSITION).and_then(|text| text.parse().ok());
        position.map(Some).ok_or_else(|| BusError {
            operation: operation(),
            source: format!("the last message under {subject} is not of Everline; remove it").into(),
        })
    }

    async fn publish(&self, events: &[Arc<RecordedEvent>]) -> Result<(), BusError> {
        let session = self.session().await?;
        let published = session.publish(events).await;
        published.inspect_err(|_| session.broken.store(true, Ordering::Release))
    }

    fn max_age(&self) -> Duration {
        self.options.events_max_age
    }
}

impl Session {
    async fn publish(&self, events: &[Arc<RecordedEvent>]) -> Result<(), BusError> {
        let mut window: VecDeque<(Position, Answers)> = VecDeque::with_capacity(events.len().min(WINDOW));
        for event in events {
            if window.len() >= WINDOW {
                acknowledged(window.pop_front()).await?;
            }
            if self.broken.load(Ordering::Acquire) {
                return Err(failed(event.position, AskError::Lost));
            }
            let body = self.body(event);
            let headers = cloud_event(event, body.is_none());
            let body = body.unwrap_or(Bytes::from_static(b"{}"));
            let sent = self.requests.send(subjects::event(event), headers, body).await;
            window.push_back((event.position, sent.map_err(|error| failed(event.position, error))?));
        }
        while !window.is_empty() {
            acknowledged(window.pop_front()).await?;
        }
        Ok(())
    }

    /// The data, if the bus can carry it. Large values are references, so it nearly always can; where it cannot, the
    /// event is published without, because positions must stay complete.
    fn body(&self, event: &RecordedEvent) -> Option<Bytes> {
        if event.data.len() + HEADERS <= self.requests.max_payload() {
            return Some(event.data.clone());
        }
        tracing::warn!(
            event.position = %event.position, event.bytes = event.data.len(),
            "an event is too large for NATS and is published without its data"
        );
        None
    }
}

async fn acknowledged(next: Option<(Position, Answers)>) -> Result<(), BusError> {
    let Some((position, answers)) = next else { return Ok(()) };
    let answer = tokio::time::timeout(ACK, answers.first()).await.unwrap_or(Err(AskError::TimedOut));
    let answer = answer.map_err(|error| failed(position, error))?;
    api::stored(&answer.payload).map_err(|error| failed(position, error))?;
    Ok(())
}

fn failed(position: Position, error: impl std::error::Error + Send + Sync + 'static) -> BusError {
    BusError { operation: format!("publish the event at {position}"), source: Box::new(error) }
}

/// The attributes of an event as headers.
fn cloud_event(event: &RecordedEvent, truncated: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| headers.insert(name, visible(value).as_ref());
    set("ce-specversion", "1.0");
    set("ce-id", &event.id.to_string());
    set("ce-type", &event.event_type);
    set("ce-source", "/everline");
    set("ce-subject", &event.stream.to_string());
    set("ce-time", &event.recorded_at.to_string());
    set(POSITION, &event.position.to_string());
    set("ce-version", &event.version.to_string());
    set("ce-schemaversion", &event.schema_version.to_string());
    set("ce-correlationid", &event.correlation_id.to_string());
    set("ce-causationid", &event.causation_id.to_string());
    set("ce-tenant", event.tenant.as_str());
    set("ce-actor", event.actor.as_str());
    if let Some(traceparent) = &event.traceparent {
        set("traceparent", traceparent);
    }
    match (event.codec, &event.key_id) {
        (Codec::Json, None) => {
            // Drafts of the binding differ in the name.
            set("ce-datacontenttype", "application/json");
            set("content-type", "application/json");
        }
        (Codec::Json, Some(key)) => {
            set("ce-datacontenttype", "application/octet-stream");
            set("ce-keyid", key);
        }
    }
    if truncated {
        set(TRUNCATED, "true");
    }
    set("Nats-Msg-Id", &event.id.to_string());
    set("Nats-Expected-Stream", EVENTS_STREAM);
    headers
}
