//! What a partition holds in memory: folded streams, how far some of them are ahead of the log, and the commands that
//! wait for what is on its way.

use lru::LruCache;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use uuid::Uuid;

use bus::CommandError;
use domain::aggregate::{Aggregate, AggregateState};
use domain::execution::Phase;
use domain::time::Timestamp;

use crate::pending::Submitted;

/// Commands that may wait for an append on its way.
const MAX_HELD: usize = 1_024;

/// What a partition has folded and what of it is not durable yet.
pub(crate) struct Memory {
    /// Streams as the log has them; any of them can be folded again.
    pub(super) streams: LruCache<Uuid, Aggregate>,
    /// Streams that are ahead of the log. They are few: the committer's queue bounds them.
    pub(super) ahead: HashMap<Uuid, Ahead>,
    /// Command ids on their way.
    pub(super) commands: HashSet<Uuid>,
    /// Commands that came again while the first was on its way, by id.
    pub(super) repeated: Held<Submitted>,
    /// Commands that failed on what is not durable yet, by the id of the last command that they failed on.
    pub(super) doubtful: Held<(Submitted, CommandError)>,
    pub(super) generation: u64,
    pub(super) last_decided_at: Timestamp,
}

/// A stream with appends on their way.
pub(super) struct Ahead {
    aggregate: Aggregate,
    appends: usize,
    /// The command whose append is the last.
    pub(super) last: Uuid,
}

/// What becomes of the commands that waited for an append that is durable now.
pub(super) struct Released {
    /// Came again: decided now.
    pub(super) repeated: Vec<Submitted>,
    /// Failed on what is durable now, so they have failed.
    pub(super) failed: Vec<(Submitted, CommandError)>,
}

/// What waits for an append, by the id of its command.
pub(super) struct Held<T> {
    commands: HashMap<Uuid, Vec<T>>,
    count: usize,
}

impl<T> Held<T> {
    fn new() -> Self {
        Self { commands: HashMap::new(), count: 0 }
    }

    /// Keeps one, or gives it back if too many wait already.
    pub(super) fn keep(&mut self, key: Uuid, waiting: T) -> Option<T> {
        if self.count >= MAX_HELD {
            return Some(waiting);
        }
        self.count += 1;
        self.commands.entry(key).or_default().push(waiting);
        None
    }

    fn take(&mut self, key: Uuid) -> Vec<T> {
        let taken = self.commands.remove(&key).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    fn take_all(&mut self) -> Vec<T> {
        self.count = 0;
        self.commands.drain().flat_map(|(_, waiting)| waiting).collect()
    }
}

impl Memory {
    /// Nothing folded; `last_recorded_at` is the time of the partition's last event.
    pub(crate) fn new(capacity: usize, last_recorded_at: Timestamp) -> Self {
        Self {
            streams: LruCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN)),
            ahead: HashMap::new(),
            commands: HashSet::new(),
            repeated: Held::new(),
            doubtful: Held::new(),
            generation: 0,
            last_decided_at: last_recorded_at,
        }
    }

    /// A folded stream.
    pub(super) fn stream(&mut self, stream: Uuid) -> Option<&Aggregate> {
        match self.ahead.get(&stream) {
            Some(ahead) => Some(&ahead.aggregate),
            None => self.streams.get(&stream),
        }
    }

    /// A folded stream that a command's append is being made for.
    pub(super) fn move_ahead(&mut self, stream: Uuid, command: Uuid) -> Option<&mut Aggregate> {
        if !self.ahead.contains_key(&stream) {
            let aggregate = self.streams.pop(&stream)?;
            self.ahead.insert(stream, Ahead { aggregate, appends: 0, last: command });
        }
        let ahead = self.ahead.get_mut(&stream)?;
        ahead.appends += 1;
        ahead.last = command;
        self.commands.insert(command);
        Some(&mut ahead.aggregate)
    }

    /// A command's append is durable, and with it every one that came before.
    pub(super) fn committed(&mut self, command: Uuid, stream: Uuid) -> Released {
        self.commands.remove(&command);
        if let Some(ahead) = self.ahead.get_mut(&stream) {
            ahead.appends -= 1;
            if ahead.appends == 0
                && let Some(ahead) = self.ahead.remove(&stream)
                && !is_finished(&ahead.aggregate)
            {
                self.streams.put(stream, ahead.aggregate);
            }
        }
        Released { repeated: self.repeated.take(command), failed: self.doubtful.take(command) }
    }

    /// Forgets everything that is not durable. Returns the commands that waited for some of it.
    pub(super) fn reset(&mut self, generation: u64) -> Vec<Submitted> {
        self.generation = generation;
        self.ahead.clear();
        self.commands.clear();
        let mut waiting = self.repeated.take_all();
        waiting.extend(self.doubtful.take_all().into_iter().map(|(submitted, _)| submitted));
        waiting
    }
}

/// A finished execution is rarely asked for again; its state is not worth the memory.
fn is_finished(aggregate: &Aggregate) -> bool {
    matches!(&aggregate.state, AggregateState::Execution(state) if matches!(state.phase, Phase::Finished(_)))
}
