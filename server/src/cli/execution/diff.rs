//! `everline execution diff`.

use clap::Args;
use serde_json::{Value, json};

use super::Id;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::output::{Column, Output};

const DIFFERENCES: &[Column] = &[
    Column("WHERE", "/where"),
    Column("CHANGE", "/change"),
    Column("FIELD", "/field"),
    Column("FROM", "/from"),
    Column("TO", "/to"),
];
/// The most pages of one comparison: an execution has at most so many nodes.
const MAX_PAGES: usize = 1_000;

/// `everline execution diff`
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    execution: Id,
    /// The execution to compare with
    #[arg(long, value_name = "ID", required_unless_present = "from", conflicts_with_all = ["from", "to"])]
    other: Option<String>,
    /// An earlier version of the same execution
    #[arg(long, value_name = "N", requires = "to")]
    from: Option<u64>,
    /// A later version of the same execution
    #[arg(long, value_name = "N", requires = "from")]
    to: Option<u64>,
}

pub(super) async fn run(client: &Client, args: DiffArgs, output: Output) -> Result<(), Failure> {
    let (path, query) = match (&args.other, args.from, args.to) {
        (Some(other), ..) => (args.execution.path(&format!("/diff/{}", segment(other))), Vec::new()),
        (None, from, to) => {
            let versions = [("from", from), ("to", to)];
            let query = versions.into_iter().filter_map(|(name, n)| Some((name, n?.to_string())));
            (args.execution.path("/diff"), query.collect())
        }
    };
    let diff = whole(client, &path, query).await?;
    if !output.for_people() {
        return output.thing(&diff);
    }
    let rows = rows(&diff);
    if rows.is_empty() { output.say("nothing differs") } else { output.list(&rows, DIFFERENCES) }
}

/// The comparison with the nodes of all its pages.
async fn whole(client: &Client, path: &str, query: Vec<(&str, String)>) -> Result<Value, Failure> {
    let mut diff = client.get(path, &query).await?.body;
    for _ in 0..MAX_PAGES {
        let Some(cursor) = diff.get("next_cursor").and_then(Value::as_str).map(str::to_owned) else { break };
        let mut query = query.clone();
        query.push(("cursor", cursor));
        let mut page = client.get(path, &query).await?.body;
        diff["next_cursor"] = page["next_cursor"].take();
        if let (Some(nodes), Value::Array(more)) =
            (diff.get_mut("nodes").and_then(Value::as_array_mut), page["nodes"].take())
        {
            nodes.extend(more);
        }
    }
    Ok(diff)
}

/// A row for each field that differs.
fn rows(diff: &Value) -> Vec<Value> {
    let mut rows = fields("(execution)", "changed", diff.get("execution"));
    for node in diff.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| node.get(field).and_then(Value::as_str).unwrap_or_default();
        rows.extend(fields(text("id"), text("change"), node.get("fields")));
    }
    rows
}

fn fields(place: &str, change: &str, fields: Option<&Value>) -> Vec<Value> {
    let fields = fields.and_then(Value::as_object).into_iter().flatten();
    fields
        .map(|(name, both)| {
            json!({"where": place, "change": change, "field": name, "from": both["from"], "to": both["to"]})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_differs_has_a_row() {
        let both = |from: Value, to: Value| json!({"from": from, "to": to});
        let diff = json!({
            "execution": {"status": both(json!("completed"), json!("failed"))},
            "nodes": [{"id": "a", "type": "transform", "change": "changed",
                "fields": {"output": both(json!(1), json!(2)), "run": both(json!(1), json!(3))}}],
        });
        let rows = rows(&diff);
        let places: Vec<_> = rows.iter().map(|row| (row["where"].clone(), row["field"].clone())).collect();
        assert_eq!(
            places,
            [
                (json!("(execution)"), json!("status")),
                (json!("a"), json!("output")),
                (json!("a"), json!("run"))
            ]
        );
        assert_eq!(rows[2]["to"], 3);
    }
}
