//! Back edges: a new run of all that follows.

use serde_json::{Value, json};

use crate::documents::{condition, end, graph, node, request, transform, with};
use crate::scenario::{COMPLETED, FAILED, given};

/// `ask`, then a condition that goes back to it until the answer is `done`.
fn polling() -> Value {
    graph(
        json!([
            request("ask"),
            condition("done", "nodes.ask.output == 'done'"),
            end(json!("{{ nodes.ask.output }}"))
        ]),
        json!(["start>ask", "ask>done", "done.true>end", "done.false<ask"]),
    )
}

#[test]
fn taking_a_back_edge_starts_a_new_run_of_its_region() {
    let mut scenario = given(polling()).started_with(Value::Null);
    assert_eq!(
        scenario.done("ask", json!("not yet")),
        ["completed ask", "completed done", "run.started ask", "scheduled ask"]
    );
    let run = scenario.latest("execution.run.started");
    assert_eq!((&run["run"], &run["source"]), (&json!(2), &json!("done")));
    assert_eq!(run["nodes"], json!(["ask", "done"]));
    assert_eq!(scenario.in_flight("ask").run, 2);
    scenario.done("ask", json!("done"));
    assert_eq!((scenario.phase(), scenario.output()), (COMPLETED, json!("done")));
    assert_eq!(scenario.at("done").run, 2);
}

#[test]
fn a_result_of_an_earlier_run_is_stale() {
    let mut scenario = given(polling()).started_with(Value::Null);
    scenario.done("ask", json!("not yet"));
    assert_eq!(scenario.completes("ask", 1, json!("done")).expect_err("stale").code, "stale_attempt");
}

#[test]
fn the_output_of_a_node_is_that_of_its_latest_completed_run() {
    let document = graph(
        json!([
            transform("n", json!("{{ has(nodes.n.output) ? nodes.n.output + 1 : 1 }}")),
            condition("c", "nodes.n.output >= 3"),
            end(json!("{{ nodes.n.output }}"))
        ]),
        json!(["start>n", "n>c", "c.true>end", "c.false<n"]),
    );
    let scenario = given(document).started_with(Value::Null);
    assert_eq!((scenario.output(), scenario.count("run.started n")), (json!(3), 2));
}

#[test]
fn running_nodes_of_the_region_are_cancelled_and_edges_from_outside_stay_settled() {
    let document = graph(
        json!([
            transform("outside", json!("kept")),
            request("try_it"),
            request("beside"),
            condition("ok", "nodes.try_it.output"),
            transform("join", json!("{{ nodes.outside.output }}")),
            end(json!("{{ nodes.join.output }}"))
        ]),
        json!([
            "start>outside",
            "start>try_it",
            "try_it>ok",
            "try_it>beside",
            "ok.true>join",
            "ok.false<try_it",
            "outside>join",
            "beside>join",
            "join>end"
        ]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    // `beside` runs when `ok` goes back... it is begun in the same step, so it may be pending or cancelled, never kept.
    let events = scenario.done("try_it", json!(false));
    assert!(events.contains(&"run.started try_it".to_owned()), "{events:?}");
    let events = scenario.done("try_it", json!(true));
    assert!(events.contains(&"scheduled beside".to_owned()), "{events:?}");
    scenario.done("beside", json!(1));
    assert_eq!((scenario.phase(), scenario.output()), (COMPLETED, json!("kept")));
    assert_eq!(scenario.at("outside").run, 1);
}

#[test]
fn an_attempt_in_flight_in_the_region_is_cancelled_with_it() {
    let document = graph(
        json!([request("a"), request("judge"), request("beside"), condition("ok", "nodes.judge.output")]),
        json!(["start>a", "a>judge", "a>beside", "judge>ok", "ok.true>end", "ok.false<a", "beside>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    let events = scenario.done("judge", json!(false));
    assert_eq!(
        events,
        ["completed judge", "completed ok", "cancelled beside", "run.started a", "scheduled a"]
    );
}

#[test]
fn a_node_is_skipped_only_when_no_back_edge_can_reach_it_any_more() {
    let document = graph(
        json!([
            request("ask"),
            node(
                "state",
                "switch",
                json!({"cases": [{"name": "a", "expression": "nodes.ask.output == 'a'"}, {"name": "b", "expression": "nodes.ask.output == 'b'"}]})
            ),
            transform("on_a", json!(1)),
            transform("on_b", json!(2))
        ]),
        json!([
            "start>ask",
            "ask>state",
            "state.a>on_a",
            "state.b>on_b",
            "state.default<ask",
            "on_a>end",
            "on_b>end"
        ]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    let events = scenario.done("ask", json!("other"));
    assert!(!events.iter().any(|event| event.starts_with("skipped")), "{events:?}");
    let events = scenario.done("ask", json!("b"));
    assert!(events.contains(&"skipped on_a".to_owned()), "{events:?}");
    assert_eq!((scenario.phase(), scenario.count("completed on_b")), (COMPLETED, 1));
}

#[test]
fn max_node_runs_fails_what_goes_back_too_often() {
    let document = graph(
        json!([transform("n", json!(1)), condition("c", "false")]),
        json!(["start>n", "n>c", "c.true>end", "c.false<n"]),
    );
    let scenario = given(with(document, "max_node_runs", json!(5))).started_with(Value::Null);
    assert_eq!((scenario.phase(), scenario.count("completed n")), (FAILED, 5));
}

#[test]
fn a_back_edge_to_itself_tries_a_failed_node_again() {
    let document = graph(
        json!([with(request("a"), "on_error", json!("route"))]),
        json!(["start>a", "a>end", "a.error<a"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.broken("a", domain::execution::event::ErrorKind::Http4xx);
    assert_eq!(scenario.in_flight("a").run, 2);
    scenario.done("a", json!(1));
    assert_eq!(scenario.phase(), COMPLETED);
}

#[test]
fn a_loop_in_a_region_begins_all_its_iterations_anew() {
    let inner = crate::documents::body(json!([end(json!("{{ item * input }}"))]), json!(["start>end"]));
    let document = graph(
        json!([
            transform("n", json!("{{ has(nodes.n.output) ? nodes.n.output + 1 : 1 }}")),
            node("loop", "loop", json!({"over": ["{{ nodes.n.output }}", 2], "body": inner})),
            condition("c", "nodes.n.output >= 2"),
            end(json!("{{ nodes.loop.output }}"))
        ]),
        json!(["start>n", "n>loop", "loop>c", "c.true>end", "c.false<n"]),
    );
    let scenario = given(document).started_with(json!(10));
    assert_eq!(scenario.output(), json!([20, 20]));
    assert_eq!(scenario.count("scope.completed loop/0"), 2);
}

#[test]
fn back_edges_do_not_count_as_incoming_edges_of_a_join() {
    let document = graph(
        json!([
            request("a"),
            request("b"),
            transform("join", json!(1)),
            condition("c", "has(nodes.again.output)"),
            transform("again", json!(1))
        ]),
        json!([
            "start>a",
            "start>b",
            "a>join",
            "b>join",
            "join>c",
            "c.true>end",
            "c.false>again",
            "again<join"
        ]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.done("b", json!(1));
    assert_eq!((scenario.phase(), scenario.at("join").run), (COMPLETED, 2));
}
