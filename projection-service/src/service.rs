//! The loop: from the checkpoints, by the log and then by the feed, one transaction per batch.
//!
//! Start-up, normal running and every recovery are the same path: read the checkpoints, be behind everywhere,
//! page the log until nothing is left, take the feed where it follows on. The feed is subscribed to before the
//! first page is read, so that nothing falls between the two. Whatever fails, the next round begins there again.
//! Checkpoints beyond the end of the log end it: they are of another log, or of a later state of this one. A
//! database that is away does not: it is waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use bus::{CommitFeed, FeedMessage, FeedSubscription};
use domain::ids::Partition;
use event_store::LogReader;
use read_models::ReadModels;

use crate::config::ProjectionConfig;
use crate::error::ProjectionError;
use crate::handle::{Progress, ProjectionHandle};
use crate::intake::{Intake, refuse_ahead};
use crate::projector::Projector;

/// Keeps the read models up to the log until it is told to stop.
pub struct ProjectionService {
    config: ProjectionConfig,
    log: Arc<dyn LogReader>,
    feed: Arc<dyn CommitFeed>,
    models: ReadModels,
    progress: Arc<Progress>,
}

impl ProjectionService {
    /// A service that does nothing until it runs.
    pub fn new(
        config: ProjectionConfig,
        log: Arc<dyn LogReader>,
        feed: Arc<dyn CommitFeed>,
        models: ReadModels,
    ) -> Self {
        let progress = Arc::new(Progress::new(log.partitions()));
        Self { config, log, feed, models, progress }
    }

    /// For looking at it while it runs.
    pub fn handle(&self) -> ProjectionHandle {
        ProjectionHandle { progress: Arc::clone(&self.progress) }
    }

