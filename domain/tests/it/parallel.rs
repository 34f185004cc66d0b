//! `parallel`: several graphs at the same time.

use domain::execution::event::ErrorKind;
use serde_json::{Value, json};

use crate::documents::{body, end, graph, node, request, transform, with};
use crate::scenario::{COMPLETED, FAILED, given};

fn one(inner: Value) -> Value {
    body(json!([inner, end(json!("{{ nodes.x.output }}"))]), json!(["start>x", "x>end"]))
}

fn parallel(config: Value) -> Value {
    graph(
        json!([node("par", "parallel", config), end(json!("{{ nodes.par.output }}"))]),
        json!(["start>par", "par>end"]),
    )
}

#[test]
fn branches_run_at_the_same_time_and_give_their_outputs_in_order() {
    let branches = json!([one(request("x")), one(transform("x", json!("{{ input }}"))), one(request("x"))]);
    let mut scenario = given(parallel(json!({"branches": branches}))).started_with(json!("b"));
    assert_eq!(scenario.count("scheduled par/0/x") + scenario.count("scheduled par/2/x"), 2);
    assert_eq!(scenario.done("par/2/x", json!("c")), ["completed par/2/x", "scope.completed par/2"]);
    assert_eq!(
        scenario.done("par/0/x", json!("a")),
        ["completed par/0/x", "scope.completed par/0", "completed par", "completed"]
    );
    assert_eq!(scenario.output(), json!(["a", "b", "c"]));
}

#[test]
fn max_concurrency_holds_branches_back() {
    let branches = vec![one(request("x")); 3];
    let config = json!({"branches": branches, "max_concurrency": 2});
    let mut scenario = given(parallel(config)).started_with(Value::Null);
    assert_eq!(scenario.count("scheduled par/2/x"), 0);
    assert!(scenario.done("par/1/x", json!(1)).contains(&"scheduled par/2/x".to_owned()));
}

#[test]
fn a_branch_that_fails_stops_the_others_and_fails_the_parallel() {
    let branches = vec![one(request("x")); 2];
    let mut scenario = given(parallel(json!({"branches": branches}))).started_with(Value::Null);
    let events = scenario.broken("par/0/x", ErrorKind::Http4xx);
    assert_eq!(
        events,
        ["failed par/0/x", "dead_lettered par/0/x", "cancelled par/1/x", "failed par", "failed"]
    );
    assert_eq!(scenario.phase(), FAILED);
}

#[test]
fn a_parallel_that_continues_gives_its_error() {
    let par = with(
        node("par", "parallel", json!({"branches": [one(request("x"))]})),
        "on_error",
        json!("continue"),
    );
    let document =
        graph(json!([par, end(json!("{{ nodes.par.output.error.kind }}"))]), json!(["start>par", "par>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.broken("par/0/x", ErrorKind::Http4xx);
    assert_eq!((scenario.phase(), scenario.output()), (COMPLETED, json!("http_4xx")));
}

#[test]
fn the_same_ids_in_two_branches_are_different_nodes() {
    let branches = json!([
        body(
            json!([transform("x", json!(1)), end(json!("{{ nodes.x.output }}"))]),
            json!(["start>x", "x>end"])
        ),
        body(
            json!([transform("x", json!(2)), end(json!("{{ nodes.x.output }}"))]),
            json!(["start>x", "x>end"])
        ),
    ]);
    assert_eq!(
        given(parallel(json!({"branches": branches}))).started_with(Value::Null).output(),
        json!([1, 2])
    );
}

#[test]
fn a_loop_in_a_branch_and_a_parallel_in_a_body_have_paths_through_both() {
    let inner = one(node("x", "parallel", json!({"branches": [one(request("x"))]})));
    let looped = node("loop", "loop", json!({"over": [1], "body": inner}));
    let branch =
        body(json!([looped, end(json!("{{ nodes.loop.output }}"))]), json!(["start>loop", "loop>end"]));
    let mut scenario = given(parallel(json!({"branches": [branch]}))).started_with(Value::Null);
    scenario.done("par/0/loop/0/x/0/x", json!("deep"));
    assert_eq!(scenario.output(), json!([[["deep"]]]));
}

#[test]
fn cancelling_stops_what_runs_in_branches() {
    let mut scenario =
        given(parallel(json!({"branches": vec![one(request("x")); 2]}))).started_with(Value::Null);
    let events = scenario.cancel();
    for path in ["par/0/x", "par/1/x", "par"] {
        assert!(events.contains(&format!("cancelled {path}")), "{events:?}");
    }
    assert_eq!(events.last().map(String::as_str), Some("cancelled"));
}
