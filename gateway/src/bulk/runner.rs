//! The runner: takes jobs that nobody has, and does them a page at a time.

use bus::CommandReply;
use domain::access::Grant;
use domain::bulk::command::BulkCommand;
use domain::bulk::event::BulkFailure;
use domain::command::{Command, CommandEnvelope};
use domain::execution::view::ExecutionView;
use domain::identity::bootstrap_admin_id;
use domain::ids::{Actor, Slot, new_id};
use domain::time::Timestamp;
use event_store::log::StoreError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use read_models::BulkJobRow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::acts;
use super::request::stored_filter;
use super::viewer;
use crate::access::includes;
use crate::app::App;
use crate::failure::Failure;
use crate::sending::deliver;

/// How often jobs are looked for that nobody has told of.
const LOOK: Duration = Duration::from_secs(1);
/// Jobs that one gateway does at once.
const MAX_JOBS: usize = 4;
/// The most executions of a page.
const MAX_PAGE: u32 = 100;
/// The longest that a page is meant to take, in seconds: then the job is reported on, and a cancellation is heard of.
const PAGE_S: u32 = 2;
/// Acts of a job that are under way at once.
const AT_ONCE: usize = 8;

/// Does jobs until the process stops. What is under way then is left where another runner finds it.
pub(crate) async fn run(app: Arc<App>) {
    let runner = new_id(app.clock.now(), Slot::from_bits(0), crate::random::number());
    let mut jobs: JoinSet<Uuid> = JoinSet::new();
    let mut busy = HashSet::new();
    loop {
        tokio::select! {
            () = app.draining.cancelled() => break,
            () = app.bulk_asked.notified() => {}
            Some(done) = jobs.join_next(), if !jobs.is_empty() => {
                match done {
                    Ok(job) => drop(busy.remove(&job)),
                    // Which of them it was is not known; its lease runs out.
                    Err(error) => tracing::error!(%error, "a bulk job's runner panicked; this is a bug"),
                }
                continue;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let found = match app.models.unfinished_bulk_jobs(100).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "bulk jobs could not be looked for");
                continue;
            }
        };
        let now = app.clock.now();
        for job in found {
            let free = job.lease.is_none_or(|(holder, until)| holder == runner || until <= now);
            if free && jobs.len() < MAX_JOBS && busy.insert(job.id) {
                let app = app.clone();
                jobs.spawn(async move {
                    let id = job.id;
                    if let Err(error) = (Run { app: &app, runner, job }).go().await {
                        tracing::info!(bulk.id = %id, %error, "a bulk job is left to its next runner");
                    }
                    id
                });
            }
        }
    }
    while jobs.join_next().await.is_some() {}
}

/// Why a runner gave a job up.
#[derive(Debug, thiserror::Error)]
enum GivenUp {
    /// The job is somebody else's, or over.
    #[error("the job refused its runner: {0}")]
    Refused(String),
    /// Something did not answer.
    #[error("{0}")]
    Failed(String),
    /// The process stops.
    #[error("the process stops")]
    Stopping,
}

impl From<Failure> for GivenUp {
    fn from(failure: Failure) -> Self {
        if failure.status.is_server_error() {
            Self::Failed(failure.detail)
        } else {
            Self::Refused(failure.detail)
        }
    }
}

/// A job in the hands of a runner.
struct Run<'a> {
    app: &'a App,
    runner: Uuid,
    job: BulkJobRow,
}