    /// Runs until `shutdown`; the batch under way is finished. Fails when something is wrong that another try
    /// does not mend, such as read models that are ahead of the log, or after `max_failures` in a row that were not
    /// for a database that is away.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ProjectionError> {
        let mut follower = Follower {
            subscription: Some(self.feed.subscribe()),
            projector: Projector::new(self.models, self.config.cache_bytes),
            intake: Intake::new(self.log.partitions(), &[], &self.config),
            progress: self.progress,
            log: self.log,
            defects: 0,
            last_commit: None,
            next_check: Instant::now(),
            checked: Vec::new(),
            config: self.config,
        };
        loop {
            let Err(error) = follower.follow(&shutdown).await else { return Ok(()) };
            let pause = follower.pause_after(error)?;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn backoff(config: &ProjectionConfig, failures: u64) -> Duration {
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(20);
    config.min_backoff.saturating_mul(1 << doublings).min(config.max_backoff)
}

struct Follower {
    config: ProjectionConfig,
    log: Arc<dyn LogReader>,
    /// `None` once the bus is shut down: then the log alone is followed.
    subscription: Option<Box<dyn FeedSubscription>>,
    projector: Projector,
    intake: Intake,
    progress: Arc<Progress>,
    /// Failures in a row, without those for a database that was away.
    defects: u32,
    last_commit: Option<Instant>,
    next_check: Instant,
    /// The positions at the last comparison with the log's heads.
    checked: Vec<(Partition, u64)>,
}

impl Follower {
    /// How long to wait before the next try; the error itself if there should be none.
    fn pause_after(&mut self, error: ProjectionError) -> Result<Duration, ProjectionError> {
        if error.is_lost_race() {
            tracing::info!(%error, "the projection goes on from the checkpoints that it finds");
            return Ok(self.config.min_backoff);
        }
        let failures = self.progress.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if !error.is_outage() {
            self.defects += 1;
            if !error.is_transient() || self.defects > self.config.max_failures {
                return Err(error);
            }
        }
        let pause = backoff(&self.config, failures);
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            failures,
            pause_ms = pause.as_millis() as u64,
            "the projection starts again from its checkpoints"
        );
        Ok(pause)
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), ProjectionError> {
        let checkpoints = self.projector.restart().await?;
        refuse_ahead(&checkpoints, &self.log.heads().await?)?;
        self.intake = Intake::new(self.log.partitions(), &checkpoints, &self.config);
        for (partition, offset) in checkpoints {
            self.progress.set_projected(partition, offset);
        }
        self.checked.clear();
        self.next_check = Instant::now();
        while !shutdown.is_cancelled() {
            if Instant::now() >= self.next_check {
                self.compare_with_heads().await?;
            }
            self.hear_waiting().await;
            if self.intake.is_behind() {
                self.intake.page(&*self.log).await?;
                self.commit().await?;
            } else if self.intake.is_full() || (!self.intake.is_empty() && self.due() <= Instant::now()) {
                self.commit().await?;
            } else {
                if self.intake.is_empty() {
                    self.note_success();
                }
                self.wait(shutdown).await;
            }
        }
        self.commit().await
    }

    /// When the next transaction may begin.
    fn due(&self) -> Instant {
        self.last_commit.map_or_else(Instant::now, |at| at + self.config.commit_interval)
    }

    /// Sleeps until there is something to do.
    async fn wait(&mut self, shutdown: &CancellationToken) {
        let due = self.due();
        let until = if self.intake.is_empty() { self.next_check } else { self.next_check.min(due) };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            message = next(&mut self.subscription) => self.hear(message),
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Takes what the feed has ready, as far as the batch has room.
    async fn hear_waiting(&mut self) {
        while !self.intake.is_full() {
            tokio::select! {
                biased;
                message = next(&mut self.subscription) => self.hear(message),
                () = std::future::ready(()) => return,
            }
        }
    }

    fn hear(&mut self, message: Option<FeedMessage>) {
        match message {
            Some(message) => self.intake.hear(&message),
            None => {
                tracing::info!("the commit feed has ended; the projection follows the log alone");
                self.subscription = None;
            }
        }
    }

    /// Finds partitions whose log has gone on while the feed said nothing of them, and read models that went back.
    async fn compare_with_heads(&mut self) -> Result<(), ProjectionError> {
        self.next_check = Instant::now() + self.config.silence;
        let heads = self.log.heads().await?;
        let positions: Vec<_> = self.intake.positions().collect();
        for head in heads {
            self.progress.raise_head(head.partition, head.offset);
            let index = usize::from(head.partition.0);
            let position = positions.get(index).map_or(0, |(_, offset)| *offset);
            let silent = self.checked.get(index).is_none_or(|(_, before)| *before == position);
            if silent && head.offset > position {
                self.intake.mark_behind(head.partition);
            }
        }
        self.checked = positions;
        self.refuse_gone_back().await
    }

    /// A crash of the read models' server may take the last commits along. Were nothing new to happen in their
    /// partitions, nobody else would notice.
    async fn refuse_gone_back(&mut self) -> Result<(), ProjectionError> {
        if !self.intake.is_empty() {
            return Ok(());
        }
        let stored: HashMap<Partition, u64> = self.projector.checkpoints().await?.into_iter().collect();
        for (partition, projected) in self.intake.positions() {
            let stored = stored.get(&partition).copied().unwrap_or(0);
            if stored < projected {
                return Err(ProjectionError::WentBack { partition, projected, stored });
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        if self.intake.is_empty() {
            return Ok(());
        }
        self.last_commit = Some(Instant::now());
        let batch = self.intake.take_batch();
        let trouble = self.projector.project(&*self.log, &batch).await?;
        let progress = &self.progress;
        for advance in batch.advances() {
            progress.raise_head(advance.partition, advance.to);
            progress.set_projected(advance.partition, advance.to);
        }
        progress.events.fetch_add(batch.events() as u64, Ordering::Relaxed);
        progress.batches.fetch_add(1, Ordering::Relaxed);
        progress.parked.fetch_add(trouble.parked, Ordering::Relaxed);
        progress.skipped.fetch_add(trouble.skipped, Ordering::Relaxed);
        self.note_success();
        Ok(())
    }

    /// Everything known is projected, or at least one batch more: whatever failed before is over.
    fn note_success(&mut self) {
        self.defects = 0;
        self.progress.failures.store(0, Ordering::Relaxed);
    }
}

/// The next message; never ready once the feed has ended.
async fn next(subscription: &mut Option<Box<dyn FeedSubscription>>) -> Option<FeedMessage> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}
