//! The relay: every committed event to the stream for subscribers outside, at least once, in the order of its
//! partition.
//!
//! ```text
//!   aftermath ──offer (bounded, may drop)──► lanes ──batches──► EventPublisher
//!   log ───────pages, wherever there is a gap──┘  └──about once a second──► Checkpoints
//! ```
//!
//! One task for all partitions that this process owns. A lane's position is what the stream is known to have stored.
//! The log and the checkpoint are the truth; what the aftermath offers only saves reading. After a failure, after a
//! takeover and every half minute a lane is compared with the end of the stream (`reconcile`), which may have lost a
//! tail or everything. Invariants: the committer never waits for the relay; memory is bounded whatever the publisher
//! does; a checkpoint never goes back; whoever finds it moved by another stops relaying for a while. Deliberately absent: exactly once. Subscribers drop repetitions by the event's id.

mod checkpointing;
mod lane;
mod reconcile;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use bus::{BusError, EventPublisher};
use domain::event::RecordedEvent;
use domain::ids::Partition;
use domain::time::Clock;
use event_store::{Checkpoints, Log};

use crate::error::report;
use crate::owned::Owned;
use crate::service::RelayPorts;

use checkpointing::Moves;
use lane::{Lane, size};

/// The relay's name among the readers of the log.
const READER: &str = "relay";
/// Batches that may wait for the relay.
const INPUT_BATCHES: usize = 1_024;
/// Bytes that may wait for the relay; what is beyond is read from the log later.
const INPUT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes held for publishing, in all lanes together, before no more are taken in.
const HELD_BYTES: usize = 4 * 1024 * 1024;
/// Events read from the log at a time.
const PAGE: usize = 200;
/// The most events published at once.
const BATCH_EVENTS: usize = 500;
/// The most bytes published at once, unless a single event has more.
const BATCH_BYTES: usize = 1024 * 1024;
/// First pause after the publisher failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often lanes are compared with the stream while nothing fails.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// How often lanes are looked at for what was not offered.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the publisher may take for one call.
const PUBLISHER_LIMIT: Duration = Duration::from_secs(30);

/// Where the aftermath of commits offers events.
#[derive(Clone)]
pub(crate) struct RelayInput {
    sender: mpsc::Sender<Vec<Arc<RecordedEvent>>>,
    bytes: Arc<AtomicUsize>,
}

impl RelayInput {
    /// Offers committed events of one partition. Never waits: what there is no room for is read from the log.
    pub(crate) fn offer(&self, events: &[Arc<RecordedEvent>]) {
        let bytes: usize = events.iter().map(|event| size(event)).sum();
        if self.bytes.load(Ordering::Relaxed) + bytes > INPUT_BYTES {
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.sender.try_send(events.to_vec()).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Tells the relay which partitions to relay.
#[derive(Clone)]
pub(crate) struct RelayControl(mpsc::UnboundedSender<Control>);

enum Control {
    Adopt { partition: Partition, epoch: u64 },
    Drop { partition: Partition, done: oneshot::Sender<()> },
}

impl RelayControl {
    pub(crate) fn adopt(&self, partition: Partition, epoch: u64) {
        // A relay that is gone is gone with the whole service.
        let _ = self.0.send(Control::Adopt { partition, epoch });
    }

    /// Has the relay stop with a partition and store how far it is.
    pub(crate) async fn drop_partition(&self, partition: Partition) {
        let (done, dropped) = oneshot::channel();
        if self.0.send(Control::Drop { partition, done }).is_ok() {
            // Gone without a word: with the whole service.
            let _ = dropped.await;
        }
    }
}

/// The task.
pub(crate) struct Relay {
    log: Arc<dyn Log>,
    events: Arc<dyn EventPublisher>,
    checkpoints: Arc<dyn Checkpoints>,
    clock: Arc<dyn Clock>,
    owned: Arc<Owned>,
    input: mpsc::Receiver<Vec<Arc<RecordedEvent>>>,
    input_bytes: Arc<AtomicUsize>,
    control: mpsc::UnboundedReceiver<Control>,
    /// By partition number.
    lanes: BTreeMap<u16, Lane>,
    moves: Moves,
    /// Which lane is the first in the next batch.
    turn: u16,
    publisher: Publisher,
    /// Before the next try, should the publisher fail.
    pause: Duration,
}

/// What is known of the publisher.
#[derive(Clone, Copy)]
enum Publisher {
    Works,
    /// It must be reset, not before this time.
    Failed(Instant),
}

impl Relay {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        ports: RelayPorts,
        clock: Arc<dyn Clock>,
        owned: Arc<Owned>,
    ) -> (Self, RelayInput, RelayControl) {
        let (sender, input) = mpsc::channel(INPUT_BATCHES);
        let (control_sender, control) = mpsc::unbounded_channel();
        let input_bytes = Arc::new(AtomicUsize::new(0));
        let relay = Self {
            log,
            events: ports.events,
            checkpoints: ports.checkpoints,
            clock,
            owned,
            input,
            input_bytes: input_bytes.clone(),
            control,
            lanes: BTreeMap::new(),
            moves: Moves::default(),
            turn: 0,
            publisher: Publisher::Failed(Instant::now()),
            pause: FIRST_PAUSE,
        };
        (relay, RelayInput { sender, bytes: input_bytes }, RelayControl(control_sender))
    }

    /// Relays until it is told to stop, then stores how far it is.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.take_in();
            let worked = tokio::select! {
                worked = self.work() => worked,
                // What was being published and is not known to be stored is published again by whoever is next.
                () = stop.cancelled() => break,
            };
            let published = worked.unwrap_or_else(|error| {
                self.failed(&error);
                false
            });
            self.start_moves();
            if !published {
                self.wait(&stop).await;
            }
        }
        self.move_all().await;
    }

