//! Forks: going on from any event of another execution.

use domain::execution::Phase;
use domain::execution::command::{ExecutionCommand, ForkExecution};
use domain::execution::event::{Effects, ErrorKind};
use serde_json::{Map, Value, json};

use crate::documents::{body, end, graph, node, request, transform, with};
use crate::scenario::{COMPLETED, FAILED, Scenario, given};

fn chain() -> Value {
    graph(
        json!([
            request("a"),
            node("b", "http_request", json!({"url": "http://127.0.0.1:1/{{ nodes.a.output }}"})),
            end(json!({"a": "{{ nodes.a.output }}", "b": "{{ nodes.b.output }}", "input": "{{ input }}"}))
        ]),
        json!(["start>a", "a>b", "b>end"]),
    )
}

fn finished() -> Scenario {
    let mut scenario = given(chain()).started_with(json!("in"));
    scenario.done("a", json!("A"));
    scenario.done("b", json!("B"));
    scenario
}

fn fork(
    origin: &Scenario,
    at_version: u64,
    effects: Effects,
    change: impl FnOnce(&mut ForkExecution),
) -> Scenario {
    let (mut fork, mut wanted) = origin.forked(at_version, effects);
    change(&mut wanted);
    fork.when(ExecutionCommand::Fork(wanted)).expect("accepted");
    fork
}

#[test]
fn a_fork_goes_on_from_an_event_and_runs_nothing_finished_again() {
    let origin = finished();
    let mut fork = fork(&origin, origin.version_of("completed a"), Effects::Live, |_| {});
    assert_eq!(fork.types(), ["forked", "scheduled b"]);
    assert_ne!(fork.stream, origin.stream);
    fork.done("b", json!("other"));
    assert_eq!(fork.output(), json!({"a": "A", "b": "other", "input": "in"}));
}

#[test]
fn work_that_was_undone_is_not_taken_over_by_a_fork() {
    let mut book = request("book");
    book["compensate"] = json!("unbook");
    let document =
        graph(json!([book, request("unbook"), request("pay")]), json!(["start>book", "book>pay", "pay>end"]));
    let mut origin = given(document).started_with(Value::Null);
    origin.done("book", json!("booked"));
    origin.broken("pay", ErrorKind::Http4xx);
    let undoing = origin.version_of("compensation.started");
    origin.done("unbook", json!("unbooked"));
    for at_version in undoing..=origin.log.len() as u64 {
        let (mut fork, wanted) = origin.forked(at_version, Effects::Live);
        let refused = fork.when(ExecutionCommand::Fork(wanted)).expect_err("undone work");
        assert_eq!(refused.code, "fork_after_compensation", "at {at_version}");
    }
    let before = fork(&origin, origin.version_of("scheduled book"), Effects::Live, |_| {});
    assert_eq!(before.types(), ["forked", "scheduled book"]);
}

#[test]
fn a_node_in_flight_at_the_event_is_scheduled_anew() {
    let origin = finished();
    let fork = fork(&origin, origin.version_of("scheduled a"), Effects::Live, |_| {});
    assert_eq!(fork.types(), ["forked", "scheduled a"]);
    assert_eq!(fork.at("a").attempt, 2);
}

#[test]
fn a_fork_may_have_another_input_and_other_outputs() {
    let origin = finished();
    let change = |wanted: &mut ForkExecution| {
        wanted.input = Some(json!("changed"));
        wanted.node_outputs = Map::from_iter([("a".to_owned(), json!("X"))]);
    };
    let mut fork = fork(&origin, origin.version_of("completed a"), Effects::Live, change);
    assert_eq!(fork.latest("execution.node.scheduled")["config"]["url"], "http://127.0.0.1:1/X");
    fork.done("b", json!(1));
    assert_eq!(fork.output(), json!({"a": "X", "b": 1, "input": "changed"}));
}

#[test]
fn timers_keep_the_time_that_was_left_of_them() {
    let document =
        graph(json!([node("d", "delay", json!({"duration_ms": 10_000}))]), json!(["start>d", "d>end"]));
    let mut origin = given(document).started_with(Value::Null);
    let at = origin.log.len() as u64;
    origin.passes(60_000);
    assert_eq!(origin.phase(), COMPLETED);
    let mut fork = fork(&origin, at, Effects::Live, |_| {});
    assert_eq!(fork.passes(9_999), Vec::<String>::new());
    fork.passes(1);
    assert_eq!(fork.phase(), COMPLETED);
}

