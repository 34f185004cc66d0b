//! What the stream `EVERLINE_EVENTS` holds, as any subscriber would read it.

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use event_store::LogReader;
use futures::StreamExt;
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The stream's name.
const STREAM: &str = "EVERLINE_EVENTS";
/// How long a page of it may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(5);
/// Messages read at a time.
const PAGE: usize = 1_000;
/// Events of the log read at a time.
const LOG_PAGE: usize = 2_000;

/// The stream's contents.
#[derive(Debug, Default)]
pub struct Published {
    /// Every event's id.
    pub ids: HashSet<Uuid>,
    /// Messages, repeated ones included.
    pub messages: u64,
    /// By partition, the offsets in the order in which they are seen first.
    pub first_seen: BTreeMap<u16, Vec<u64>>,
}

impl Published {
    /// Reads the whole stream, with a consumer of its own.
    pub async fn read(nats_url: &str) -> Result<Self> {
        let client = async_nats::connect(nats_url).await.context("NATS cannot be reached")?;
        let stream =
            async_nats::jetstream::new(client).get_stream(STREAM).await.context("there is no stream")?;
        let total = stream.cached_info().state.messages;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            inactive_threshold: Duration::from_secs(30),
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.context("no consumer")?;
        let mut published = Self::default();
        while published.messages < total {
            let page = consumer.fetch().max_messages(PAGE).expires(PAGE_PATIENCE).messages().await;
            let mut page = page.context("no page of the stream")?;
            let before = published.messages;
            while let Some(message) = page.next().await {
                let message = message.map_err(|error| anyhow::anyhow!("the stream breaks off: {error}"))?;
                published.add(message.headers.as_ref().context("a message has no headers")?)?;
            }
            ensure!(published.messages > before, "the stream ends at {before} of {total} messages");
        }
        Ok(published)
    }

    fn add(&mut self, headers: &async_nats::HeaderMap) -> Result<()> {
        let header = |name: &str| {
            let value = headers.get(name).map(async_nats::HeaderValue::as_str);
            value.with_context(|| format!("an event has no header {name}"))
        };
        let id: Uuid = header("ce-id")?.parse()?;
        ensure!(header("Nats-Msg-Id")? == id.to_string(), "Nats-Msg-Id is not the event's id");
        let position = header("ce-position")?;
        let (partition, offset) = position.split_once(':').context("a position without a colon")?;
        self.messages += 1;
        if self.ids.insert(id) {
            self.first_seen.entry(partition.parse()?).or_default().push(offset.parse()?);
        }
        Ok(())
    }

    /// Fails if an event is seen before the one in front of it.
    pub fn ensure_in_order(&self) -> Result<()> {
        for (partition, offsets) in &self.first_seen {
            for (index, offset) in offsets.iter().enumerate() {
                let expected = index as u64 + 1;
                ensure!(
                    *offset == expected,
                    "partition {partition}: {offset} is seen where {expected} should be"
                );
            }
        }
        Ok(())
    }

    /// Positions of events of the log that the stream does not hold, at most a few.
    pub async fn missing(&self, log: &dyn LogReader) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for head in log.heads().await? {
            let mut offset = 0;
            while offset < head.offset && missing.len() < 10 {
                for event in log.read_partition(head.partition, offset, LOG_PAGE).await? {
                    offset = event.position.offset;
                    if !self.ids.contains(&event.id) {
                        missing.push(format!("{} {}", event.position, event.event_type));
                    }
                }
            }
        }
        Ok(missing)
    }

    /// Reads the stream until it holds every event of the log.
    pub async fn until_complete(nats_url: &str, log: &dyn LogReader, patience: Duration) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let published = Self::read(nats_url).await?;
            let missing = published.missing(log).await?;
            if missing.is_empty() {
                return Ok(published);
            }
            if begun.elapsed() > patience {
                bail!(
                    "after {patience:?} {STREAM} has {} messages and lacks {missing:?}",
                    published.messages
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
