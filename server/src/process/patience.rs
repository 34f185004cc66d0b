//! Waiting at the start for what other programs provide, so that the order in which everything starts does not matter.

use std::time::Duration;
use tokio::time::Instant;

use super::StartError;

/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How long a start may still wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    limit: Duration,
    until: Instant,
}

/// Whether another attempt may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hope {
    /// It may: nobody answers, or not yet.
    Yes,
    /// It fails in the same way for ever.
    No,
}

impl Patience {
    /// From now on.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, until: Instant::now() + limit }
    }

    /// Attempts something until it succeeds, fails for good, or the time is over. `what` names what does not answer;
    /// it is at least tried once.
    pub(crate) async fn wait_for<T, E, F>(
        &self,
        what: &str,
        hope: impl Fn(&E) -> Hope,
        mut attempt: impl FnMut() -> F,
    ) -> anyhow::Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let reason = match tokio::time::timeout_at(
                self.until.max(Instant::now() + FIRST_PAUSE),
                attempt(),
            )
            .await
            {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) if hope(&error) == Hope::No => return Err(error.into()),
                Ok(Err(error)) => format!("{:#}", anyhow::Error::new(error)),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() + pause >= self.until {
                let waited_ms = self.limit.as_millis();
                return Err(StartError::Unavailable { what: what.to_owned(), waited_ms, reason }.into());
            }
            tracing::warn!(dependency = what, reason, "it cannot be used yet; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io;

    fn refused() -> io::Error {
        io::Error::from(io::ErrorKind::ConnectionRefused)
    }

    #[tokio::test(start_paused = true)]
    async fn what_answers_late_is_waited_for() {
        let attempts = Cell::new(0);
        let patience = Patience::new(Duration::from_secs(30));
        let found = patience.wait_for(
            "the store",
            |_| Hope::Yes,
            || async {
                attempts.set(attempts.get() + 1);
                if attempts.get() < 4 { Err(refused()) } else { Ok(attempts.get()) }
            },
        );
        assert_eq!(found.await.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_answers_is_named_with_the_last_reason_in_time() {
        let begun = Instant::now();
        let patience = Patience::new(Duration::from_secs(30));
        let error = patience.wait_for("the store", |_| Hope::Yes, || async { Err::<(), _>(refused()) }).await;
        let error = error.unwrap_err();
        assert!(error.is::<StartError>(), "{error:#}");
        let text = error.to_string();
        assert!(text.contains("the store") && text.contains("connection refused"), "{text}");
        let silent =
            patience.wait_for("the bus", |_: &io::Error| Hope::Yes, std::future::pending::<Result<(), _>>);
        assert!(silent.await.unwrap_err().to_string().contains("no answer"));
        assert!(begun.elapsed() <= Duration::from_secs(31));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_get_better_is_told_at_once() {
        let begun = Instant::now();
        let patience = Patience::new(Duration::from_secs(30));
        let error = patience.wait_for("the store", |_| Hope::No, || async { Err::<(), _>(refused()) }).await;
        assert!(error.unwrap_err().is::<io::Error>());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
