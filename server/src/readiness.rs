//! What `/readyz` and `/metrics` say about the parts of this process.

use agents::CircuitCounts;
use async_trait::async_trait;
use bus::nats::NatsBus;
use command_service::CommandServiceHandle;
use event_store::Store;
use gateway::{Dependency, Readiness};
use projection_service::ProjectionHandle;
use read_models::{MAIN_PROJECTION, ReadModels};
use std::fmt::Write;

/// Failures in a row after which the projection counts as not working; fewer mend themselves.
const FAILING: u64 = 3;

/// What NATS is for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    /// Without it the process cannot do its work.
    Needed,
    /// Without it something is slower, or later.
    Useful,
}

/// The parts of one process that serves; those that its roles do not have are absent.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) read_models: Option<ReadModels>,
    pub(crate) projections: Option<ProjectionHandle>,
    pub(crate) nats: Option<NatsBus>,
    /// What `nats` is for it.
    pub(crate) bus: Bus,
    /// Where this process owns partitions.
    pub(crate) owner: Option<CommandServiceHandle>,
    /// Where this process calls targets.
    pub(crate) circuits: Option<CircuitCounts>,
}

#[async_trait]
impl Readiness for Parts {
    async fn check(&self) -> Vec<Dependency> {
        let (log, models) = tokio::join!(self.log(), self.models());
        let projections = self.projections.as_ref().map(|handle| {
            dependency("projections", handle.failures() < FAILING, "they fail and are started again")
        });
        [Some(log), models, projections, self.connection(), self.ownership()].into_iter().flatten().collect()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_metrics(&mut text);
        text
    }
}

impl Parts {
    async fn log(&self) -> Dependency {
        if let Err(error) = self.store.reader.heads().await {
            tracing::error!("the log does not answer: {error}");
            return dependency("log", false, "it does not answer");
        }
        let refused = self.store.health.refuses_writes().await;
        if let Some(reason) = &refused {
            tracing::error!("the log refuses writes: {reason}");
        }
        dependency("log", refused.is_none(), "it refuses writes; is the disk full?")
    }

    async fn models(&self) -> Option<Dependency> {
        let models = self.read_models.as_ref()?.checkpoints(MAIN_PROJECTION).await.err();
        if let Some(error) = &models {
            tracing::error!("the read models do not answer: {error}");
        }
        Some(dependency("read_models", models.is_none(), "they do not answer"))
    }

    fn connection(&self) -> Option<Dependency> {
        let connected = self.nats.as_ref()?.status().connected;
        let ready = connected || self.bus == Bus::Useful;
        let detail = (!connected).then(|| "NATS is not connected".to_owned());
        Some(Dependency { name: "bus", ready, detail })
    }

    /// Whether this node counts as alive, so that partitions come to it and stay.
    fn ownership(&self) -> Option<Dependency> {
        let owner = self.owner.as_ref()?;
        Some(dependency(
            "ownership",
            owner.last_beat_succeeded(),
            "its sign of life did not reach the database",
        ))
    }

    fn write_metrics(&self, out: &mut String) -> std::fmt::Result {
        if let Some(owner) = &self.owner {
            write_owned(owner, out)?;
        }
        if let Some(circuits) = &self.circuits {
            write_circuits(circuits, out)?;
        }
        let Some(projections) = &self.projections else { return Ok(()) };
        let lag = projections.lag();
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
            ("everline_projection_events_total", "Events projected since the start.", projections.events()),
            ("everline_projection_batches_total", "Transactions since the start.", projections.batches()),
            (
                "everline_projection_parked_streams_total",
                "Streams parked since the start.",
                projections.parked(),
            ),
        ];
        for (name, help, value) in counters {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}

/// What this process owns, and how far its relay is.
fn write_owned(owner: &CommandServiceHandle, out: &mut String) -> std::fmt::Result {
    let name = "everline_commands_in_flight";
    writeln!(
        out,
        "# HELP {name} Commands that were taken in and are not answered yet.\n# TYPE {name} gauge"
    )?;
    writeln!(out, "{name} {}", owner.commands_in_flight())?;
    let owned = owner.owned();
    let name = "everline_partition_epoch";
    writeln!(out, "# HELP {name} Epoch of each partition that this process owns.\n# TYPE {name} gauge")?;
    for held in &owned {
        writeln!(out, "{name}{{partition=\"{}\"}} {}", held.partition, held.epoch)?;
    }
    let name = "everline_relay_lag_events";
    writeln!(out, "# HELP {name} Events that are not published for subscribers yet.\n# TYPE {name} gauge")?;
    for held in &owned {
        if let Some(relayed) = held.relayed {
            let lag = held.head.saturating_sub(relayed);
            writeln!(out, "{name}{{partition=\"{}\"}} {lag}", held.partition)?;
        }
    }
    Ok(())
}

fn dependency(name: &'static str, ready: bool, trouble: &str) -> Dependency {
    Dependency { name, ready, detail: (!ready).then(|| trouble.to_owned()) }
}

/// Targets that workers of this process do not call for a while, because they fail.
fn write_circuits(circuits: &CircuitCounts, out: &mut String) -> std::fmt::Result {
    let counters = [
        (
            "everline_circuit_opened_total",
            "How often calls to a failing target were paused, or paused again.",
            circuits.opened(),
        ),
        (
            "everline_circuit_closed_total",
            "How often calls to such a target were resumed.",
            circuits.closed(),
        ),
        ("everline_circuit_refused_calls_total", "Calls that were not made for it.", circuits.refused()),
    ];
    for (name, help, value) in counters {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}")?;
    }
    Ok(())
}
