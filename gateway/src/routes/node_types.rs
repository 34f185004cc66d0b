//! `/node-types`: what a definition's nodes can be.

use axum::response::Response;
use domain::node_type::{NodeType, RunsIn};
use serde_json::{Value, json};

use crate::answer::List;
use crate::failure::Failure;
use crate::request::{Caller, Query};
use crate::schemas;

/// The node types that this release runs.
#[utoipa::path(get, path = "/node-types", tag = "workflows",
    responses((status = 200, description = "All of them.", body = schemas::NodeTypeList)))]
pub(crate) async fn list(caller: Caller, query: Query) -> Result<Response, Failure> {
    caller.may_kind("expression")?;
    query.only(&["limit", "cursor"])?;
    List { items: NodeType::ALL.into_iter().map(describe).collect(), next_cursor: None }.answer(&query.uri)
}

fn describe(node_type: NodeType) -> Value {
    let (description, handles): (&str, &[&str]) = match node_type {
        NodeType::Start => ("Where an execution begins; its output is the input.", &[]),
        NodeType::End => ("Where an execution ends; `output` is rendered.", &[]),
        NodeType::Transform => ("Renders `output`: any JSON with templates.", &[]),
        NodeType::Condition => ("Leaves by `true` or `false`, as `expression` says.", &["true", "false"]),
        NodeType::Switch => ("Leaves by the name of the first case that is true.", &["default"]),
        NodeType::Delay => ("Waits for `duration_ms`, or until `until`.", &[]),
        NodeType::HttpRequest => ("Calls an HTTP server and gives its answer.", &[]),
        NodeType::Parallel => {
            ("Runs each graph of `branches` at the same time; gives their outputs in order.", &[])
        }
        NodeType::Loop => (
            "Runs the graph `body` for each item of `over`, or `while` a condition holds; gives their outputs in order.",
            &[],
        ),
        NodeType::Merge => {
            ("Goes on after `all` or `any` of its inputs, or a `count` of them; gives what they gave.", &[])
        }
        NodeType::Wait => (
            "Waits for a signal, an approval or an event, or `any` or `all` of several; gives the payload.",
            &[],
        ),
        NodeType::SubWorkflow => ("Runs another workflow and gives its output.", &[]),
        NodeType::Fail => ("Stops with `message` as the error.", &[]),
        NodeType::Respond => ("Answers the webhook that started the execution.", &[]),
        NodeType::EmitEvent => {
            ("Writes an event of the author's `type`, which others can wait for; gives its id.", &[])
        }
    };
    let runs_in = match node_type.runs_in() {
        RunsIn::Engine => "engine",
        RunsIn::Worker => "worker",
    };
    json!({ "type": node_type, "runs_in": runs_in, "description": description, "handles": handles })
}
