//! The kinds of node, and where each runs.

use serde::{Deserialize, Serialize};

/// The type of a node that this build runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeType {
    /// Where an execution begins.
    Start,
    /// Where it ends, with an output.
    End,
    /// Renders JSON.
    Transform,
    /// Two ways on.
    Condition,
    /// One way on of several.
    Switch,
    /// A pause.
    Delay,
    /// A call to an HTTP server.
    HttpRequest,
}

/// Who carries a node out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsIn {
    /// The engine, at once or by a timer.
    Engine,
    /// A worker, by a task.
    Worker,
}

impl NodeType {
    /// Every type that this build runs.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::End,
        Self::Transform,
        Self::Condition,
        Self::Switch,
        Self::Delay,
        Self::HttpRequest,
    ];

    /// The name in definitions and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Transform => "transform",
            Self::Condition => "condition",
            Self::Switch => "switch",
            Self::Delay => "delay",
            Self::HttpRequest => "http_request",
        }
    }

    /// Who carries it out.
    pub fn runs_in(self) -> RunsIn {
        match self {
            Self::Start | Self::End | Self::Transform | Self::Condition | Self::Switch | Self::Delay => {
                RunsIn::Engine
            }
            Self::HttpRequest => RunsIn::Worker,
        }
    }
}

/// Node types of the format that this build refuses: they come in later releases.
pub const PLANNED: [&str; 24] = [
    "parallel",
    "loop",
    "merge",
    "wait",
    "sub_workflow",
    "fail",
    "respond",
    "emit_event",
    "code",
    "database",
    "email",
    "slack",
    "webhook",
    "extract",
    "crypto",
    "date",
    "object",
    "llm",
    "agent",
    "multi_agent",
    "tool",
    "embed",
    "vector_upsert",
    "vector_search",
];