    /// One step, or a new beginning if its time has come.
    async fn work(&mut self) -> Result<bool, BusError> {
        match self.publisher {
            Publisher::Failed(retry_at) if retry_at > Instant::now() => Ok(false),
            Publisher::Failed(_) => self.reset().await,
            Publisher::Works => self.step().await,
        }
    }

    /// Compares what must be compared and publishes one batch. False if there was nothing to publish.
    async fn step(&mut self) -> Result<bool, BusError> {
        self.reconcile().await?;
        let batch = self.gather().await;
        if batch.is_empty() {
            return Ok(false);
        }
        let events = self.events.clone();
        let mut publishing = std::pin::pin!(tokio::time::timeout(PUBLISHER_LIMIT, events.publish(&batch)));
        // Checkpoints move meanwhile: they cost the relay no time.
        let published = loop {
            tokio::select! {
                published = &mut publishing => break published,
                Some(moved) = self.moves.next(), if !self.moves.is_empty() => self.moved(moved),
            }
        };
        published.unwrap_or_else(|late| Err(BusError::of("publish events in time")(late)))?;
        self.pause = FIRST_PAUSE;
        for event in &batch {
            if let Some(lane) = self.lanes.get_mut(&event.position.partition.0) {
                lane.published(&self.owned);
            }
        }
        Ok(true)
    }

    /// Makes ready after a start or a failure. True: there may be something to publish.
    async fn reset(&mut self) -> Result<bool, BusError> {
        let reset = tokio::time::timeout(PUBLISHER_LIMIT, self.events.reset()).await;
        let continuity =
            reset.unwrap_or_else(|late| Err(BusError::of("reset the stream of events in time")(late)))?;
        self.publisher = Publisher::Works;
        self.lanes.values_mut().for_each(|lane| lane.doubt(continuity));
        Ok(true)
    }

