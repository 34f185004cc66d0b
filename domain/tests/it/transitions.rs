//! The transition tables at the top of `state.rs`, walked arrow by arrow, and held against everything that the other
//! tests let happen: what the tables do not have must not occur, and what they have must be what the fold does.

use domain::aggregate::AggregateState;
use domain::event::{CATALOGUE, Event, ExecutionEvent};
use domain::execution::{ExecutionState, NodeStatus, Phase, evolve};
use domain::time::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

/// Cells by row and column; a row or column that stands for several names has each of them.
struct Table {
    rows: BTreeSet<String>,
    cells: BTreeMap<(String, String), Vec<String>>,
}

static TABLES: LazyLock<[Table; 2]> = LazyLock::new(|| {
    let lines: Vec<&str> = include_str!("../../src/execution/state.rs")
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let mut tables =
        lines.split(|line| !line.starts_with("//! |")).filter(|lines| !lines.is_empty()).map(parse);
    let both = [tables.next().expect("the table of phases"), tables.next().expect("the table of nodes")];
    assert!(tables.next().is_none(), "a third table");
    both
});

fn phases() -> &'static Table {
    &TABLES[0]
}

fn nodes() -> &'static Table {
    &TABLES[1]
}

fn parse(lines: &[&str]) -> Table {
    let split = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches("//! |").trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let header = split(lines[0]);
    let mut table = Table { rows: BTreeSet::new(), cells: BTreeMap::new() };
    for line in &lines[2..] {
        let cells = split(line);
        assert_eq!(cells.len(), header.len(), "{line}");
        for row in cells[0].split(", ") {
            table.rows.insert(row.to_owned());
            for (columns, cell) in header.iter().zip(&cells).skip(1) {
                let results: Vec<String> = results_of(cell);
                for column in columns.split(" · ") {
                    table.cells.insert((row.to_owned(), column.to_owned()), results.clone());
                }
            }
        }
    }
    table
}

/// `pending, iterating (a container)` → `pending`, `iterating`; `–` → nothing.
fn results_of(cell: &str) -> Vec<String> {
    let (mut names, mut depth) = (String::new(), 0_u32);
    for letter in cell.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => names.push(letter),
            _ => {}
        }
    }
    names.split(',').map(|name| name.trim().to_owned()).filter(|name| name != "–").collect()
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::NotStarted => "not started",
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Compensating => "compensating",
        Phase::Finished(_) => "finished",
    }
}

pub(crate) fn status_name(status: &NodeStatus) -> &'static str {
    match status {
        NodeStatus::Pending => "pending",
        NodeStatus::Scheduled { .. } => "scheduled",
        NodeStatus::Running { .. } => "running",
        NodeStatus::Iterating => "iterating",
        NodeStatus::Waiting { .. } => "waiting",
        NodeStatus::Failed { .. } => "failed",
        NodeStatus::BackingOff { .. } => "backing off",
        NodeStatus::Due { .. } => "due",
        NodeStatus::Completed { .. } => "completed",
        NodeStatus::Skipped => "skipped",
        NodeStatus::Cancelled => "cancelled",
    }
}

fn status_at(state: &ExecutionState, path: &str) -> &'static str {
    state.nodes.get(path).map_or("pending", |node| status_name(&node.status))
}

