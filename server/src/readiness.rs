//! What `/readyz` and `/metrics` say about the parts of this process.

use async_trait::async_trait;
use event_store::LogReader;
use event_store::sqlite::SqliteLog;
use gateway::{Dependency, Readiness};
use projection_service::ProjectionHandle;
use read_models::{MAIN_PROJECTION, ReadModels};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Failures in a row after which the projection counts as not working; fewer mend themselves.
const FAILING: u64 = 3;

/// How long a trial write may take.
const TRIAL: Duration = Duration::from_secs(2);

/// The parts of one process that serves.
pub(crate) struct Parts {
    pub(crate) log: Arc<SqliteLog>,
    pub(crate) read_models: ReadModels,
    pub(crate) projections: ProjectionHandle,
}

#[async_trait]
impl Readiness for Parts {
    async fn check(&self) -> Vec<Dependency> {
        let log = self.log.heads().await.err();
        let models = self.read_models.checkpoints(MAIN_PROJECTION).await.err();
        if let Some(error) = &log {
            tracing::error!("the log does not answer: {error}");
        }
        let refused = self.refuses_writes().await;
        if let Some(reason) = &refused {
            tracing::error!("the log refuses writes: {reason}");
        }
        if let Some(error) = &models {
            tracing::error!("the read models do not answer: {error}");
        }
        let failing = self.projections.failures() >= FAILING;
        vec![
            match log {
                Some(_) => dependency("log", false, "it does not answer"),
                None => dependency("log", refused.is_none(), "it refuses writes; is the disk full?"),
            },
            dependency("read_models", models.is_none(), "they do not answer"),
            dependency("projections", !failing, "they fail and are started again"),
        ]
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_metrics(&mut text);
        text
    }
}

impl Parts {
    /// Why the log refuses writes, if the last one failed and another would as well.
    ///
    /// Tried here, since nobody sends commands to a process that is not ready: it would stay so.
    async fn refuses_writes(&self) -> Option<String> {
        let reason = self.log.last_write_failed()?;
        match tokio::time::timeout(TRIAL, self.log.try_write()).await {
            Ok(_) => self.log.last_write_failed(),
            Err(_) => Some(reason),
        }
    }

    fn write_metrics(&self, out: &mut String) -> std::fmt::Result {
        let lag = self.projections.lag();
        writeln!(
            out,
            "# HELP everline_log_head_offset Last offset of a partition that the projections know of."
        )?;
        writeln!(out, "# TYPE everline_log_head_offset gauge")?;
        for partition in &lag {
            writeln!(
                out,
                "everline_log_head_offset{{partition=\"{}\"}} {}",
                partition.partition, partition.head
            )?;
        }
        writeln!(out, "# HELP everline_projection_lag_events Events that the read models do not show yet.")?;
        writeln!(out, "# TYPE everline_projection_lag_events gauge")?;
        for partition in &lag {
            let events = partition.events();
            writeln!(
                out,
                "everline_projection_lag_events{{partition=\"{}\"}} {events}",
                partition.partition
            )?;
        }
        let counters = [
            (
                "everline_projection_events_total",
                "Events projected since the start.",
                self.projections.events(),
            ),
            (
                "everline_projection_batches_total",
                "Transactions since the start.",
                self.projections.batches(),
            ),
            (
                "everline_projection_parked_streams_total",
                "Streams parked since the start.",
                self.projections.parked(),
            ),
        ];
        for (name, help, value) in counters {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}

fn dependency(name: &'static str, ready: bool, trouble: &str) -> Dependency {
    Dependency { name, ready, detail: (!ready).then(|| trouble.to_owned()) }
}