    fn failed(&mut self, error: &BusError) {
        tracing::warn!(
            error = %report(error), retry_ms = self.pause.as_millis() as u64,
            "events cannot be published; nothing is lost, they are published later"
        );
        self.publisher = Publisher::Failed(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Takes in what has come: partitions first, then events.
    fn take_in(&mut self) {
        while let Ok(control) = self.control.try_recv() {
            self.control(control);
        }
        // As many as are here now: whoever offers must not keep us from publishing.
        for _ in 0..self.input.len() {
            let Ok(events) = self.input.try_recv() else { return };
            self.offered(events);
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Adopt { partition, epoch } => {
                self.lanes.insert(partition.0, Lane::new(partition, epoch));
            }
            Control::Drop { partition, done } => match self.lanes.remove(&partition.0) {
                Some(lane) => self.moves.finish(lane, self.checkpoints.clone(), done),
                None => drop(done),
            },
        }
    }

    fn offered(&mut self, events: Vec<Arc<RecordedEvent>>) {
        let bytes: usize = events.iter().map(|event| size(event)).sum();
        self.input_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let room = self.held_bytes() < HELD_BYTES;
        let lane = events.first().and_then(|event| self.lanes.get_mut(&event.position.partition.0));
        if let Some(lane) = lane.filter(|_| room) {
            events.into_iter().for_each(|event| lane.take(event));
        }
    }

    fn held_bytes(&self) -> usize {
        self.lanes.values().map(|lane| lane.held_bytes).sum()
    }

    /// The next batch: from every lane in turn a fair share. Reads the log where a lane lacks events.
    async fn gather(&mut self) -> Vec<Arc<RecordedEvent>> {
        let behind: Vec<u16> = self
            .lanes
            .values()
            .filter(|lane| lane.is_behind(&self.owned))
            .map(|lane| lane.partition.0)
            .collect();
        if behind.is_empty() {
            return Vec::new();
        }
        let first = behind.partition_point(|number| *number < self.turn) % behind.len();
        self.turn = behind[first] + 1;
        let share = (BATCH_EVENTS / behind.len()).max(1);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for number in behind[first..].iter().chain(&behind[..first]) {
            let room = self.held_bytes() < HELD_BYTES;
            let Some(lane) = self.lanes.get_mut(number) else { continue };
            if lane.held.is_empty() && room {
                lane.read(&*self.log).await;
            }
            for event in lane.held.iter().take(share) {
                bytes += size(event);
                if !batch.is_empty() && (bytes > BATCH_BYTES || batch.len() >= BATCH_EVENTS) {
                    return batch;
                }
                batch.push(event.clone());
            }
        }
        batch
    }

    /// Until there may be something to do.
    async fn wait(&mut self, stop: &CancellationToken) {
        let works = matches!(self.publisher, Publisher::Works);
        let pause = LOOK_EVERY.min(self.until_retry());
        tokio::select! {
            Some(control) = self.control.recv() => self.control(control),
            Some(events) = self.input.recv(), if works => self.offered(events),
            Some(moved) = self.moves.next(), if !self.moves.is_empty() => self.moved(moved),
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }

    fn until_retry(&self) -> Duration {
        match self.publisher {
            Publisher::Works => LOOK_EVERY,
            Publisher::Failed(retry_at) => retry_at.saturating_duration_since(Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::event::Codec;
    use domain::ids::{Actor, Position, TenantId};
    use domain::time::Timestamp;
    use uuid::Uuid;

    #[test]
    fn what_waits_for_a_relay_that_does_not_come_is_bounded() {
        let (sender, mut input) = mpsc::channel(INPUT_BATCHES);
        let offered = RelayInput { sender, bytes: Arc::default() };
        let event = |offset| {
            Arc::new(RecordedEvent {
                position: Position { partition: Partition(3), offset },
                stream: Uuid::nil(),
                version: offset,
                tenant: TenantId::default_tenant(),
                event_type: "execution.warning".into(),
                schema_version: 1,
                id: Uuid::nil(),
                recorded_at: Timestamp::default(),
                correlation_id: Uuid::nil(),
                causation_id: Uuid::nil(),
                actor: Actor::system("test"),
                traceparent: None,
                codec: Codec::Json,
                key_id: None,
                data: vec![0; 60_000].into(),
            })
        };
        for number in 0..10_000 {
            offered.offer(&[event(number)]);
        }
        let mut bytes = 0;
        while let Ok(events) = input.try_recv() {
            bytes += events.iter().map(|event| size(event)).sum::<usize>();
        }
        assert!(bytes <= INPUT_BYTES && bytes > INPUT_BYTES / 2, "{bytes}");
        assert_eq!(offered.bytes.load(Ordering::Relaxed), bytes);
    }
}
