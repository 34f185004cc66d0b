//! SIGINT and SIGTERM: the first asks for a graceful end, the second ends the process at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

/// Both signals, caught from the moment that this is made.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Waits for one of them and gives its number.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }

    /// Does the last work of the process, unless another signal comes first.
    ///
    /// # Errors
    /// The other signal; the work is given up.
    pub async fn unless_repeated<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = work => Ok(done),
            number = self.next() => Err(Failure::Signal(number)),
        }
    }
}