/// The columns of an event in the table of phases and in that of nodes.
fn columns_of(event: &ExecutionEvent) -> (Option<&'static str>, Option<&'static str>) {
    const NODE: Option<&str> = Some("any node event");
    match event {
        ExecutionEvent::Started(_) => (Some("started"), None),
        ExecutionEvent::Forked(_) => (Some("forked"), None),
        ExecutionEvent::Queued(_) => (Some("queued"), None),
        ExecutionEvent::Admitted(_) => (Some("admitted"), None),
        ExecutionEvent::NodeScheduled(_) => (NODE, Some("scheduled")),
        ExecutionEvent::NodeStarted(_) => (NODE, Some("started")),
        ExecutionEvent::NodeWaiting(_) => (NODE, Some("waiting")),
        ExecutionEvent::ChildStarted(_) => (NODE, Some("child.started")),
        ExecutionEvent::NodeRetryScheduled(_) => (NODE, Some("retry_scheduled")),
        ExecutionEvent::TimerFired(_) => (NODE, Some("timer fired")),
        ExecutionEvent::NodeCompleted(_) => (NODE, Some("completed")),
        ExecutionEvent::NodeFailed(_) => (NODE, Some("failed")),
        ExecutionEvent::NodeSkipped(_) => (NODE, Some("skipped")),
        ExecutionEvent::NodeCancelled(_) => (NODE, Some("cancelled")),
        ExecutionEvent::RunStarted(_) => (NODE, Some("run.started")),
        ExecutionEvent::Retried(_) => (Some("retried"), Some("retried")),
        ExecutionEvent::ScopeCompleted(_)
        | ExecutionEvent::TimerStarted(_)
        | ExecutionEvent::TimerCancelled(_)
        | ExecutionEvent::WaitSatisfied(_)
        | ExecutionEvent::ChildFinished(_)
        | ExecutionEvent::ChildCompensated(_)
        | ExecutionEvent::ChildCompensationRequested(_)
        | ExecutionEvent::NodeCompensated(_)
        | ExecutionEvent::NodeDeadLettered(_) => (NODE, None),
        ExecutionEvent::CompensationStarted(_) => (Some("compensation.started"), None),
        ExecutionEvent::CompensationFinished(_) => (Some("compensation.finished"), None),
        ExecutionEvent::Completed(_) => (Some("completed"), None),
        ExecutionEvent::Failed(_) => (Some("failed"), None),
        ExecutionEvent::Cancelled(_) => (Some("cancelled"), None),
        ExecutionEvent::Terminated(_) => (Some("terminated"), None),
        ExecutionEvent::SignalReceived(_)
        | ExecutionEvent::EventEmitted(_)
        | ExecutionEvent::Responded(_)
        | ExecutionEvent::Paused(_)
        | ExecutionEvent::Resumed(_)
        | ExecutionEvent::Warning(_) => (None, None),
    }
}

/// Panics if what an event has made of a state is in neither table. Every test of a scenario goes through here.
pub(crate) fn check(before: &AggregateState, event: &Event, after: &AggregateState) {
    let (Event::Execution(event), AggregateState::Execution(after)) = (event, after) else { return };
    let nothing = ExecutionState::default();
    let before = match before {
        AggregateState::Execution(before) => before,
        _ => &nothing,
    };
    let (phase_column, node_column) = columns_of(event);
    let (from, to) = (phase_name(before.phase), phase_name(after.phase));
    check_arrow(phases(), event, (from, phase_column, to));
    if matches!(event, ExecutionEvent::Forked(_)) {
        // It takes a whole state over.
        return;
    }
    for path in paths_of(event) {
        let (from, to) = (status_at(before, &path), status_at(after, &path));
        check_arrow(nodes(), event, (from, node_column, to));
    }
}

fn check_arrow(table: &Table, event: &ExecutionEvent, (from, column, to): (&str, Option<&str>, &str)) {
    let allowed = match column {
        Some(column) => table.cells.get(&(from.to_owned(), column.to_owned())).cloned(),
        None => Some(vec![from.to_owned()]),
    };
    let allowed =
        allowed.unwrap_or_else(|| panic!("the tables have no row `{from}` or no column {column:?}"));
    assert!(
        allowed.iter().any(|name| name == to),
        "{} took `{from}` to `{to}`; the table in state.rs has {allowed:?}",
        event.event_type()
    );
}

/// The paths of the nodes whose status an event may change.
fn paths_of(event: &ExecutionEvent) -> Vec<String> {
    let data: Value = serde_json::from_slice(&event.encode()).expect("JSON");
    match event {
        ExecutionEvent::RunStarted(e) => e.nodes.clone(),
        ExecutionEvent::Retried(e) => e.nodes.clone(),
        // Its path says what ended the execution.
        ExecutionEvent::Failed(_) | ExecutionEvent::CompensationFinished(_) => Vec::new(),
        _ => data["node_id"].as_str().map(str::to_owned).into_iter().collect(),
    }
}

