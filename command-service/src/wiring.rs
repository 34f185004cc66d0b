//! Wiring: the tasks that all partitions share, and who hears of whom.

use futures::FutureExt;
use futures::future::{Fuse, FusedFuture};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use bus::{CommandHandler, CommitFeed, CommittedBatch};
use domain::time::Clock;
use event_store::Log;

use crate::aftermath::Aftermath;
use crate::committer::{Committer, Lost};
use crate::config::CommandServiceConfig;
use crate::dispatcher::Dispatcher;
use crate::error::CommandServiceError;
use crate::event_waits::{EventWaits, Matcher};
use crate::fact_source::FactSource;
use crate::owned::Owned;
use crate::reactor::{Reactor, ReactorControl, ReactorInput};
use crate::relay::{Relay, RelayControl, RelayInput};
use crate::service::{ReactorPorts, RelayPorts};
use crate::tenancy::{Household, RECOVERIES};
use crate::timers::Timers;

/// Appends that may wait for the committer.
const PENDING_CAPACITY: usize = 1_024;
/// How often readers of the feed are told where partitions end.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// What the tasks are made of.
pub(crate) struct Parts {
    pub(crate) config: CommandServiceConfig,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) feed: Arc<dyn CommitFeed>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) owned: Arc<Owned>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) handler: Arc<dyn CommandHandler>,
}

/// The tasks that run. Dropped, they end at once.
pub(crate) struct Running {
    committer: Fuse<AbortOnDropHandle<Result<(), CommandServiceError>>>,
    committer_abort: AbortHandle,
    /// Timers, dispatcher, reactor, event waits, announcements: they only end when told.
    helpers: JoinSet<()>,
    relay: Option<AbortOnDropHandle<()>>,
    stop: CancellationToken,
}

impl Running {
    /// Waits until one of the tasks fails.
    pub(crate) async fn failed(&mut self) -> CommandServiceError {
        let committer = async {
            match (&mut self.committer).await.unwrap_or_else(panicked) {
                Err(error) => error,
                // Its last partition is gone.
                Ok(()) => std::future::pending().await,
            }
        };
        let helpers = async {
            match ended_early(&mut self.helpers).await {
                Err(error) => error,
                Ok(()) => std::future::pending().await,
            }
        };
        tokio::select! {
            error = committer => error,
            error = helpers => error,
        }
    }

    /// After the last partition is gone: ends the tasks in order. Then nothing holds the log any more.
    pub(crate) async fn end(mut self) -> Result<(), CommandServiceError> {
        self.stop.cancel();
        self.helpers.shutdown().await;
        if let Some(relay) = self.relay
            && let Err(error) = relay.await
        {
            return panicked(error);
        }
        if self.committer.is_terminated() { Ok(()) } else { self.committer.await.unwrap_or_else(panicked) }
    }

    /// Ends the tasks at once. Then nothing holds the log any more.
    pub(crate) async fn abort(mut self) {
        self.helpers.shutdown().await;
        self.committer_abort.abort();
        // How they end is of no interest: the service fails for another reason.
        if !self.committer.is_terminated() {
            let _ = self.committer.await;
        }
        if let Some(relay) = self.relay {
            relay.abort();
            let _ = relay.await;
        }
    }
}

