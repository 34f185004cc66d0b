//! Saga: undoing what was done, newest first.

use domain::decision::{NodeRun, WakeupKind};
use domain::execution::Phase;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{CompensationStatus, Effects, ErrorKind, ParentRef};
use serde_json::{Value, json};

use crate::documents::{body, condition, graph, node, request, transform, with};
use crate::scenario::{CANCELLED, COMPLETED, FAILED, Scenario, given, id};

/// A request that another node undoes.
fn booked(name: &str) -> Value {
    with(request(name), "compensate", json!(format!("undo_{name}")))
}

fn undo(name: &str) -> Value {
    let url = format!("http://127.0.0.1:1/{{{{ nodes.{name}.output }}}}");
    node(&format!("undo_{name}"), "http_request", json!({"url": url}))
}

/// `a`, `b`, then `c`, of which the first two can be undone.
fn saga() -> Value {
    graph(
        json!([booked("a"), booked("b"), request("c"), undo("a"), undo("b")]),
        json!(["start>a", "a>b", "b>c", "c>end"]),
    )
}

fn at_c(document: Value) -> Scenario {
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!("first"));
    scenario.done("b", json!("second"));
    scenario
}

#[test]
fn a_failure_undoes_what_was_done_newest_first_and_then_ends() {
    let mut scenario = at_c(saga());
    let events = scenario.broken("c", ErrorKind::Http4xx);
    assert_eq!(events, ["failed c", "dead_lettered c", "compensation.started", "scheduled undo_b"]);
    assert_eq!(scenario.phase(), Phase::Compensating);
    assert_eq!(scenario.latest("execution.node.scheduled")["config"]["url"], "http://127.0.0.1:1/second");
    assert_eq!(scenario.done("undo_b", json!(0)), ["completed undo_b", "compensated b", "scheduled undo_a"]);
    let events = scenario.done("undo_a", json!(0));
    assert_eq!(events, ["completed undo_a", "compensated a", "compensation.finished", "failed"]);
    assert_eq!(scenario.latest("execution.failed")["node_id"], "c");
    assert_eq!(scenario.latest("execution.node.compensated")["by"], "undo_a");
}

#[test]
fn cancelling_undoes_too_and_terminating_does_not() {
    let mut scenario = at_c(saga());
    let events = scenario.cancel();
    assert_eq!(events, ["compensation.started"]);
    // The attempt in flight has its grace.
    let events = scenario.passes(10_000);
    assert!(
        events.contains(&"cancelled c".to_owned()) && events.contains(&"scheduled undo_b".to_owned()),
        "{events:?}"
    );
    scenario.done("undo_b", json!(0));
    scenario.done("undo_a", json!(0));
    assert_eq!(scenario.phase(), CANCELLED);
    let mut scenario = at_c(saga());
    let events = scenario.when(ExecutionCommand::Terminate { reason: None }).expect("accepted");
    assert_eq!(events, ["cancelled c", "terminated"]);
}

#[test]
fn an_execution_with_nothing_to_undo_ends_at_once() {
    let mut scenario = given(saga()).started_with(Value::Null);
    assert_eq!(scenario.broken("a", ErrorKind::Http4xx), ["failed a", "dead_lettered a", "failed"]);
}