/// An event of a type with the data of its golden file, where nothing else is said.
fn event(event_type: &str, data: &Value) -> ExecutionEvent {
    let entry =
        CATALOGUE.iter().find(|entry| entry.event_type == event_type).expect("a type of the catalogue");
    let file = format!("tests/golden/{event_type}.{}.json", entry.schema_version);
    let golden = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a golden file");
    let mut whole: Value = serde_json::from_slice(&golden).expect("JSON");
    for (field, value) in data.as_object().expect("fields") {
        whole[field] = value.clone();
    }
    match Event::decode(event_type, entry.schema_version, whole.to_string().as_bytes()) {
        Ok(Event::Execution(event)) => event,
        other => panic!("{event_type}: {other:?}"),
    }
}

/// An event about the first attempt of node `a`.
fn about(event_type: &str, node_type: &str) -> ExecutionEvent {
    event(event_type, &json!({"node_id": "a", "run": 1, "attempt": 1, "node_type": node_type}))
}

fn folded(events: &[ExecutionEvent]) -> ExecutionState {
    let at = Timestamp::from_unix_ms(1_795_000_000_000);
    events.iter().fold(ExecutionState::default(), |state, event| evolve(state, event, at))
}

/// The events of a column of the table of nodes, about node `a`.
fn node_events(row: &str, column: &str) -> Vec<ExecutionEvent> {
    let request = |name: &str| vec![about(name, "http_request")];
    match column {
        "scheduled" => request("execution.node.scheduled"),
        // The engine starts what holds others, a worker what was scheduled.
        "started" if row == "pending" => vec![about("execution.node.started", "loop")],
        "started" => request("execution.node.started"),
        "waiting" => vec![about("execution.node.waiting", "wait"), about("execution.node.waiting", "delay")],
        "child.started" => request("execution.child.started"),
        "retry_scheduled" => request("execution.node.retry_scheduled"),
        "timer fired" => request("execution.timer.fired"),
        "completed" => request("execution.node.completed"),
        "failed" => request("execution.node.failed"),
        "skipped" => request("execution.node.skipped"),
        "cancelled" => request("execution.node.cancelled"),
        "run.started" => vec![event("execution.run.started", &json!({"nodes": ["a"]}))],
        "retried" => vec![event("execution.retried", &json!({"nodes": ["a"], "node_inputs": {}}))],
        other => panic!("no event for column `{other}`"),
    }
}

/// Ways to a row of the table of nodes.
fn ways_to_node(row: &str) -> Vec<Vec<ExecutionEvent>> {
    let of = |names: &[&str]| names.iter().map(|name| about(name, "http_request")).collect::<Vec<_>>();
    let holding = about("execution.node.started", "loop");
    match row {
        "pending" => vec![Vec::new(), vec![event("execution.run.started", &json!({"nodes": ["a"]}))]],
        "scheduled" => vec![of(&["execution.node.scheduled"])],
        "running" => vec![of(&["execution.node.scheduled", "execution.node.started"])],
        "iterating" => vec![vec![holding]],
        "waiting" => vec![vec![about("execution.node.waiting", "wait")], of(&["execution.child.started"])],
        "failed" => vec![
            of(&["execution.node.scheduled", "execution.node.failed"]),
            vec![holding, about("execution.node.failed", "loop")],
        ],
        "backing off" => vec![of(&["execution.node.failed", "execution.node.retry_scheduled"])],
        "due" => {
            vec![of(&["execution.node.failed", "execution.node.retry_scheduled", "execution.timer.fired"])]
        }
        "completed" => vec![of(&["execution.node.completed"])],
        "skipped" => vec![of(&["execution.node.skipped"])],
        "cancelled" => vec![
            of(&["execution.node.scheduled", "execution.node.cancelled"]),
            vec![holding, about("execution.node.cancelled", "loop")],
        ],
        other => panic!("no way to row `{other}`"),
    }
}

