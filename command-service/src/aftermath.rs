//! What follows from a commit, in this order: caches, timers and tasks, relay and feed, the replies.
//!
//! None of it can fail the commit. Everything here can be done again from the log after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::tasks::{Task, TaskRef};
use bus::{CommandReply, CommitFeed, CommittedBatch};
use domain::decision::NodeRun;
use domain::event::{Event, ExecutionEvent, RecordedEvent};
use domain::execution::event::NodeScheduled;
use event_store::{Committed, Log, PartitionHead};

use crate::dispatcher::{Dispatcher, Stop};
use crate::error::report;
use crate::event_waits::EventWaits;
use crate::fact_source::FactSource;
use crate::owned::Owned;
use crate::pending::{Pending, Submitted};
use crate::reactor::ReactorInput;
use crate::recovery::recover;
use crate::relay::RelayInput;
use crate::settled::{Settled, left_open, settled_by};
use crate::timers::Timers;

/// Who hears of a commit.
pub(crate) struct Aftermath {
    pub(crate) facts: Arc<FactSource>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) feed: Arc<dyn CommitFeed>,
    pub(crate) owned: Arc<Owned>,
    pub(crate) relay: Option<RelayInput>,
    pub(crate) reactor: Option<ReactorInput>,
    pub(crate) event_waits: Arc<EventWaits>,
}

impl Aftermath {
    /// Acts on a commit and returns the replies to send.
    pub(crate) async fn apply(
        &self,
        batch: Vec<Pending>,
        committed: Committed,
    ) -> Vec<(Submitted, CommandReply)> {
        let mut recorded = committed.events.into_iter().map(Arc::new);
        let mut feed: BTreeMap<u16, Vec<Arc<RecordedEvent>>> = BTreeMap::new();
        let mut replies = Vec::with_capacity(batch.len());
        for (pending, position) in batch.into_iter().zip(committed.positions) {
            let Pending { submitted, events, partition, priority, wakeups, answer, .. } = pending;
            let envelope = &submitted.envelope;
            self.event_waits.take(envelope.stream, &events, &wakeups);
            for event in &events {
                let Some(stored) = recorded.next() else { break };
                self.facts.changed(&envelope.tenant, envelope.stream, event);
                if let Event::Execution(event) = event {
                    self.follow(event, &stored, priority);
                    self.event_waits.follow(event, &stored);
                }
                feed.entry(partition.0).or_default().push(stored);
            }
            // After the events: what they have settled was set before them, or by one of them.
            self.timers.add(&envelope.tenant, envelope.stream, left_open(&events, wakeups));
            let position = (!events.is_empty()).then_some(position);
            let reply = CommandReply { answer, position, repeated: false };
            replies.push((submitted, reply));
        }
        for events in feed.into_values() {
            let Some(first) = events.first() else { continue };
            let (partition, first_offset) = (first.position.partition, first.position.offset);
            if let Some(relay) = &self.relay {
                relay.offer(&events);
            }
            if let Some(reactor) = &self.reactor {
                reactor.offer(&events);
            }
            self.feed.publish(CommittedBatch { partition, first_offset, events });
        }
        self.dispatcher.release().await;
        replies
    }

    /// Partitions end there now. Told after the feed, so that no sign of life overtakes the events.
    pub(crate) fn grew(&self, heads: &[PartitionHead]) {
        heads.iter().for_each(|head| self.owned.grew(head));
    }

    /// After a commit that was not heard of: does from the log what [`Aftermath::apply`] would have done. Followers
    /// of the feed see the gap and read the log themselves, and so does the relay.
    pub(crate) async fn catch_up(&self, log: &Arc<dyn Log>, head: &PartitionHead) {
        self.facts.forget_all();
        self.timers.load_again(head.partition);
        self.event_waits.adopt(head.partition);
        let PartitionHead { partition, epoch, .. } = *head;
        if let Err(error) = recover(log, &self.timers, &self.dispatcher, partition, epoch).await {
            tracing::error!(partition = %head.partition, error = %report(&error), "what was committed unheard could not be picked up; it waits for its deadlines");
        }
        self.owned.grew(head);
    }

