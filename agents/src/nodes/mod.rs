//! The node types that workers carry out: one file each, and the registry that finds them.
//!
//! Invariant: an executor may be dropped at any await, at the deadline or when it is asked to stop, and must leave
//! nothing behind. Absent: deadlines, beats and reports, which are the runtime's, and configuration's form, which
//! `domain` has checked as far as templates allow.

pub mod condition;
pub mod http_request;

use async_trait::async_trait;
use bus::Task;
use domain::execution::event::NodeError;
use domain::node_type::NodeType;
use serde_json::Value;
use std::sync::Arc;
use tokio::time::Instant;

use crate::circuit::{CircuitCounts, Circuits, Rules};
use crate::config::AgentsConfig;
use crate::error::Error;

pub use condition::ConditionExecutor;
pub use http_request::HttpRequestExecutor;

/// What an executor is given.
pub struct NodeContext<'a> {
    /// The attempt.
    pub task: &'a Task,
    /// The configuration, with nothing left to resolve. Holds secrets: never log it, never repeat it in an error.
    pub config: Value,
    /// When the attempt must be done; the runtime drops the executor then.
    pub deadline: Instant,
}

/// What an executor's configuration is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigForm {
    /// Typed parts, in which credentials may be named.
    Parts,
    /// Data, in which nothing means more than it is.
    Data,
}

/// Carries out nodes of one type.
#[async_trait]
pub trait NodeExecutor: Send + Sync {
    /// What the engine makes its configuration of.
    fn config_form(&self) -> ConfigForm {
        ConfigForm::Parts
    }

    /// One attempt: the output, or why there is none.
    async fn execute(&self, context: NodeContext<'_>) -> Result<Value, NodeError>;
}

/// Which executor carries out which type.
#[derive(Clone, Default)]
pub struct Executors {
    by_type: Vec<(NodeType, Arc<dyn NodeExecutor>)>,
    circuits: CircuitCounts,
}

impl Executors {
    /// All node types of this build.
    pub fn standard(config: &AgentsConfig) -> Result<Self, Error> {
        let circuits = Circuits::new(Rules::of(config));
        let counts = circuits.counts();
        let http_request = HttpRequestExecutor::new(&config.egress, config.slots, circuits)?;
        let condition = ConditionExecutor::new(&config.sandbox);
        Ok(Self { circuits: counts, ..Self::default() }
            .with(NodeType::HttpRequest, Arc::new(http_request))
            .with(NodeType::Condition, Arc::new(condition)))
    }

    /// The same with `executor` for `node_type`.
    pub fn with(mut self, node_type: NodeType, executor: Arc<dyn NodeExecutor>) -> Self {
        self.by_type.retain(|(known, _)| *known != node_type);
        self.by_type.push((node_type, executor));
        self
    }

    /// The types, for pulling.
    pub fn types(&self) -> Vec<NodeType> {
        self.by_type.iter().map(|(node_type, _)| *node_type).collect()
    }

    /// What the circuit breakers of calls have done.
    pub fn circuits(&self) -> CircuitCounts {
        self.circuits.clone()
    }

    pub(crate) fn get(&self, node_type: NodeType) -> Option<&dyn NodeExecutor> {
        let (_, executor) = self.by_type.iter().find(|(known, _)| *known == node_type)?;
        Some(executor.as_ref())
    }
}