#[test]
fn a_signal_that_came_later_is_not_taken_over_and_one_before_is() {
    let wait = |id: &str, signal: &str| node(id, "wait", json!({"for": "signal", "signal": signal}));
    let document = graph(
        json!([request("a"), wait("w", "go"), end(json!("{{ nodes.w.output }}"))]),
        json!(["start>a", "a>w", "w>end"]),
    );
    let mut origin = given(document).started_with(Value::Null);
    let before = origin.log.len() as u64;
    origin.signal("go", json!("early"));
    let after = origin.log.len() as u64;
    origin.done("a", json!(1));
    let mut without = fork(&origin, before, Effects::Live, |_| {});
    without.done("a", json!(1));
    assert_eq!(without.types().last().map(String::as_str), Some("waiting w"));
    let mut with = fork(&origin, after, Effects::Live, |_| {});
    with.done("a", json!(1));
    assert_eq!(with.output(), json!("early"));
}

#[test]
fn a_replay_takes_the_recorded_outcome_where_the_rendered_config_is_equal() {
    let origin = finished();
    let same = fork(&origin, 1, Effects::Replay, |_| {});
    assert_eq!((same.phase(), same.output()), (COMPLETED, json!({"a": "A", "b": "B", "input": "in"})));
    assert!(!same.types().iter().any(|event| event.starts_with("scheduled")));
    let change = |wanted: &mut ForkExecution| {
        wanted.node_outputs = Map::from_iter([("a".to_owned(), json!("X"))]);
    };
    let other = fork(&origin, origin.version_of("completed a"), Effects::Replay, change);
    assert_eq!(other.phase(), FAILED);
    assert_eq!(other.latest("execution.failed")["error"]["kind"], "no_record");
}

#[test]
fn a_replay_of_a_failure_fails_the_same_way() {
    let mut origin = given(chain()).started_with(json!("in"));
    origin.broken("a", ErrorKind::Http4xx);
    let fork = fork(&origin, 1, Effects::Replay, |_| {});
    assert_eq!(fork.latest("execution.failed")["error"]["kind"], "http_4xx");
}

#[test]
fn a_mute_fork_takes_recorded_outputs_or_null_and_dispatches_nothing() {
    let mut origin = given(chain()).started_with(json!("in"));
    origin.done("a", json!("A"));
    let fork = fork(&origin, 1, Effects::Mute, |_| {});
    assert_eq!(fork.output(), json!({"a": "A", "b": null, "input": "in"}));
    assert!(!fork.types().iter().any(|event| event.starts_with("scheduled")));
}

#[test]
fn in_replay_and_mute_events_and_answers_stay_silent() {
    let document = graph(
        json!([
            request("a"),
            node("tell", "emit_event", json!({"type": "order.paid"})),
            node("r", "respond", json!({}))
        ]),
        json!(["start>a", "a>tell", "tell>r", "r>end"]),
    );
    let mut origin = given(document).started_with(Value::Null);
    origin.done("a", json!(1));
    assert_eq!((origin.count("event.emitted tell"), origin.count("responded r")), (1, 1));
    for effects in [Effects::Replay, Effects::Mute] {
        let fork = fork(&origin, 1, effects, |_| {});
        assert_eq!(fork.phase(), COMPLETED);
        assert_eq!((fork.count("event.emitted tell"), fork.count("responded r")), (0, 0), "{effects:?}");
    }
}

#[test]
fn a_fork_of_a_version_that_does_not_exist_is_refused() {
    let origin = finished();
    for at_version in [0, 1_000] {
        let (mut fork, wanted) = origin.forked(at_version, Effects::Live);
        let refused = fork.when(ExecutionCommand::Fork(wanted)).expect_err("refused");
        assert_eq!(refused.code, "fork_version_not_found");
    }
    let (mut fork, mut wanted) = origin.forked(1, Effects::Live);
    wanted.node_outputs = Map::from_iter([("ghost".to_owned(), json!(1))]);
    assert_eq!(fork.when(ExecutionCommand::Fork(wanted)).expect_err("refused").code, "invalid_node_outputs");
}