/// The events of a column of the table of phases.
fn phase_events(_row: &str, column: &str) -> Vec<ExecutionEvent> {
    let plain = |name: &str| vec![event(name, &json!({}))];
    match column {
        "started"
        | "forked"
        | "queued"
        | "admitted"
        | "compensation.started"
        | "compensation.finished"
        | "completed"
        | "failed"
        | "cancelled"
        | "terminated" => plain(&format!("execution.{column}")),
        "any node event" => {
            let names = CATALOGUE.iter().map(|entry| entry.event_type);
            let of_nodes = names.filter(|name| name.starts_with("execution."));
            let events = of_nodes.map(|name| event(name, &json!({})));
            events.filter(|event| columns_of(event).0 == Some("any node event")).collect()
        }
        "retried" => [false, true]
            .map(|compensation| {
                event("execution.retried", &json!({"nodes": [], "compensation": compensation}))
            })
            .to_vec(),
        other => panic!("no event for column `{other}`"),
    }
}

/// Ways to a row of the table of phases.
fn ways_to_phase(row: &str) -> Vec<Vec<ExecutionEvent>> {
    let of = |names: &[&str]| {
        names.iter().map(|name| event(&format!("execution.{name}"), &json!({}))).collect::<Vec<_>>()
    };
    let by_parent = event("execution.compensation.started", &json!({"cause": {"kind": "by_parent"}}));
    match row {
        "not started" => vec![Vec::new()],
        "running" => vec![of(&["started"]), of(&["forked"]), of(&["started", "queued", "admitted"])],
        "queued" => vec![of(&["started", "queued"])],
        "compensating" => {
            let mut after_the_end = of(&["started", "completed"]);
            after_the_end.push(by_parent);
            vec![of(&["started", "compensation.started"]), after_the_end]
        }
        "finished" => {
            ["completed", "failed", "cancelled", "terminated"].map(|end| of(&["started", end])).to_vec()
        }
        other => panic!("no way to row `{other}`"),
    }
}

/// Walks every arrow of a table: whatever the way to the row and the event of the column, the cell has the result, and
/// each result of the cell is reached.
fn walk(
    table: &Table,
    ways_to: fn(&str) -> Vec<Vec<ExecutionEvent>>,
    events_of: fn(&str, &str) -> Vec<ExecutionEvent>,
    name: fn(&ExecutionState) -> &'static str,
) -> usize {
    let mut arrows = 0;
    for ((row, column), results) in table.cells.iter().filter(|(_, results)| !results.is_empty()) {
        let mut reached = BTreeSet::new();
        for way in ways_to(row) {
            let state = folded(&way);
            assert_eq!(name(&state), row, "the way to `{row}`");
            let at = Timestamp::from_unix_ms(1_795_000_001_000);
            reached
                .extend(events_of(row, column).iter().map(|event| name(&evolve(state.clone(), event, at))));
        }
        let results: BTreeSet<&str> = results.iter().map(String::as_str).collect();
        assert_eq!(
            reached, results,
            "`{column}` takes `{row}` to the left ones; the table has the right ones"
        );
        arrows += results.len();
    }
    arrows
}

#[test]
fn every_arrow_of_the_table_of_phases_is_what_the_fold_does() {
    let name = |state: &ExecutionState| phase_name(state.phase);
    let arrows = walk(phases(), ways_to_phase, phase_events, name);
    assert!(arrows >= 20, "only {arrows} arrows");
}

#[test]
fn every_arrow_of_the_table_of_node_statuses_is_what_the_fold_does() {
    let arrows = walk(nodes(), ways_to_node, node_events, |state| status_at(state, "a"));
    assert!(arrows >= 35, "only {arrows} arrows");
}

#[test]
fn the_tables_have_every_phase_every_status_and_every_event_that_changes_one() {
    let rows = |table: &Table| table.rows.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(rows(phases()), "compensating finished not started queued running");
    let statuses =
        "backing off cancelled completed due failed iterating pending running scheduled skipped waiting";
    assert_eq!(rows(nodes()), statuses);
    for entry in CATALOGUE.iter().filter(|entry| entry.category == "execution") {
        let event = event(entry.event_type, &json!({}));
        let (phase, node) = columns_of(&event);
        for (table, row, column) in [(phases(), "running", phase), (nodes(), "pending", node)] {
            if let Some(column) = column {
                let cell = (row.to_owned(), column.to_owned());
                assert!(table.cells.contains_key(&cell), "no column `{column}` for {}", entry.event_type);
            }
        }
    }
}
