//! The view follows the engine's state: at every version, over everything that an execution can go through.

use domain::event::{Codec, Event, ExecutionEvent, RecordedEvent};
use domain::execution::command::ExecutionCommand;
use domain::execution::diff::{Change, Side, diff};
use domain::execution::event::{ErrorKind, ExecutionForked};
use domain::execution::view::{History, HistoryError, NodeView, NodeViewStatus, Replay, touched_by};
use domain::execution::{ExecutionState, ExecutionStatus, NodeState, NodeStatus, evolve, forked};
use domain::ids::{Actor, Partition, Position, TenantId};
use domain::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::scenario::{Scenario, given, graph, id};

fn recorded(stream: u64, version: u64, event: &Event) -> RecordedEvent {
    RecordedEvent {
        position: Position { partition: Partition(0), offset: version },
        stream: id(stream),
        version,
        tenant: TenantId::default_tenant(),
        event_type: event.event_type().into(),
        schema_version: event.schema_version(),
        id: id(10_000 + version),
        recorded_at: at(version),
        correlation_id: id(stream),
        causation_id: id(stream),
        actor: Actor::system("test"),
        traceparent: None,
        codec: Codec::Json,
        key_id: None,
        data: event.encode(),
    }
}

fn at(version: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_795_000_000_000 + version as i64)
}

fn stream_of(scenario: &Scenario) -> Vec<RecordedEvent> {
    scenario.log.iter().zip(1..).map(|(event, version)| recorded(2, version, event)).collect()
}

fn execution_event(recorded: &RecordedEvent) -> ExecutionEvent {
    match recorded.decode().expect("decodes") {
        Event::Execution(event) => event,
        other => panic!("{other:?}"),
    }
}

fn request(id: &str) -> Value {
    json!({"id": id, "type": "http_request", "config": {"url": "http://127.0.0.1:1/"}})
}

fn body(nodes: Value, edges: Value) -> Value {
    let graph = graph(nodes, edges);
    json!({"nodes": graph["nodes"], "edges": graph["edges"]})
}

/// A loop over three items, each with a request and a parallel of two transforms.
fn looping() -> Scenario {
    let branch = |n: u64| {
        body(json!([{"id": "x", "type": "transform", "config": {"output": n}}]), json!(["start>x", "x>end"]))
    };
    let inner = json!({"id": "inner", "type": "parallel", "config": {"branches": [branch(1), branch(2)]}});
    let each = body(json!([request("fetch"), inner]), json!(["start>fetch", "fetch>inner", "inner>end"]));
    let looped = json!({"id": "loop", "type": "loop", "config": {"over": "{{ input }}", "body": each}});
    let document = graph(json!([looped]), json!(["start>loop", "loop>end"]));
    let mut scenario = given(document).started_with(json!([1, 2, 3]));
    for iteration in 0..3 {
        scenario.completes(&format!("loop/{iteration}/fetch"), 1, json!(iteration)).expect("a result");
    }
    scenario
}

/// A back edge around a request, taken twice.
fn going_back() -> Scenario {
    let mut document = graph(
        json!([
            request("fetch"),
            {"id": "again", "type": "condition", "config": {"expression": "nodes.fetch.output < 2"}},
        ]),
        json!(["start>fetch", "fetch>again", "again.false>end"]),
    );
    document["edges"]
        .as_array_mut()
        .expect("edges")
        .push(json!({"source": "again", "source_handle": "true", "target": "fetch", "back": true}));
    let mut scenario = given(document).started_with(Value::Null);
    for number in 0..3u32 {
        let node = domain::decision::NodeRun { node_id: "fetch".to_owned(), run: number + 1, attempt: 1 };
        let result = Ok(json!(number));
        scenario
            .when(ExecutionCommand::CompleteNode { node, result })
            .unwrap_or_else(|error| panic!("{error:?} after {:#?}", scenario.types()));
    }
    scenario
}