#[test]
fn forks_of_forks_go_thirty_two_deep() {
    let mut origin = given(chain()).started_with(json!("in"));
    for depth in 1..=32 {
        origin = fork(&origin, 1, Effects::Live, |_| {});
        assert_eq!(origin.latest("execution.forked")["depth"], depth);
    }
    let (mut fork, wanted) = origin.forked(1, Effects::Live);
    assert_eq!(fork.when(ExecutionCommand::Fork(wanted)).expect_err("too deep").code, "fork_too_deep");
}

#[test]
fn a_waiting_child_is_forked_with_its_parent() {
    let document = graph(
        json!([node("sub", "sub_workflow", json!({"workflow": "w"})), end(json!("{{ nodes.sub.output }}"))]),
        json!(["start>sub", "sub>end"]),
    );
    let mut origin = given(document).started_with(Value::Null);
    let child = origin.at("sub").child.expect("a child");
    origin.children.insert(child, 4);
    let mut fork = fork(&origin, origin.log.len() as u64, Effects::Live, |_| {});
    let forked = fork.latest("execution.forked")["children"][0].clone();
    assert_eq!((&forked["origin"], &forked["at_version"]), (&json!(child), &json!(4)));
    assert_ne!(fork.at("sub").child, Some(child));
    fork.child_ends("sub", Ok(json!("forked child")));
    assert_eq!(fork.output(), json!("forked child"));
}

#[test]
fn a_timer_that_fires_while_a_fork_waits_for_its_lane_counts_when_it_is_admitted() {
    let delay = node("d", "delay", json!({"duration_ms": 10_000}));
    let wait = node("w", "wait", json!({"for": "event", "type": "order.paid"}));
    let document = with(
        graph(json!([delay, wait]), json!(["start>d", "start>w", "d>end", "w>end"])),
        "concurrency",
        json!({"key": "k", "limit": 1}),
    );
    let mut origin = given(document).started_with(Value::Null);
    let lane = origin.state().lane.expect("a lane");
    origin.when(ExecutionCommand::Admit { lane }).expect("queued");
    let mut fork = fork(&origin, origin.log.len() as u64, Effects::Live, |_| {});
    assert_eq!(fork.phase(), Phase::Queued);
    assert_eq!(fork.passes(60_000), ["timer.fired d"]);
    assert_eq!(fork.offer("w", 0, (50, "order.paid"), json!({})).expect("wanted"), ["wait.satisfied w"]);
    fork.when(ExecutionCommand::Admit { lane }).expect("queued");
    assert_eq!(fork.phase(), COMPLETED);
}

#[test]
fn what_another_version_of_the_workflow_has_no_more_does_not_hold_a_fork_up() {
    let inner = body(json!([node("w", "wait", json!({"for": "approval"}))]), json!(["start>w", "w>end"]));
    let document = graph(
        json!([
            node("d", "delay", json!({"duration_ms": 10_000})),
            node("sub", "sub_workflow", json!({"workflow": "w"})),
            node("loop", "loop", json!({"over": [1, 2], "body": inner})),
            node("other", "wait", json!({"for": "approval"})),
            node("still", "delay", json!({"duration_ms": 5_000})),
            request("r")
        ]),
        json!([
            "start>d",
            "start>sub",
            "start>loop",
            "start>other",
            "start>still",
            "start>r",
            "d>end",
            "sub>end",
            "loop>end",
            "other>end",
            "still>end",
            "r>end"
        ]),
    );
    let mut origin = given(document).started_with(Value::Null);
    let child = origin.at("sub").child.expect("a child");
    origin.children.insert(child, 1);
    let (mut fork, mut wanted) = origin.forked(origin.log.len() as u64, Effects::Live);
    wanted.workflow_version = Some(2);
    fork.with_definition(graph(
        json!([
            transform("other", json!("{{ 1 + 1 }}")),
            node("still", "delay", json!({"duration_ms": 5_000})),
            end(json!("{{ nodes.other.output }}"))
        ]),
        json!(["start>other", "start>still", "other>end", "still>end"]),
    ));
    fork.when(ExecutionCommand::Fork(wanted)).expect("accepted");
    assert_eq!(fork.latest("execution.forked")["children"], Value::Null);
    fork.passes(5_000);
    assert_eq!((fork.phase(), fork.output()), (COMPLETED, json!(2)), "{:#?}", fork.types());
}

