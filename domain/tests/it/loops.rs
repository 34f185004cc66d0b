//! `loop`: for each item of something, or while a condition holds.

use domain::execution::event::ErrorKind;
use serde_json::{Value, json};

use crate::documents::{body, condition, end, graph, node, request, transform, with};
use crate::scenario::{COMPLETED, FAILED, Scenario, given};

/// A workflow of one loop, whose output is the loop's.
fn looping(mut config: Value, inner: Value) -> Value {
    config["body"] = inner;
    graph(
        json!([node("loop", "loop", config), end(json!("{{ nodes.loop.output }}"))]),
        json!(["start>loop", "loop>end"]),
    )
}

fn one(inner: Value) -> Value {
    body(json!([inner, end(json!("{{ nodes.x.output }}"))]), json!(["start>x", "x>end"]))
}

fn started(document: Value, input: Value) -> Scenario {
    given(document).started_with(input)
}

#[test]
fn a_loop_over_an_array_gives_the_bodys_outputs_in_order() {
    let inner =
        one(transform("x", json!({"item": "{{ item }}", "index": "{{ index }}", "key": "{{ key }}"})));
    let scenario = started(looping(json!({"over": "{{ input }}"}), inner), json!(["a", "b"]));
    assert_eq!(
        scenario.types(),
        [
            "started",
            "started loop",
            "completed loop/0/x",
            "scope.completed loop/0",
            "completed loop/1/x",
            "scope.completed loop/1",
            "completed loop",
            "completed"
        ]
    );
    let expected = json!([{"item": "a", "index": 0, "key": 0}, {"item": "b", "index": 1, "key": 1}]);
    assert_eq!(scenario.output(), expected);
}

#[test]
fn a_loop_over_an_object_goes_in_key_order_with_key_and_value() {
    let inner = one(transform("x", json!("{{ key + '=' + string(item.value) }}")));
    let scenario = started(looping(json!({"over": "{{ input }}"}), inner), json!({"b": 2, "a": 1}));
    assert_eq!(scenario.output(), json!(["a=1", "b=2"]));
}

#[test]
fn a_loop_over_nothing_gives_an_empty_list() {
    for nothing in [json!([]), json!({})] {
        let scenario = started(looping(json!({"over": "{{ input }}"}), one(request("x"))), nothing);
        assert_eq!(scenario.output(), json!([]));
    }
}

#[test]
fn what_is_no_collection_or_has_too_many_items_fails_the_loop() {
    let document = || looping(json!({"over": "{{ input }}", "max_iterations": 2}), one(request("x")));
    let scenario = started(document(), json!("text"));
    let error = scenario.latest("execution.failed")["error"].clone();
    assert_eq!(
        (&error["kind"], &error["details"]["code"]),
        (&json!("expression_error"), &json!("not_a_collection"))
    );
    let scenario = started(document(), json!([1, 2, 3]));
    assert_eq!(scenario.latest("execution.failed")["error"]["details"]["code"], "too_many_iterations");
}

#[test]
fn iterations_run_one_after_another_unless_max_concurrency_says_more() {
    let mut scenario = started(looping(json!({"over": "{{ input }}"}), one(request("x"))), json!([1, 2]));
    assert_eq!(scenario.types(), ["started", "started loop", "scheduled loop/0/x"]);
    assert_eq!(
        scenario.done("loop/0/x", json!("first")),
        ["completed loop/0/x", "scope.completed loop/0", "scheduled loop/1/x"]
    );
    let config = json!({"over": "{{ input }}", "max_concurrency": 2});
    let mut scenario = started(looping(config, one(request("x"))), json!([1, 2, 3]));
    assert_eq!(scenario.count("scheduled loop/0/x") + scenario.count("scheduled loop/1/x"), 2);
    assert_eq!(scenario.count("scheduled loop/2/x"), 0);
    // The later one is done first: the outputs are in the items' order all the same.
    scenario.done("loop/1/x", json!("b"));
    assert_eq!(scenario.count("scheduled loop/2/x"), 1);
    scenario.done("loop/2/x", json!("c"));
    scenario.done("loop/0/x", json!("a"));
    assert_eq!(scenario.output(), json!(["a", "b", "c"]));
}

#[test]
fn a_while_sees_the_iteration_before_and_its_item_is_what_that_gave() {
    let inner = one(transform("x", json!("{{ item == null ? 1 : item * 3 }}")));
    let scenario =
        started(looping(json!({"while": "index == 0 || nodes.x.output < 20"}), inner), Value::Null);
    assert_eq!(scenario.output(), json!([1, 3, 9, 27]));
}