#[test]
fn a_result_that_comes_late_counts_and_is_undone() {
    let document = graph(
        json!([booked("a"), booked("b"), request("c"), undo("a"), undo("b")]),
        json!(["start>a", "start>b", "start>c", "a>end", "b>end", "c>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    let events = scenario.broken("c", ErrorKind::Http4xx);
    assert!(events.contains(&"compensation.started".to_owned()), "{events:?}");
    assert_eq!(scenario.count("scheduled undo_a"), 0, "b may still give a result");
    let events = scenario.done("b", json!("late"));
    assert_eq!(events, ["completed b", "scheduled undo_b"]);
    scenario.done("undo_b", json!(0));
    scenario.done("undo_a", json!(0));
    assert_eq!(scenario.phase(), FAILED);
}

#[test]
fn attempts_that_do_not_stop_within_ten_seconds_are_cancelled() {
    let document = graph(
        json!([booked("a"), request("b"), request("c"), undo("a")]),
        json!(["start>a", "start>b", "start>c", "a>end", "b>end", "c>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.broken("c", ErrorKind::Http4xx);
    assert!(scenario.wakeups.iter().any(|wakeup| wakeup.kind == WakeupKind::StopGrace));
    assert_eq!(scenario.passes(9_999), Vec::<String>::new());
    assert_eq!(scenario.passes(1), ["cancelled b", "scheduled undo_a"]);
}

#[test]
fn an_outcome_that_is_not_known_is_undone_only_where_the_node_asks_for_it() {
    for (wanted, kind, undone) in
        [(true, ErrorKind::Timeout, 1), (true, ErrorKind::Http4xx, 0), (false, ErrorKind::Timeout, 0)]
    {
        let b = if wanted { with(booked("b"), "compensate_unknown", json!(true)) } else { booked("b") };
        let document = graph(
            json!([
                booked("a"),
                b,
                undo("a"),
                with(undo("b"), "config", json!({"url": "http://127.0.0.1:1/"}))
            ]),
            json!(["start>a", "a>b", "b>end"]),
        );
        let mut scenario = given(document).started_with(Value::Null);
        scenario.done("a", json!(1));
        scenario.broken("b", kind);
        assert_eq!(scenario.count("scheduled undo_b"), undone, "{wanted} {kind:?}");
    }
}

#[test]
fn a_compensating_node_is_retried_by_its_own_policy() {
    let again = with(undo("a"), "retry", json!({"max_attempts": 2, "jitter": false}));
    let document = graph(json!([booked("a"), request("b"), again]), json!(["start>a", "a>b", "b>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.broken("b", ErrorKind::Http4xx);
    let events = scenario.broken("undo_a", ErrorKind::Http5xx);
    assert_eq!(events, ["failed undo_a", "retry_scheduled undo_a", "timer.started undo_a"]);
    assert!(scenario.passes(200).contains(&"scheduled undo_a".to_owned()));
    scenario.done("undo_a", json!(0));
    assert_eq!(scenario.phase(), FAILED);
}

#[test]
fn a_failed_compensation_leaves_what_is_older_and_can_be_retried() {
    let mut scenario = at_c(saga());
    scenario.broken("c", ErrorKind::Http4xx);
    let events = scenario.broken("undo_b", ErrorKind::Http4xx);
    assert_eq!(events, ["failed undo_b", "compensation.finished undo_b", "failed"]);
    let status = scenario.state().compensation.as_ref().map(|state| state.status);
    assert_eq!((status, scenario.count("scheduled undo_a")), (Some(CompensationStatus::Failed), 0));
    let events = scenario.retry().expect("accepted");
    assert_eq!(events, ["retried", "scheduled undo_b"]);
    scenario.done("undo_b", json!(0));
    scenario.done("undo_a", json!(0));
    let status = scenario.state().compensation.as_ref().map(|state| state.status);
    assert_eq!((scenario.phase(), status), (FAILED, Some(CompensationStatus::Completed)));
}

#[test]
fn an_execution_that_has_undone_its_work_is_not_retried_but_forked() {
    let mut scenario = at_c(saga());
    scenario.broken("c", ErrorKind::Http4xx);
    scenario.done("undo_b", json!(0));
    scenario.done("undo_a", json!(0));
    assert_eq!(scenario.retry().expect_err("compensated").code, "already_compensated");
}

#[test]
fn iterations_are_undone_newest_completion_first_each_seeing_its_own_nodes() {
    let inner = body(json!([booked("x"), undo("x")]), json!(["start>x", "x>end"]));
    let looped = node("loop", "loop", json!({"over": [1, 2], "max_concurrency": 2, "body": inner}));
    let document = graph(json!([looped, request("c")]), json!(["start>loop", "loop>c", "c>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("loop/1/x", json!("one"));
    scenario.done("loop/0/x", json!("zero"));
    let events = scenario.broken("c", ErrorKind::Http4xx);
    assert_eq!(events.last().map(String::as_str), Some("scheduled loop/0/undo_x"));
    assert_eq!(scenario.latest("execution.node.scheduled")["config"]["url"], "http://127.0.0.1:1/zero");
    scenario.done("loop/0/undo_x", json!(0));
    assert_eq!(scenario.latest("execution.node.scheduled")["config"]["url"], "http://127.0.0.1:1/one");
    scenario.done("loop/1/undo_x", json!(0));
    assert_eq!(scenario.phase(), FAILED);
}

#[test]
fn every_run_of_a_node_is_undone_with_the_output_of_that_run() {
    let document = graph(
        json!([
            booked("a"),
            condition("enough", "nodes.a.output >= 2"),
            node("f", "fail", json!({})),
            undo("a")
        ]),
        json!(["start>a", "a>enough", "enough.true>f", "enough.false<a", "f>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.done("a", json!(2));
    assert_eq!(scenario.latest("execution.node.scheduled")["config"]["url"], "http://127.0.0.1:1/2");
    scenario.done("undo_a", json!(0));
    assert_eq!(scenario.latest("execution.node.scheduled")["config"]["url"], "http://127.0.0.1:1/1");
    scenario.done("undo_a", json!(0));
    assert_eq!((scenario.phase(), scenario.count("compensated a")), (FAILED, 2));
}

/// `a` has run twice when the execution fails; `undo_a` is of any type that can undo.
fn done_twice(undo: Value) -> Scenario {
    let nodes = [
        booked("a"),
        condition("enough", "nodes.a.output >= 2"),
        node("f", "fail", json!({})),
        with(undo, "id", json!("undo_a")),
    ];
    let edges = json!(["start>a", "a>enough", "enough.true>f", "enough.false<a", "f>end"]);
    let mut scenario = given(graph(json!(nodes), edges)).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.done("a", json!(2));
    scenario
}

#[test]
fn whatever_kind_of_node_undoes_does_so_for_each_run() {
    let undone = |scenario: &Scenario| (scenario.phase(), scenario.count("compensated a"));
    let at_once = [
        transform("", json!("{{ nodes.a.output }}")),
        node("", "emit_event", json!({"type": "undone", "data": "{{ nodes.a.output }}"})),
    ];
    for undo in at_once {
        let scenario = done_twice(undo);
        assert_eq!((undone(&scenario), scenario.count("completed undo_a")), ((FAILED, 2), 2));
    }

    let mut scenario = done_twice(node("", "delay", json!({"duration_ms": 10})));
    assert_eq!(undone(&scenario), (Phase::Compensating, 0));
    scenario.passes(10);
    assert_eq!(undone(&scenario), (Phase::Compensating, 1));
    scenario.passes(10);
    assert_eq!(undone(&scenario), (FAILED, 2));

    let mut scenario = done_twice(node("", "sub_workflow", json!({"workflow": "w"})));
    let first = scenario.at("undo_a").child;
    scenario.child_ends("undo_a", Ok(Value::Null));
    assert_ne!(scenario.at("undo_a").child, first, "each run has a child of its own");
    scenario.child_ends("undo_a", Ok(Value::Null));
    assert_eq!(undone(&scenario), (FAILED, 2));

    // The second run is undone, and what undoes the first one fails.
    let scenario = done_twice(transform("", json!("{{ 1 / (nodes.a.output - 1) }}")));
    assert_eq!(undone(&scenario), (FAILED, 1));
    assert_eq!(scenario.latest("execution.compensation.finished")["status"], "failed");
}

#[test]
fn a_compensating_node_never_runs_otherwise() {
    let mut scenario =
        given(graph(json!([booked("a"), undo("a")]), json!(["start>a", "a>end"]))).started_with(Value::Null);
    scenario.done("a", json!(1));
    assert_eq!(scenario.types(), ["started", "scheduled a", "completed a", "completed"]);
}

#[test]
fn a_completed_child_undoes_its_work_inside_its_turn() {
    let document = graph(
        json!([
            booked("a"),
            node("sub", "sub_workflow", json!({"workflow": "w"})),
            booked("b"),
            request("c"),
            undo("a"),
            undo("b")
        ]),
        json!(["start>a", "a>sub", "sub>b", "b>c", "c>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.child_ends("sub", Ok(json!(1)));
    scenario.done("b", json!(1));
    scenario.broken("c", ErrorKind::Http4xx);
    assert_eq!(
        scenario.done("undo_b", json!(0)),
        ["completed undo_b", "compensated b", "child.compensation_requested sub"]
    );
    let child = scenario.at("sub").child.expect("a child");
    let node = NodeRun { node_id: "sub".to_owned(), run: 1, attempt: 1 };
    let told = ExecutionCommand::ChildCompensated {
        node,
        child,
        status: CompensationStatus::Completed,
        error: None,
    };
    assert_eq!(
        scenario.when(told).expect("asked"),
        ["child.compensated sub", "compensated sub", "scheduled undo_a"]
    );
}

#[test]
fn a_completed_child_compensates_when_its_parent_asks_and_stays_completed() {
    let document = graph(json!([booked("a"), undo("a")]), json!(["start>a", "a>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    assert_eq!(scenario.phase(), COMPLETED);
    let parent = ParentRef {
        execution_id: id(90),
        node_id: "sub".to_owned(),
        run: 1,
        attempt: 1,
        depth: 1,
        detached: false,
    };
    let ask = ExecutionCommand::Compensate { parent };
    assert_eq!(scenario.when(ask.clone()).expect("accepted"), ["compensation.started", "scheduled undo_a"]);
    assert_eq!(
        scenario.done("undo_a", json!(0)),
        ["completed undo_a", "compensated a", "compensation.finished"]
    );
    assert_eq!(scenario.latest("execution.compensation.finished")["parent"]["node_id"], "sub");
    assert_eq!(scenario.phase(), COMPLETED);
    assert_eq!(scenario.when(ask).expect_err("once").code, "nothing_to_compensate");
}

#[test]
fn an_engine_node_may_undo_and_be_undone_in_one_step() {
    let done = with(transform("a", json!(1)), "compensate", json!("undo_a"));
    let document = graph(
        json!([done, node("f", "fail", json!({})), transform("undo_a", json!("{{ nodes.a.output + 1 }}"))]),
        json!(["start>a", "a>f", "f>end"]),
    );
    let scenario = given(document).started_with(Value::Null);
    assert_eq!(
        scenario.types(),
        [
            "started",
            "completed a",
            "failed f",
            "compensation.started",
            "completed undo_a",
            "compensated a",
            "compensation.finished",
            "failed"
        ]
    );
}

/// A completed child with `a` and `b`, which its parent has asked to undo its work.
fn asked_by_parent() -> (Scenario, ExecutionCommand) {
    let document =
        graph(json!([booked("a"), booked("b"), undo("a"), undo("b")]), json!(["start>a", "a>b", "b>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.done("b", json!(2));
    let parent = ParentRef {
        execution_id: id(90),
        node_id: "sub".to_owned(),
        run: 1,
        attempt: 1,
        depth: 1,
        detached: false,
    };
    let ask = ExecutionCommand::Compensate { parent };
    assert_eq!(scenario.when(ask.clone()).expect("accepted"), ["compensation.started", "scheduled undo_b"]);
    (scenario, ask)
}

#[test]
fn a_child_that_could_not_undo_all_its_work_goes_on_with_the_rest_when_it_is_asked_again() {
    let (mut scenario, ask) = asked_by_parent();
    scenario.done("undo_b", json!(0));
    let events = scenario.broken("undo_a", ErrorKind::Http4xx);
    assert_eq!(events, ["failed undo_a", "compensation.finished undo_a"]);
    assert_eq!(scenario.latest("execution.compensation.finished")["status"], "failed");
    assert_eq!(scenario.when(ask.clone()).expect("accepted"), ["retried", "scheduled undo_a"]);
    let events = scenario.done("undo_a", json!(0));
    assert_eq!(events, ["completed undo_a", "compensated a", "compensation.finished"]);
    assert_eq!(scenario.latest("execution.compensation.finished")["parent"]["node_id"], "sub");
    assert_eq!((scenario.phase(), scenario.count("scheduled undo_b")), (COMPLETED, 1));
    assert_eq!(scenario.when(ask).expect_err("once").code, "nothing_to_compensate");
}

#[test]
fn a_parent_hears_of_a_child_that_is_terminated_while_it_undoes_its_work() {
    let (mut scenario, ask) = asked_by_parent();
    let events = scenario.when(ExecutionCommand::Terminate { reason: None }).expect("accepted");
    assert_eq!(events, ["cancelled undo_b", "compensation.finished", "terminated"]);
    let told = scenario.latest("execution.compensation.finished");
    assert_eq!((&told["status"], &told["parent"]["node_id"]), (&json!("failed"), &json!("sub")));
    // Asked again it goes on.
    let events = scenario.when(ask).expect("accepted");
    assert_eq!(events, ["retried", "scheduled undo_b"]);
}

#[test]
fn thousands_of_attempts_that_do_not_stop_are_cancelled_in_several_decisions() {
    let inner = || body(json!([request("x")]), json!(["start>x", "x>end"]));
    let items: Vec<u32> = (0..800).collect();
    let looped =
        |id: &str| node(id, "loop", json!({"over": items.clone(), "max_concurrency": 1000, "body": inner()}));
    let document = graph(
        json!([booked("a"), looped("l"), looped("m"), looped("n"), undo("a")]),
        json!(["start>a", "a>l", "a>m", "a>n", "l>end", "m>end", "n>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.passes(1_000);
    assert_eq!(scenario.state().busy_leaves, 2_400);
    scenario.cancel();
    scenario.passes(11_000);
    assert_eq!(scenario.count("scheduled undo_a"), 1);
    scenario.done("undo_a", json!(0));
    assert_eq!(scenario.phase(), CANCELLED);
}

#[test]
fn after_a_lost_worker_too_a_run_is_undone_with_the_output_of_that_run() {
    let document = graph(
        json!([
            booked("a"),
            condition("enough", "nodes.a.output >= 2"),
            node("f", "fail", json!({})),
            undo("a")
        ]),
        json!(["start>a", "a>enough", "enough.true>f", "enough.false<a", "f>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.done("a", json!(2));
    scenario.done("undo_a", json!(0));
    let node = scenario.in_flight("undo_a");
    scenario.when(ExecutionCommand::LoseWorker { node }).expect("in flight");
    let again = scenario.latest("execution.node.scheduled");
    assert_eq!((&again["attempt"], &again["config"]["url"]), (&json!(2), &json!("http://127.0.0.1:1/1")));
}

#[test]
fn a_mute_fork_does_not_have_the_child_of_its_origin_undone() {
    let document = graph(
        json!([
            node("sub", "sub_workflow", json!({"workflow": "w"})),
            node("w", "wait", json!({"for": "approval"}))
        ]),
        json!(["start>sub", "sub>w", "w>end"]),
    );
    let mut origin = given(document).started_with(Value::Null);
    origin.child_ends("sub", Ok(json!(1)));
    for effects in [Effects::Mute, Effects::Replay] {
        let (mut fork, wanted) = origin.forked(origin.log.len() as u64, effects);
        fork.when(ExecutionCommand::Fork(wanted)).expect("accepted");
        fork.cancel();
        assert_eq!((fork.phase(), fork.count("child.compensation_requested sub")), (CANCELLED, 0));
    }
}
