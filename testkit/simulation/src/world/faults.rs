//! What goes wrong, how often, and which rules are broken on purpose.

use std::collections::BTreeMap;

use crate::random::Random;

/// A rule of the world, outside the engine, that is broken to see that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// A repeated result is recorded again, as that of a further attempt.
    AcceptTwice,
    /// The reactor tells lanes of no end.
    ForgetReleases,
    /// A repeated command has its effect again.
    ForgetCommandIds,
    /// A former owner may append.
    ForgetEpochs,
    /// A crash loses what is to be woken.
    ForgetWakeups,
    /// The reactor tells parents of no end.
    ForgetChildren,
}

impl Breakage {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AcceptTwice,
        Self::ForgetReleases,
        Self::ForgetCommandIds,
        Self::ForgetEpochs,
        Self::ForgetWakeups,
        Self::ForgetChildren,
    ];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcceptTwice => "accept-twice",
            Self::ForgetReleases => "forget-releases",
            Self::ForgetCommandIds => "forget-command-ids",
            Self::ForgetEpochs => "forget-epochs",
            Self::ForgetWakeups => "forget-wakeups",
            Self::ForgetChildren => "forget-children",
        }
    }
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A message was lost.
    Drop,
    /// A message came twice.
    Duplicate,
    /// A message overtook an older one.
    Reorder,
    /// The owner crashed with an append that was not durable.
    CrashBefore,
    /// The owner crashed with an append that was durable, before anybody heard of it.
    CrashAfter,
    /// Another owner took over while the first went on.
    Takeover,
    /// The first owner's append was refused.
    Fenced,
    /// A worker died with an attempt.
    WorkerDied,
    /// A task was handed out again.
    Redelivered,
    /// The reactor began again at an earlier event.
    ReactorRewound,
    /// A command was answered from its id.
    Deduplicated,
    /// Time jumped while something else could have happened.
    TimeJump,
    /// An execution was paused.
    Paused,
    /// An execution was cancelled.
    Cancelled,
    /// An execution was terminated.
    Terminated,
}

/// How often each fault happened.
pub type Injected = BTreeMap<Fault, u64>;

/// Chances in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) crash: u64,
    pub(crate) takeover: u64,
    pub(crate) worker_dies: u64,
    pub(crate) rewind: u64,
    pub(crate) jump: u64,
}

impl Rates {
    /// Rates for one scenario: some faults often, some never, so that each is also seen without the others.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut rate = |most: u64| if random.chance(50) { random.below(most + 1) } else { 0 };
        Self {
            drop: rate(15),
            duplicate: rate(20),
            crash: rate(12),
            takeover: rate(5),
            worker_dies: rate(20),
            rewind: rate(5),
            jump: if random.chance(10) { 3 } else { 0 },
        }
    }
}