impl Run<'_> {
    /// From where it is to its end.
    async fn go(mut self) -> Result<(), GivenUp> {
        let leased = self.tell(BulkCommand::Lease { runner: self.runner, until: self.until() }).await?;
        // The read model may show an older page than the log.
        let cursor = leased.answer.get("cursor").and_then(|cursor| cursor.as_str()?.parse::<Uuid>().ok());
        let mut below = cursor.unwrap_or_else(|| next_after(self.job.upper));
        let Some(filter) = stored_filter(&self.job.filter) else {
            return Err(GivenUp::Failed("its filter is not understood by this version".to_owned()));
        };
        let size = (self.job.per_second * PAGE_S).clamp(1, MAX_PAGE) as usize;
        loop {
            self.job.acting.grants = self.grants_left().await?;
            if self.job.acting.grants.is_empty() {
                let reason = "whoever asked for it may not do this any more";
                self.tell(BulkCommand::Cancel { reason: Some(reason.to_owned()) }).await?;
                tracing::info!(bulk.id = %self.job.id, reason, "bulk job ended");
                return Ok(());
            }
            let viewer = viewer(&self.job.tenant, &self.job.acting);
            let page = self.app.models.executions(&viewer, &filter, Some(below), size).await;
            let page = page.map_err(|error| GivenUp::Failed(error.to_string()))?;
            let last_item = page.items.last().map(|item| item.id);
            let failed = self.act_on(page.items.as_slice()).await?;
            below = page.next.or(last_item).unwrap_or(below);
            let report = BulkCommand::Report {
                runner: self.runner,
                cursor: below,
                done: (page.items.len() - failed.len()) as u64,
                failed,
                until: self.until(),
                last: page.next.is_none(),
            };
            self.tell(report).await?;
            if page.next.is_none() {
                tracing::info!(bulk.id = %self.job.id, "bulk job completed");
                return Ok(());
            }
        }
    }

    /// What the job may act with, as far as its asker still has it: a job goes on for hours, and whoever is disabled,
    /// deleted or given another role meanwhile acts no more through it.
    async fn grants_left(&self) -> Result<Vec<Grant>, GivenUp> {
        let acting = &self.job.acting;
        let unknown = |error: StoreError| GivenUp::Failed(error.to_string());
        let Some(user) = self.app.directory.user_now(acting.user).await.map_err(unknown)? else {
            // The first administrator is not in the log before somebody answers commands.
            let first = acting.user == bootstrap_admin_id();
            return Ok(if first { acting.grants.clone() } else { Vec::new() });
        };
        if user.tenant != self.job.tenant {
            return Ok(Vec::new());
        }
        let now = self.app.directory.grants(&user).await.map_err(unknown)?;
        let left = acting.grants.iter().filter(|grant| now.iter().any(|have| includes(have, grant)));
        Ok(left.cloned().collect())
    }

    /// Acts on a page, no faster than the job may. Those that refused.
    async fn act_on(&self, items: &[ExecutionView]) -> Result<Vec<BulkFailure>, GivenUp> {
        let began = Instant::now();
        let pause = Duration::from_secs(1) / self.job.per_second.max(1);
        let acts: Vec<BoxFuture<'_, _>> = items
            .iter()
            .zip(0..)
            .map(|(one, number)| self.act(one, began + pause * number).boxed())
            .collect();
        let mut acts = stream::iter(acts).buffered(AT_ONCE);
        let mut failed = Vec::new();
        while let Some(done) = acts.next().await {
            match done {
                Ok(refused) => failed.extend(refused),
                Err(GivenUp::Stopping) => {
                    // Another gateway need not wait for the lease to run out.
                    let now = self.app.clock.now();
                    drop(self.tell(BulkCommand::Lease { runner: self.runner, until: now }).await);
                    return Err(GivenUp::Stopping);
                }
                Err(error) => return Err(error),
            }
        }
        // The last of a page has its time too, so that pages do not follow faster than acts.
        let rest = began + pause * u32::try_from(items.len()).unwrap_or(u32::MAX);
        tokio::select! {
            () = tokio::time::sleep_until(rest) => {}
            () = self.app.draining.cancelled() => {}
        }
        Ok(failed)
    }

    /// One act, when its time has come. How it was refused, if it was.
    async fn act(&self, execution: &ExecutionView, at: Instant) -> Result<Option<BulkFailure>, GivenUp> {
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = self.app.draining.cancelled() => return Err(GivenUp::Stopping),
        }
        match deliver(self.app, &acts::command(&self.job, execution)).await {
            Ok(_) => Ok(None),
            Err(failure) if failure.status.is_server_error() => Err(GivenUp::Failed(failure.detail)),
            Err(failure) => {
                Ok(Some(BulkFailure { execution_id: execution.id, code: failure.code.into_owned() }))
            }
        }
    }

    fn until(&self) -> Timestamp {
        self.app.clock.now().plus_ms(u64::from(self.app.config.bulk_lease_ms))
    }

    /// Tells the job something.
    async fn tell(&self, command: BulkCommand) -> Result<CommandReply, GivenUp> {
        let slot = Slot::of(self.job.id);
        let id = new_id(self.app.clock.now(), slot, crate::random::number());
        let envelope = CommandEnvelope {
            id,
            tenant: self.job.tenant.clone(),
            actor: Actor::system("bulk"),
            stream: self.job.id,
            correlation_id: self.job.id,
            causation_id: id,
            authority: None,
            traceparent: None,
            digest: None,
            command: Command::Bulk(command),
        };
        Ok(deliver(self.app, &envelope).await?)
    }
}

/// The id right after another, so that a walk below it finds the other.
fn next_after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}