/// Starts what all partitions share. Returns it, who must be told of partitions, and where lost ones are heard of.
pub(crate) fn start(
    parts: Parts,
    relay: Option<RelayPorts>,
    reactor: Option<ReactorPorts>,
    shared: bool,
) -> (Running, Household, mpsc::UnboundedReceiver<Lost>) {
    let Parts { config, log, feed, clock, owned, dispatcher, handler } = parts;
    // Cancelled only when the partitions are gone: what is accepted is finished with their help.
    let stop = CancellationToken::new();
    let (relay, relay_input, relay_control) = start_relay(relay, &log, &clock, &owned, &stop);
    let mut helpers = JoinSet::new();
    let (reactor_input, reactor_control) = start_reactor(reactor, &log, &owned, &stop, &mut helpers);
    let event_waits = EventWaits::new(log.partitions());
    let timers =
        Arc::new(Timers::new(config.timer_horizon_ms, log.partitions(), clock.clone(), owned.clone()));
    let facts = Arc::new(FactSource::new(log.clone(), owned.clone()));
    let deciding = Arc::new(AtomicUsize::new(0));
    let (work_sender, work) = mpsc::channel(PENDING_CAPACITY);
    let (lost_sender, lost) = mpsc::unbounded_channel();
    let aftermath = Aftermath {
        facts: facts.clone(),
        timers: timers.clone(),
        dispatcher: dispatcher.clone(),
        feed: feed.clone(),
        owned: owned.clone(),
        relay: relay_input,
        reactor: reactor_input,
        event_waits: event_waits.clone(),
    };
    let lost_sender = shared.then_some(lost_sender);
    let committer =
        Committer::new(log.clone(), config.clone(), work, deciding.clone(), aftermath, lost_sender);
    let committer = AbortOnDropHandle::new(tokio::spawn(committer.run()));
    let (committer_abort, committer) = (committer.abort_handle(), committer.fuse());
    {
        let (log, feed, owned) = (log.clone(), feed.clone(), owned.clone());
        let matcher = Matcher::new(log, feed, owned, event_waits.clone(), handler.clone());
        helpers.spawn(matcher.run(stop.clone()));
    }
    {
        let (timers, log, handler, stop) = (timers.clone(), log.clone(), handler.clone(), stop.clone());
        helpers.spawn(async move { timers.run(log, handler, stop).await });
    }
    {
        let (dispatcher, stop) = (dispatcher.clone(), stop.clone());
        helpers.spawn(async move { dispatcher.run(handler, stop).await });
    }
    // Also where nothing is shared: what a gateway keeps in memory is trusted only while the feed is heard.
    helpers.spawn(announce(owned.clone(), feed, stop.clone()));
    // Workers are another process's, unless nothing is shared: then none of them has outlived the last start.
    let listen = if shared { config.redeliver_after() } else { Duration::ZERO };
    let (committer_sender, relay_sender) = (work_sender, relay_control);
    let household = Household {
        config,
        log,
        clock,
        owned,
        facts,
        timers,
        dispatcher,
        committer: committer_sender,
        deciding,
        relay: relay_sender,
        reactor: reactor_control,
        event_waits,
        recoveries: Arc::new(Semaphore::new(RECOVERIES)),
        listen,
    };
    (Running { committer, committer_abort, helpers, relay, stop }, household, lost)
}

fn start_relay(
    ports: Option<RelayPorts>,
    log: &Arc<dyn Log>,
    clock: &Arc<dyn Clock>,
    owned: &Arc<Owned>,
    stop: &CancellationToken,
) -> (Option<AbortOnDropHandle<()>>, Option<RelayInput>, Option<RelayControl>) {
    let Some(ports) = ports else { return (None, None, None) };
    let (relay, input, control) = Relay::new(log.clone(), ports, clock.clone(), owned.clone());
    let running = AbortOnDropHandle::new(tokio::spawn(relay.run(stop.clone())));
    (Some(running), Some(input), Some(control))
}

fn start_reactor(
    ports: Option<ReactorPorts>,
    log: &Arc<dyn Log>,
    owned: &Arc<Owned>,
    stop: &CancellationToken,
    helpers: &mut JoinSet<()>,
) -> (Option<ReactorInput>, Option<ReactorControl>) {
    let Some(ports) = ports else { return (None, None) };
    let (reactor, input, control) = Reactor::new(log.clone(), ports, owned.clone());
    helpers.spawn(reactor.run(stop.clone()));
    (Some(input), Some(control))
}

/// Tells readers of the feed every second where the partitions of this process end.
async fn announce(owned: Arc<Owned>, feed: Arc<dyn CommitFeed>, stop: CancellationToken) {
    let mut every = tokio::time::interval(ANNOUNCE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        // Without a lease another may own them and know better.
        for held in owned.list().into_iter().filter(|_| owned.leased()) {
            feed.publish(CommittedBatch {
                partition: held.partition,
                first_offset: held.head + 1,
                events: Vec::new(),
            });
        }
    }
}

/// Waits for a task that panicked. Tasks that end by themselves are no concern.
pub(crate) async fn ended_early(tasks: &mut JoinSet<()>) -> Result<(), CommandServiceError> {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            return panicked(error);
        }
    }
    Ok(())
}

/// A task has not come to its end.
pub(crate) fn panicked(error: JoinError) -> Result<(), CommandServiceError> {
    Err(CommandServiceError::Task(error.to_string()))
}
