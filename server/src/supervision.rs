//! The parts of a process as tasks that are owned: watched while they run, stopped in order, never detached.
//!
//! Invariants: a part that ends without being asked, well or badly, ends the process; stopping is bounded, part by
//! part; dropping the set cuts off what still runs.

use anyhow::{Context, anyhow};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

type Outcome = Result<anyhow::Result<()>, JoinError>;

struct Part {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Running parts, in the order in which they were started; they are stopped in the reverse order.
#[derive(Default)]
pub(crate) struct Parts {
    running: Vec<Part>,
}

impl Parts {
    /// Starts a part. `run` gets the token that asks it to stop.
    pub(crate) fn start<F>(&mut self, name: &'static str, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(stop.clone()));
        self.running.push(Part { name, stop, task });
    }

    /// Waits until a part ends, which none should. Cancel-safe.
    pub(crate) async fn failure(&mut self) -> anyhow::Error {
        poll_fn(|context| {
            for index in 0..self.running.len() {
                if let Poll::Ready(outcome) = Pin::new(&mut self.running[index].task).poll(context) {
                    // A finished task must not be polled again.
                    let part = self.running.remove(index);
                    let unasked = || anyhow!("the {} stopped without being asked", part.name);
                    return Poll::Ready(flatten(part.name, outcome).err().unwrap_or_else(unasked));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Stops the parts, the last one first, each within `limit`. Answers the first that went wrong; the others are
    /// stopped all the same.
    pub(crate) async fn stop(&mut self, limit: Duration) -> anyhow::Result<()> {
        let mut result = Ok(());
        while let Some(mut part) = self.running.pop() {
            part.stop.cancel();
            let ended = match tokio::time::timeout(limit, &mut part.task).await {
                Ok(outcome) => flatten(part.name, outcome),
                Err(_) => Err(anyhow!(
                    "the {} did not stop within {} ms and was cut off",
                    part.name,
                    limit.as_millis()
                )),
            };
            if let Err(error) = ended {
                tracing::warn!(part = part.name, "a part did not stop well: {error:#}");
                result = result.and(Err(error));
            }
        }
        result
    }
}

fn flatten(name: &'static str, outcome: Outcome) -> anyhow::Result<()> {
    outcome.with_context(|| format!("the {name} panicked"))?.with_context(|| format!("the {name} failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn parts_stop_in_the_reverse_order_of_their_start() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut parts = Parts::default();
        for name in ["first", "second", "third"] {
            let order = order.clone();
            parts.start(name, |stop| async move {
                stop.cancelled().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        parts.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["third", "second", "first"]);
    }

    #[tokio::test]
    async fn a_part_that_fails_is_noticed_and_the_others_still_stop() {
        let mut parts = Parts::default();
        parts.start("good part", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        parts.start("bad part", |_| async { Err(anyhow!("no disk")) });
        let error = parts.failure().await;
        assert_eq!(format!("{error:#}"), "the bad part failed: no disk");
        parts.stop(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_does_not_stop_is_cut_off() {
        let mut parts = Parts::default();
        parts.start("deaf part", |_| std::future::pending());
        let error = parts.stop(Duration::from_millis(10)).await.unwrap_err();
        assert!(error.to_string().contains("did not stop within 10 ms"), "{error}");
    }
}