    /// Timers and tasks that an execution's event begins or ends.
    fn follow(&self, event: &ExecutionEvent, stored: &RecordedEvent, priority: u8) {
        let execution = stored.stream;
        let attempt = |node_id: &str, run: u32, attempt: u32| TaskRef {
            execution,
            node: NodeRun { node_id: node_id.to_owned(), run, attempt },
        };
        match settled_by(event) {
            Settled::Nothing => {}
            Settled::Kinds(kinds) => kinds.iter().for_each(|kind| self.timers.forget(execution, kind)),
            Settled::Everything => self.timers.forget_stream(execution),
        }
        match event {
            ExecutionEvent::NodeScheduled(e) => self.dispatcher.ready(task(stored, e.clone()), priority),
            ExecutionEvent::NodeCompleted(e) => {
                self.dispatcher.resolved(&attempt(&e.node_id, e.run, e.attempt), Stop::No);
            }
            ExecutionEvent::NodeFailed(e) => {
                self.dispatcher.resolved(&attempt(&e.node_id, e.run, e.attempt), Stop::Yes);
            }
            ExecutionEvent::NodeCancelled(e) => {
                self.dispatcher.resolved(&attempt(&e.node_id, e.run, e.attempt), Stop::Yes);
            }
            ExecutionEvent::CompensationStarted(_) => self.dispatcher.stop(execution),
            ExecutionEvent::Completed(_)
            | ExecutionEvent::Failed(_)
            | ExecutionEvent::Cancelled(_)
            | ExecutionEvent::Terminated(_) => self.dispatcher.end(execution),
            ExecutionEvent::Started(_)
            | ExecutionEvent::Forked(_)
            | ExecutionEvent::Queued(_)
            | ExecutionEvent::Admitted(_)
            | ExecutionEvent::NodeStarted(_)
            | ExecutionEvent::ScopeCompleted(_)
            | ExecutionEvent::RunStarted(_)
            | ExecutionEvent::NodeSkipped(_)
            | ExecutionEvent::NodeWaiting(_)
            | ExecutionEvent::NodeRetryScheduled(_)
            | ExecutionEvent::NodeDeadLettered(_)
            | ExecutionEvent::NodeCompensated(_)
            | ExecutionEvent::TimerStarted(_)
            | ExecutionEvent::TimerFired(_)
            | ExecutionEvent::TimerCancelled(_)
            | ExecutionEvent::CompensationFinished(_)
            | ExecutionEvent::SignalReceived(_)
            | ExecutionEvent::WaitSatisfied(_)
            | ExecutionEvent::EventEmitted(_)
            | ExecutionEvent::Responded(_)
            | ExecutionEvent::ChildStarted(_)
            | ExecutionEvent::ChildFinished(_)
            | ExecutionEvent::ChildCompensationRequested(_)
            | ExecutionEvent::ChildCompensated(_)
            | ExecutionEvent::Paused(_)
            | ExecutionEvent::Resumed(_)
            | ExecutionEvent::Retried(_)
            | ExecutionEvent::Warning(_) => {}
        }
    }
}

/// What a worker is given for an attempt that an event has scheduled.
pub(crate) fn task(stored: &RecordedEvent, node: NodeScheduled) -> Task {
    Task {
        task: TaskRef {
            execution: stored.stream,
            node: NodeRun { node_id: node.node_id, run: node.run, attempt: node.attempt },
        },
        tenant: stored.tenant.clone(),
        node_type: node.node_type,
        config: node.config,
        deadline: node.deadline,
        heartbeat_timeout_ms: node.heartbeat_timeout_ms,
        correlation_id: stored.correlation_id,
        causation_id: stored.id,
        traceparent: stored.traceparent.clone(),
    }
}
