//! `merge` and joins: when branches come together.

use serde_json::{Value, json};

use crate::documents::{body, condition, end, graph, node, request, transform};
use crate::scenario::{COMPLETED, given};

fn merged(config: Value, more: &[&str]) -> Value {
    let mut edges = vec!["start>a", "start>b", "start>c", "a>m", "b>m", "c>m", "m>end"];
    edges.extend(more);
    graph(
        json!([
            request("a"),
            request("b"),
            request("c"),
            node("m", "merge", config),
            end(json!("{{ nodes.m.output }}"))
        ]),
        json!(edges),
    )
}

#[test]
fn all_waits_for_every_input_and_gives_them_in_edge_order() {
    for config in [json!({}), json!({"mode": "all"})] {
        let mut scenario = given(merged(config, &[])).started_with(Value::Null);
        scenario.done("c", json!(3));
        scenario.done("a", json!(1));
        assert_eq!(scenario.done("b", json!(2)), ["completed b", "completed m", "completed"]);
        assert_eq!(scenario.output(), json!([1, 2, 3]));
    }
}

#[test]
fn any_fires_with_the_first_and_cancels_what_can_only_lead_into_it() {
    let mut scenario = given(merged(json!({"mode": "any"}), &[])).started_with(Value::Null);
    let events = scenario.done("b", json!(2));
    assert_eq!(events, ["completed b", "completed m", "cancelled a", "cancelled c", "completed"]);
    assert_eq!(scenario.output(), json!([2]));
}

#[test]
fn what_also_leads_elsewhere_goes_on_after_an_early_merge() {
    let mut document = merged(json!({"mode": "any"}), &["a>other", "other>end"]);
    document["nodes"].as_array_mut().expect("nodes").push(transform("other", json!(1)));
    let mut scenario = given(document).started_with(Value::Null);
    let events = scenario.done("b", json!(2));
    assert!(
        events.contains(&"cancelled c".to_owned()) && !events.contains(&"cancelled a".to_owned()),
        "{events:?}"
    );
    scenario.done("a", json!(1));
    assert_eq!((scenario.phase(), scenario.count("completed m")), (COMPLETED, 1));
}

#[test]
fn a_count_fires_with_that_many_in_edge_order() {
    let mut scenario = given(merged(json!({"count": 2}), &[])).started_with(Value::Null);
    scenario.done("c", json!(3));
    let events = scenario.done("a", json!(1));
    assert_eq!(events, ["completed a", "completed m", "cancelled b", "completed"]);
    assert_eq!(scenario.output(), json!([1, 3]));
}

#[test]
fn a_count_that_can_no_longer_be_reached_is_skipped() {
    let document = graph(
        json!([
            condition("c", "false"),
            transform("a", json!(1)),
            transform("b", json!(2)),
            node("m", "merge", json!({"count": 2})),
            transform("after", json!(3))
        ]),
        json!(["start>c", "start>a", "c.true>b", "a>m", "b>m", "m>after", "after>end"]),
    );
    let scenario = given(document).started_with(Value::Null);
    assert_eq!(scenario.phase(), COMPLETED);
    assert_eq!((scenario.count("skipped m"), scenario.count("skipped after")), (1, 1));
    assert_eq!(scenario.output(), Value::Null);
}

#[test]
fn a_merge_of_all_does_not_wait_for_a_branch_that_was_not_taken() {
    let document = graph(
        json!([
            condition("c", "false"),
            request("a"),
            transform("b", json!(2)),
            node("m", "merge", json!({})),
            end(json!("{{ nodes.m.output }}"))
        ]),
        json!(["start>c", "start>b", "c.true>a", "a>m", "b>m", "m>end"]),
    );
    assert_eq!(given(document).started_with(Value::Null).output(), json!([2]));
}

#[test]
fn a_merge_with_one_input_gives_a_list_of_one() {
    let document = graph(
        json!([
            transform("a", json!(1)),
            node("m", "merge", json!({"mode": "any"})),
            end(json!("{{ nodes.m.output }}"))
        ]),
        json!(["start>a", "a>m", "m>end"]),
    );
    assert_eq!(given(document).started_with(Value::Null).output(), json!([1]));
}

#[test]
fn a_chain_before_an_early_merge_is_cancelled_where_it_runs_and_skipped_where_it_has_not_begun() {
    let document = graph(
        json!([
            request("a"),
            request("slow"),
            transform("then", json!(1)),
            node("m", "merge", json!({"mode": "any"}))
        ]),
        json!(["start>a", "start>slow", "slow>then", "a>m", "then>m", "m>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    let events = scenario.done("a", json!(1));
    assert!(events.contains(&"cancelled slow".to_owned()), "{events:?}");
    assert_eq!(scenario.phase(), COMPLETED);
    assert_eq!(scenario.count("completed then"), 0);
    // A late result of what was cancelled is stale.
    assert_eq!(scenario.completes("slow", 1, json!(1)).expect_err("stale").code, "stale_attempt");
}

#[test]
fn several_ends_give_an_object_by_end_id_and_none_gives_null() {
    let document = graph(
        json!([
            node("a", "end", json!({"output": 1})),
            node("b", "end", json!({"output": 2})),
            condition("c", "false"),
            node("d", "end", json!({"output": 3}))
        ]),
        json!(["start>a", "start>b", "start>c", "c.true>d"]),
    );
    assert_eq!(given(document).started_with(Value::Null).output(), json!({"a": 1, "b": 2}));
    let document = graph(json!([condition("c", "false")]), json!(["start>c", "c.true>end"]));
    assert_eq!(given(document).started_with(Value::Null).output(), Value::Null);
}

#[test]
fn in_a_body_the_start_gives_a_merge_the_item() {
    let merge = node("m", "merge", json!({"mode": "all"}));
    let inner = body(
        json!([transform("x", json!("{{ item + 1 }}")), merge, end(json!("{{ nodes.m.output }}"))]),
        json!(["start>m", "start>x", "x>m", "m>end"]),
    );
    let looped = node("loop", "loop", json!({"over": [1, 5], "body": inner}));
    let document =
        graph(json!([looped, end(json!("{{ nodes.loop.output }}"))]), json!(["start>loop", "loop>end"]));
    let scenario = given(document).started_with(json!("input"));
    assert_eq!(scenario.output(), json!([[1, 2], [5, 6]]));
}