#[test]
fn a_child_whose_node_gets_its_output_from_the_fork_is_not_forked() {
    let document = graph(
        json!([node("sub", "sub_workflow", json!({"workflow": "w"})), end(json!("{{ nodes.sub.output }}"))]),
        json!(["start>sub", "sub>end"]),
    );
    let mut origin = given(document).started_with(Value::Null);
    let child = origin.at("sub").child.expect("a child");
    origin.children.insert(child, 4);
    let change = |wanted: &mut ForkExecution| {
        wanted.node_outputs = Map::from_iter([("sub".to_owned(), json!("given"))]);
    };
    let fork = fork(&origin, origin.log.len() as u64, Effects::Live, change);
    assert_eq!(fork.latest("execution.forked")["children"], Value::Null);
    assert_eq!(fork.output(), json!("given"));
}

#[test]
fn an_output_for_an_iteration_that_has_not_begun_lets_those_before_it_wait_their_turn() {
    let inner = body(json!([request("x"), request("y")]), json!(["start>x", "x>y", "y>end"]));
    let document = graph(
        json!([node("loop", "loop", json!({"over": [1, 2, 3], "body": inner}))]),
        json!(["start>loop", "loop>end"]),
    );
    let origin = given(document).started_with(Value::Null);
    let change = |wanted: &mut ForkExecution| {
        wanted.node_outputs = Map::from_iter([("loop/2/x".to_owned(), json!("given"))]);
    };
    let mut fork = fork(&origin, origin.log.len() as u64, Effects::Live, change);
    assert_eq!(fork.types(), ["forked", "scheduled loop/0/x"]);
    for path in ["loop/0/x", "loop/0/y", "loop/1/x", "loop/1/y", "loop/2/y"] {
        fork.done(path, json!(1));
    }
    assert_eq!((fork.phase(), fork.count("scheduled loop/2/x")), (COMPLETED, 0));
}

#[test]
fn a_wait_that_begins_in_a_fork_finds_signals_from_the_origins_time_also_in_a_fork_of_it() {
    let document = graph(
        json!([request("a"), node("w", "wait", json!({"for": "signal", "signal": "go"}))]),
        json!(["start>a", "a>w", "w>end"]),
    );
    let mut origin = given(document).started_with(Value::Null);
    origin.passes(1_000);
    origin.signal("go", json!("early"));
    origin.passes(1_000);
    let mut first = fork(&origin, origin.log.len() as u64, Effects::Live, |_| {});
    first.passes(1_000);
    let mut second = fork(&first, 1, Effects::Live, |_| {});
    for fork in [&mut first, &mut second] {
        fork.passes(1_000);
        fork.done("a", json!(1));
        assert_eq!(fork.phase(), COMPLETED);
    }
}

#[test]
fn a_replay_of_many_outputs_makes_appends_that_fit_and_few_rounds_of_fetching() {
    let step = |at: usize| {
        let before = format!("{{{{ nodes.n{}.output.n }}}}", at.max(1) - 1);
        let url =
            if at == 0 { "http://127.0.0.1:1/".to_owned() } else { format!("http://127.0.0.1:1/{before}") };
        node(&format!("n{at}"), "http_request", json!({"url": url}))
    };
    for bytes in [60_000, 70_000] {
        let nodes: Vec<Value> = (0..100).map(step).collect();
        let edges: Vec<String> = (1..100).map(|at| format!("n{}>n{at}", at - 1)).collect();
        let edges: Vec<String> =
            edges.into_iter().chain(["start>n0".to_owned(), "n99>end".to_owned()]).collect();
        let mut origin = given(graph(json!(nodes), json!(edges))).started_with(Value::Null);
        for at in 0..100 {
            let (output, blob) = domain::blob::claim_check(json!({"n": at, "text": "x".repeat(bytes)}));
            blob.into_iter().for_each(|blob| origin.keep(blob));
            origin.done(&format!("n{at}"), output);
        }
        assert_eq!(origin.phase(), COMPLETED);
        let mut fork = fork(&origin, 1, Effects::Replay, |_| {});
        fork.passes(1_000);
        assert_eq!(fork.phase(), COMPLETED);
    }
}
