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
    /// Several graphs at the same time.
    Parallel,
    /// A graph for each item, or while a condition holds.
    Loop,
    /// Joins branches, not always all of them.
    Merge,
    /// Waits for signals, approvals or events.
    Wait,
    /// Another workflow as a step of this one.
    SubWorkflow,
    /// Stops with an error.
    Fail,
    /// Answers a waiting webhook.
    Respond,
    /// Writes an event for others.
    EmitEvent,
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
    pub const ALL: [Self; 15] = [
        Self::Start,
        Self::End,
        Self::Transform,
        Self::Condition,
        Self::Switch,
        Self::Delay,
        Self::HttpRequest,
        Self::Parallel,
        Self::Loop,
        Self::Merge,
        Self::Wait,
        Self::SubWorkflow,
        Self::Fail,
        Self::Respond,
        Self::EmitEvent,
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
            Self::Parallel => "parallel",
            Self::Loop => "loop",
            Self::Merge => "merge",
            Self::Wait => "wait",
            Self::SubWorkflow => "sub_workflow",
            Self::Fail => "fail",
            Self::Respond => "respond",
            Self::EmitEvent => "emit_event",
        }
    }

    /// Whether its paths are scopes of further nodes.
    pub fn is_container(self) -> bool {
        matches!(self, Self::Parallel | Self::Loop)
    }

    /// Whether a node of this type may be named in another's `compensate`.
    pub fn can_compensate(self) -> bool {
        match self {
            Self::Transform | Self::Delay | Self::HttpRequest | Self::EmitEvent | Self::SubWorkflow => true,
            Self::Start
            | Self::End
            | Self::Condition
            | Self::Switch
            | Self::Parallel
            | Self::Loop
            | Self::Merge
            | Self::Wait
            | Self::Fail
            | Self::Respond => false,
        }
    }

    /// Who carries it out; a `condition` in JavaScript goes to a worker all the same.
    pub fn runs_in(self) -> RunsIn {
        match self {
            Self::Start
            | Self::End
            | Self::Transform
            | Self::Condition
            | Self::Switch
            | Self::Delay
            | Self::Parallel
            | Self::Loop
            | Self::Merge
            | Self::Wait
            | Self::SubWorkflow
            | Self::Fail
            | Self::Respond
            | Self::EmitEvent => RunsIn::Engine,
            Self::HttpRequest => RunsIn::Worker,
        }
    }
}

/// Node types of the format that this build refuses: they come in later releases.
pub const PLANNED: [&str; 16] = [
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
