//! Candidates on their way to their executions: one after another for each wait, in the order in which they were found.

use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bus::{CommandError, CommandHandler};
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::{ExecutionCommand, OfferedEvent};
use domain::ids::{Actor, Slot, derived_id};

use super::EventWaits;
use super::index::{Found, Place};
use super::registry::Wait;

/// Offers that are made at the same time.
const OFFERING: usize = 64;
/// Candidates that may wait.
const QUEUED: usize = 4_096;
/// Bytes of candidates that may wait.
const QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// First pause before an offer is made again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An event that a condition may be for.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) found: Arc<Found>,
}

/// The candidates.
pub(super) struct Offers {
    waits: Arc<EventWaits>,
    handler: Arc<dyn CommandHandler>,
    /// By wait: what waits behind the offer that is being made.
    queues: HashMap<u64, VecDeque<Candidate>>,
    /// Waits that have candidates and no offer.
    ready: VecDeque<u64>,
    queued: usize,
    bytes: usize,
    offering: FuturesUnordered<BoxFuture<'static, u64>>,
}

impl Offers {
    pub(super) fn new(waits: Arc<EventWaits>, handler: Arc<dyn CommandHandler>) -> Self {
        Self {
            waits,
            handler,
            queues: HashMap::new(),
            ready: VecDeque::new(),
            queued: 0,
            bytes: 0,
            offering: FuturesUnordered::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.queued < QUEUED && self.bytes < QUEUED_BYTES
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queues.is_empty()
    }

    /// Takes a candidate in.
    pub(super) fn add(&mut self, candidate: Candidate) {
        let wait = candidate.place.0;
        self.queued += 1;
        self.bytes += candidate.found.bytes;
        let queue = self.queues.entry(wait).or_insert_with(|| {
            self.ready.push_back(wait);
            VecDeque::new()
        });
        queue.push_back(candidate);
        self.start();
    }

    /// Waits for an offer to be answered, and makes the next. Pending while none is being made. Cancel-safe.
    pub(super) async fn answered(&mut self) {
        match self.offering.next().await {
            Some(wait) => {
                // Its queue is empty now, or it has its turn behind the others.
                if self.queues.get(&wait).is_some_and(VecDeque::is_empty) {
                    self.queues.remove(&wait);
                } else {
                    self.ready.push_back(wait);
                }
                self.start();
            }
            None => std::future::pending().await,
        }
    }

    fn start(&mut self) {
        while self.offering.len() < OFFERING
            && let Some(number) = self.ready.pop_front()
        {
            let wait = self.waits.registry().get(number).cloned();
            let Some(queue) = self.queues.get_mut(&number) else { continue };
            let mut next = None;
            while let Some(candidate) = queue.pop_front() {
                self.queued -= 1;
                self.bytes -= candidate.found.bytes;
                let is_wanted =
                    |wait: &Wait| wait.wanted.iter().any(|wanted| wanted.condition == candidate.place.1);
                if wait.as_ref().is_some_and(is_wanted) {
                    next = Some(candidate);
                    break;
                }
            }
            let (Some(wait), Some(candidate)) = (wait, next) else {
                self.queues.remove(&number);
                continue;
            };
            let command = offer(&wait, candidate.place.1, &candidate.found);
            let sending = send(self.waits.clone(), self.handler.clone(), command, number);
            self.offering.push(sending.map(move |()| number).boxed());
        }
    }
}

/// The command that offers an event to a condition. The same event for the same run of a wait is the same command.
fn offer(wait: &Wait, condition: u32, found: &Found) -> CommandEnvelope {
    let Wait { execution, path, run, tenant, .. } = wait;
    let parts: [&[u8]; 6] = [
        b"offer",
        execution.as_bytes(),
        path.as_bytes(),
        &run.to_be_bytes(),
        &condition.to_be_bytes(),
        found.event.id.as_bytes(),
    ];
    let command = ExecutionCommand::OfferEvent(OfferedEvent {
        node_id: path.to_string(),
        run: *run,
        condition,
        event: found.event.clone(),
        data: found.data.clone(),
    });
    CommandEnvelope {
        id: derived_id(found.event.recorded_at, Slot::of(*execution), &parts),
        tenant: tenant.clone(),
        actor: Actor::system("matcher"),
        stream: *execution,
        correlation_id: *execution,
        causation_id: found.event.id,
        traceparent: None,
        digest: None,
        command: Command::Execution(command),
        authority: None,
    }
}

/// Makes an offer until it is answered, or the wait is over.
async fn send(waits: Arc<EventWaits>, handler: Arc<dyn CommandHandler>, command: CommandEnvelope, wait: u64) {
    let mut pause = FIRST_PAUSE;
    loop {
        match handler.handle(command.clone()).await {
            Ok(_) => return,
            Err(CommandError::Rejected(rejection)) => {
                return tracing::debug!(execution.id = %command.stream, code = %rejection.code, "an event was offered that is not wanted");
            }
            Err(error) => {
                tracing::debug!(execution.id = %command.stream, reason = %error, "an event is offered again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        if waits.registry().get(wait).is_none() {
            return;
        }
    }
}