/// Two requests of which one fails for good, while the other is stopped; then a retry.
fn retried() -> Scenario {
    let document =
        graph(json!([request("a"), request("b")]), json!(["start>a", "start>b", "a>end", "b>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.fails("a", 1, ErrorKind::Http5xx).expect("a result");
    let retry = ExecutionCommand::Retry { reason: None, node_inputs: Map::new(), dead_letter: None };
    scenario.when(retry).expect("a retry");
    scenario.completes("a", 2, json!("a")).expect("a result");
    scenario.completes("b", 2, json!("b")).expect("a result");
    scenario
}

/// A booking that is undone because the payment fails.
fn compensated() -> Scenario {
    let mut book = request("book");
    book["compensate"] = json!("unbook");
    let document =
        graph(json!([book, request("unbook"), request("pay")]), json!(["start>book", "book>pay", "pay>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.completes("book", 1, json!("booked")).expect("a result");
    scenario.fails("pay", 1, ErrorKind::Http4xx).expect("a result");
    scenario.completes("unbook", 1, json!("unbooked")).expect("a result");
    scenario
}

/// A wait beside a delay, paused and resumed, and cancelled in the end.
fn waiting() -> Scenario {
    let document = graph(
        json!([
            {"id": "approve", "type": "wait", "config": {"for": "signal", "signal": "go"}},
            {"id": "pause", "type": "delay", "config": {"duration_ms": 60_000}},
        ]),
        json!(["start>approve", "start>pause", "approve>end", "pause>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.when(ExecutionCommand::Pause { reason: None }).expect("a pause");
    let signal = ExecutionCommand::Signal { name: "go".to_owned(), payload: json!(1) };
    scenario.when(signal).expect("a signal");
    scenario.when(ExecutionCommand::Resume { reason: None }).expect("a resume");
    scenario.when(ExecutionCommand::Cancel { reason: Some("enough".to_owned()) }).expect("an end");
    scenario
}

/// A node that waits for its child, terminated.
fn with_child() -> Scenario {
    let child = json!({"id": "child", "type": "sub_workflow", "config": {"workflow": "other", "input": 7}});
    let mut scenario =
        given(graph(json!([child]), json!(["start>child", "child>end"]))).started_with(Value::Null);
    scenario.when(ExecutionCommand::Terminate { reason: None }).expect("an end");
    scenario
}

fn everything() -> Vec<(&'static str, Scenario)> {
    vec![
        ("looping", looping()),
        ("going back", going_back()),
        ("retried", retried()),
        ("compensated", compensated()),
        ("waiting", waiting()),
        ("with a child", with_child()),
    ]
}

fn fits(node: &NodeState, view: &NodeView) -> bool {
    use NodeViewStatus as Shown;
    let status = match node.status {
        NodeStatus::Pending => view.status == Shown::Pending,
        NodeStatus::Scheduled { .. } => view.status == Shown::Scheduled,
        NodeStatus::Running { .. } | NodeStatus::Iterating => view.status == Shown::Running,
        NodeStatus::Waiting { .. } if node.child.is_some() => view.status == Shown::Running,
        // A timer that has fired shows once something has come of it.
        NodeStatus::Waiting { .. } | NodeStatus::BackingOff { .. } | NodeStatus::Due { .. } => {
            view.status == Shown::Waiting
        }
        NodeStatus::Failed { .. } => view.status == Shown::Failed,
        NodeStatus::Completed { .. } => matches!(view.status, Shown::Completed | Shown::Compensated),
        NodeStatus::Skipped => view.status == Shown::Skipped,
        NodeStatus::Cancelled => view.status == Shown::Cancelled,
    };
    let output = node.output.as_deref().cloned().unwrap_or_default();
    status && (node.run, node.attempt) == (view.run, view.attempt) && output == view.output
}

fn assert_follows(name: &str, version: u64, state: &ExecutionState, history: &History) {
    let view = history.view.as_ref().expect("a view");
    let mut seen = 0;
    for (path, node) in &state.nodes {
        let found = view.nodes.iter().chain(history.bodies.nodes()).find(|view| *view.id == **path);
        let found = found.unwrap_or_else(|| panic!("{name} at {version}: `{path}` is not shown"));
        assert!(fits(node, found), "{name} at {version}: {node:#?} is shown as {found:#?}");
        seen += 1;
    }
    assert_eq!(seen, view.nodes.len() + history.bodies.nodes().count(), "{name} at {version}");
    let open = state.nodes.values().filter(|node| is_open_leaf(node)).count();
    assert_eq!(view.open_nodes.expect("counted").total as usize, open, "{name} at {version}");
}

fn is_open_leaf(node: &NodeState) -> bool {
    node.status.is_open() && node.status != NodeStatus::Iterating
}

#[test]
fn the_view_shows_what_the_state_is_at_every_version() {
    for (name, scenario) in everything() {
        let (mut state, mut history) = (ExecutionState::default(), History::default());
        for event in stream_of(&scenario) {
            state = evolve(state, &execution_event(&event), event.recorded_at);
            history.take(&event).expect("folds");
            assert_follows(name, event.version, &state, &history);
        }
    }
}

#[test]
fn a_fork_at_every_version_shows_what_the_engine_takes_over() {
    for (name, scenario) in everything() {
        let (mut state, mut history) = (ExecutionState::default(), History::default());
        for event in stream_of(&scenario) {
            state = evolve(state, &execution_event(&event), event.recorded_at);
            history.take(&event).expect("folds");
            let fork = fork_of(event.version);
            let first = recorded(3, 1, &Event::Execution(ExecutionEvent::Forked(fork.clone())));
            let mut forked_history = history.clone();
            forked_history.take(&first).expect("folds");
            assert_follows(name, event.version, &forked(&state, &fork, first.recorded_at), &forked_history);
            let view = forked_history.view.expect("a view");
            assert!(!view.status.is_final() && view.finished_at.is_none(), "{name} at {}", event.version);
            assert_eq!((view.id, view.version), (id(3), 1));
        }
    }
}

fn fork_of(at_version: u64) -> ExecutionForked {
    serde_json::from_value(json!({
        "origin": id(2), "at_version": at_version, "recorded_until": at_version, "depth": 1,
        "effects": "live", "workflow_id": id(1), "workflow_name": "test", "workflow_version": 1,
        "definition_hash": "00",
    }))
    .expect("a fork")
}

#[test]
fn an_event_changes_no_rows_but_those_that_it_is_said_to_touch() {
    for (name, scenario) in everything() {
        let mut whole = History::default();
        for event in stream_of(&scenario) {
            // What a projection would do: the view, and only the rows that are touched.
            let mut partial = History::of(whole.view.clone());
            let touched = touched_by(&execution_event(&event));
            for node in whole.bodies.nodes() {
                let inside = |container: &String| node.id.starts_with(&format!("{container}/"));
                if touched.paths.contains(&node.id) || touched.insides.iter().any(inside) {
                    partial.bodies.insert(node.clone());
                }
            }
            partial.take(&event).expect("folds");
            whole.bodies.take_changed();
            whole.take(&event).expect("folds");
            assert_eq!(partial.view, whole.view, "{name} at {}", event.version);
            let changed = |history: &mut History| -> Vec<NodeView> {
                history.bodies.take_changed().into_iter().cloned().collect()
            };
            assert_eq!(changed(&mut partial), changed(&mut whole), "{name} at {}", event.version);
        }
    }
}

#[test]
fn statuses_are_those_of_the_api() {
    let statuses = |scenario: &Scenario| {
        let mut history = History::default();
        let mut seen: Vec<ExecutionStatus> = Vec::new();
        for event in stream_of(scenario) {
            history.take(&event).expect("folds");
            seen.push(history.view.as_ref().expect("a view").status);
        }
        seen.dedup();
        seen
    };
    use ExecutionStatus::{Cancelled, Compensating, Failed, Paused, Running, Terminated, Waiting};
    let waiting = statuses(&waiting());
    assert!(waiting.contains(&Paused) && waiting.contains(&Waiting), "{waiting:?}");
    assert_eq!(waiting.last(), Some(&Cancelled));
    assert_eq!(statuses(&compensated()), [Running, Compensating, Failed]);
    assert_eq!(statuses(&retried())[..3], [Running, Failed, Running]);
    assert_eq!(statuses(&with_child()), [Running, Terminated], "a node that waits for its child runs");
}

#[test]
fn a_history_is_replayed_through_its_origins_page_by_page() {
    let origin = stream_of(&looping());
    let fork = Event::Execution(ExecutionEvent::Forked(fork_of(4)));
    let fork = vec![recorded(3, 1, &fork)];
    let read = |until: u64, origin: &[RecordedEvent]| {
        let mut replay = Replay::of(id(3), until);
        while let Some(page) = replay.wants() {
            let stream = if page.stream == id(3) { &fork[..] } else { origin };
            let events = stream.iter().filter(|event| event.version > page.after).take(page.limit);
            let events: Vec<RecordedEvent> = events.cloned().collect();
            replay.give(&events)?;
        }
        Ok::<_, HistoryError>(replay.history())
    };
    let mut expected = History::default();
    origin[..4].iter().chain(&fork).for_each(|event| expected.take(event).expect("folds"));
    assert_eq!(read(u64::MAX, &origin).expect("folds"), expected);
    assert!(read(0, &origin).expect("nothing").view.is_none());
    assert!(matches!(read(1, &origin[..3]), Err(HistoryError::NoOrigin)));
}

#[test]
fn what_differs_is_told_node_by_node_a_page_at_a_time() {
    let events = stream_of(&looping());
    let fold = |until: usize| {
        let mut history = History::default();
        events[..until].iter().for_each(|event| history.take(event).expect("folds"));
        history
    };
    let (early, late) = (fold(3), fold(events.len()));
    let side = |history: &'static History| Side {
        view: history.view.as_ref().expect("a view"),
        bodies: &history.bodies,
    };
    let (early, late): (&'static History, &'static History) =
        (Box::leak(Box::new(early)), Box::leak(Box::new(late)));
    let whole = diff(side(early), side(late), None, 1_000);
    assert_eq!(whole.execution["status"].to, json!("completed"));
    assert!(diff(side(late), side(late), None, 10).nodes.is_empty());
    let change = |path: &str| whole.nodes.iter().find(|node| node.id == path).map(|node| node.change);
    assert_eq!(change("loop"), Some(Change::Changed));
    assert_eq!(change("loop/2/inner/1/x"), Some(Change::Added));
    let back = diff(side(late), side(early), None, 1_000);
    assert!(back.nodes.iter().any(|node| node.change == Change::Removed));

    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = diff(side(early), side(late), after.as_deref(), 2);
        paged.extend(page.nodes);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, whole.nodes);
}

#[test]
fn a_view_of_an_earlier_release_goes_on() {
    let mut old: Value = json!(History::of(None).view);
    assert!(old.is_null());
    let scenario = waiting();
    let events = stream_of(&scenario);
    let mut history = History::default();
    events[..4].iter().for_each(|event| history.take(event).expect("folds"));
    old = json!(history.view);
    for field in ["paused", "concurrency", "compensation", "forked_from", "parent", "open_nodes"] {
        old.as_object_mut().expect("an object").remove(field);
    }
    let mut upgraded = History::of(serde_json::from_value(old).expect("a view"));
    upgraded.view.as_mut().expect("a view").paused = history.view.as_ref().expect("a view").paused;
    for event in &events[4..] {
        upgraded.take(event).expect("folds");
        history.take(event).expect("folds");
        assert_eq!(
            upgraded.view.as_ref().map(|view| view.status),
            history.view.as_ref().map(|view| view.status)
        );
    }
}