#[test]
fn a_while_that_never_ends_fails_at_max_iterations() {
    let inner = one(transform("x", json!(1)));
    let scenario = started(looping(json!({"while": "true", "max_iterations": 3}), inner), Value::Null);
    assert_eq!(scenario.phase(), FAILED);
    assert_eq!(scenario.count("scope.completed loop/2"), 1);
    assert_eq!(scenario.latest("execution.failed")["error"]["details"]["code"], "too_many_iterations");
}

#[test]
fn an_inner_loop_has_its_own_item_and_sees_the_nodes_around_it() {
    let innermost = body(json!([end(json!("{{ nodes.outer.output + item }}"))]), json!(["start>end"]));
    let inner = body(
        json!([
            transform("outer", json!("{{ item.name }}")),
            node("people", "loop", json!({"over": "{{ item.people }}", "body": innermost})),
            end(json!("{{ nodes.people.output }}")),
        ]),
        json!(["start>outer", "outer>people", "people>end"]),
    );
    let input = json!([{"name": "a", "people": ["1", "2"]}, {"name": "b", "people": []}]);
    let scenario = started(looping(json!({"over": "{{ input }}"}), inner), input);
    assert_eq!(scenario.output(), json!([["a1", "a2"], []]));
    assert_eq!(scenario.count("scope.completed loop/0/people/1"), 1);
}

#[test]
fn the_output_of_a_bodys_start_is_the_item() {
    let inner = body(json!([end(json!("{{ nodes.start.output }}"))]), json!(["start>end"]));
    let scenario = started(looping(json!({"over": "{{ input }}"}), inner), json!([5, 6]));
    assert_eq!(scenario.output(), json!([5, 6]));
}

#[test]
fn an_iteration_that_reaches_no_end_gives_null_and_one_with_two_an_object() {
    let inner = body(
        json!([
            condition("odd", "item % 2 == 1"),
            node("a", "end", json!({"output": "{{ item }}"})),
            node("b", "end", json!({"output": 0}))
        ]),
        json!(["start>odd", "odd.true>a", "odd.true>b"]),
    );
    let scenario = started(looping(json!({"over": "{{ input }}"}), inner), json!([1, 2]));
    assert_eq!(scenario.output(), json!([{"a": 1, "b": 0}, null]));
}

#[test]
fn an_iteration_that_fails_stops_the_others_and_fails_the_loop() {
    let config = json!({"over": "{{ input }}", "max_concurrency": 3});
    let mut scenario = started(looping(config, one(request("x"))), json!([1, 2]));
    let events = scenario.broken("loop/1/x", ErrorKind::Http4xx);
    assert_eq!(
        events,
        ["failed loop/1/x", "dead_lettered loop/1/x", "cancelled loop/0/x", "failed loop", "failed"]
    );
    let failed = scenario.latest("execution.failed");
    assert_eq!(failed["node_id"], "loop/1/x");
    assert_eq!(failed["error"]["kind"], "http_4xx");
}

#[test]
fn a_loop_that_routes_its_error_names_the_node_that_failed() {
    let looped = with(
        node("loop", "loop", json!({"over": [1], "body": one(request("x"))})),
        "on_error",
        json!("route"),
    );
    let document = graph(
        json!([
            looped,
            transform("saved", json!("{{ nodes.loop.output.error.details.node_id }}")),
            end(json!("{{ nodes.saved.output }}"))
        ]),
        json!(["start>loop", "loop.error>saved", "saved>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.broken("loop/0/x", ErrorKind::Http5xx);
    assert_eq!((scenario.phase(), scenario.output()), (COMPLETED, json!("loop/0/x")));
}

#[test]
fn a_node_in_a_body_is_retried_by_its_own_policy() {
    let inner = one(with(request("x"), "retry", json!({"max_attempts": 2, "jitter": false})));
    let mut scenario = started(looping(json!({"over": [1]}), inner), Value::Null);
    assert_eq!(scenario.broken("loop/0/x", ErrorKind::Http5xx)[1], "retry_scheduled loop/0/x");
    scenario.passes(200);
    scenario.done("loop/0/x", json!("at last"));
    assert_eq!(scenario.output(), json!(["at last"]));
}

#[test]
fn a_loop_of_thousands_yields_between_decisions_and_ends() {
    let inner = one(transform("x", json!("{{ item }}")));
    let config = json!({"over": "{{ input }}", "max_iterations": 2000});
    let mut scenario = started(looping(config, inner), json!((0..1_200).collect::<Vec<_>>()));
    for _ in 0..10 {
        assert!(scenario.log.len() < 5_000);
        scenario.passes(1);
    }
    assert_eq!(scenario.output().as_array().map(Vec::len), Some(1_200));
}
