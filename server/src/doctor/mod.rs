//! `everline doctor`: what a start would find, without changing anything.
//!
//! ```text
//!   configuration ─► disk, log, read models, large values, bus, nodes, clock, the process on this machine ─► findings
//! ```
//!
//! Invariants: every look is bounded in time; one that fails is a finding and keeps no other from being made; secrets
//! are in no finding. Deliberately absent: mending.

mod broker;
mod embedded;
mod machine;
mod shared;
mod values;

use serde_json::{Value, json};
use std::time::Duration;

use crate::config::{Config, DatabaseUrl};

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but not as it could, or somebody should know.
    Warning,
    /// It does not work, or a promise does not hold.
    Broken,
}

impl State {
    /// For people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was seen, and what to do about it.
    pub detail: String,
}

impl Finding {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({"check": self.check, "state": self.state.as_str(), "detail": self.detail})
    }
}

/// Findings on their way to a report.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.0.push(Finding { check, state: State::Ok, detail: detail.into() });
    }

    pub(crate) fn warning(&mut self, check: &'static str, detail: impl Into<String>) {
        self.0.push(Finding { check, state: State::Warning, detail: detail.into() });
    }

    pub(crate) fn broken(&mut self, check: &'static str, detail: impl Into<String>) {
        self.0.push(Finding { check, state: State::Broken, detail: detail.into() });
    }
}

/// Looks at everything that a configuration names.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    findings.ok("configuration", "it can be used");
    machine::look_at_disk(config, &mut findings);
    let partitions = match (config.log_database(), config.read_model_database()) {
        (DatabaseUrl::Postgres(log), DatabaseUrl::Postgres(models)) => {
            shared::look(config, &log, &models, &mut findings).await
        }
        (DatabaseUrl::Sqlite(log), _) => {
            embedded::look(&log, config, &mut findings);
            config.partitions.map(|partitions| partitions.get())
        }
        // The layers refuse it.
        (DatabaseUrl::Postgres(_), DatabaseUrl::Sqlite(_)) => None,
    };
    values::look(config, &mut findings).await;
    match &config.nats_url {
        None => findings.ok("nats", "there is no nats_url: everything stays in one process"),
        Some(url) => {
            broker::look(config, url, partitions.unwrap_or(domain::ids::DEFAULT_PARTITIONS), &mut findings)
                .await;
        }
    }
    machine::look_at_process(config, &mut findings).await;
    findings.0
}

/// An error with its causes, on one line.
fn say(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
