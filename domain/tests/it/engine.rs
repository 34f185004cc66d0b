//! The engine's rules, one test each.

use domain::decision::WakeupKind;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::ErrorKind;
use domain::execution::{ExecutionStatus, Phase};
use serde_json::{Value, json};

use crate::documents::node;
use crate::scenario::{given, graph, run};

const COMPLETED: Phase = Phase::Finished(ExecutionStatus::Completed);
const FAILED: Phase = Phase::Finished(ExecutionStatus::Failed);

fn transform(id: &str, output: Value) -> Value {
    json!({"id": id, "type": "transform", "config": {"output": output}})
}

fn request(id: &str) -> Value {
    json!({"id": id, "type": "http_request", "config": {"url": "http://127.0.0.1:1/"}})
}

fn with(mut node: Value, field: &str, value: Value) -> Value {
    node[field] = value;
    node
}

fn is_timer(kind: &WakeupKind) -> bool {
    matches!(kind, WakeupKind::Timer(_))
}

fn is_attempt_deadline(kind: &WakeupKind) -> bool {
    matches!(kind, WakeupKind::AttemptDeadline(_))
}

#[test]
fn a_chain_of_engine_nodes_is_one_append() {
    let document = graph(
        json!([
            transform("a", json!({"n": "{{ input.n + 1 }}"})),
            transform("b", json!("{{ nodes.a.output.n * 2 }}")),
            {"id": "end", "type": "end", "config": {"output": {"twice": "{{ nodes.b.output }}"}}},
        ]),
        json!(["start>a", "a>b", "b>end"]),
    );
    let scenario = given(document).started_with(json!({"n": 150}));
    assert_eq!(scenario.types(), ["started", "completed a", "completed b", "completed"]);
    assert_eq!(scenario.output(), json!({"twice": 302}));
}

#[test]
fn a_condition_takes_one_way_and_the_other_is_skipped() {
    let document = graph(
        json!([
            {"id": "large", "type": "condition", "config": {"expression": "input.total > 100"}},
            transform("yes", json!("large")),
            transform("no", json!("small")),
            {"id": "end", "type": "end", "config": {"output": "{{ has(nodes.yes.output) ? nodes.yes.output : nodes.no.output }}"}},
        ]),
        json!(["start>large", "large.true>yes", "large.false>no", "yes>end", "no>end"]),
    );
    let scenario = given(document).started_with(json!({"total": 100.5}));
    assert_eq!(scenario.types(), ["started", "completed large", "completed yes", "skipped no", "completed"]);
    assert_eq!(scenario.output(), json!("large"));
}

#[test]
fn a_switch_takes_the_first_true_case_or_default() {
    let document = graph(
        json!([
            {"id": "by", "type": "switch", "config": {"cases": [
                {"name": "big", "expression": "input > 10"},
                {"name": "huge", "expression": "input > 100"},
            ]}},
            transform("a", json!("a")), transform("b", json!("b")), transform("c", json!("c")),
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.by.output }}"}},
        ]),
        json!(["start>by", "by.big>a", "by.huge>b", "by.default>c", "a>end", "b>end", "c>end"]),
    );
    assert_eq!(given(document.clone()).started_with(json!(500)).output(), json!("big"));
    assert_eq!(given(document).started_with(json!(5)).output(), json!("default"));
}

#[test]
fn fan_out_runs_concurrently_and_a_join_waits_for_all() {
    let document = graph(
        json!([request("a"), request("b"), transform("join", json!(["{{ nodes.a.output }}", "{{ nodes.b.output }}"])),
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.join.output }}"}}]),
        json!(["start>a", "start>b", "a>join", "b>join", "join>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    assert_eq!(scenario.types(), ["started", "scheduled a", "scheduled b"]);
    assert_eq!(scenario.completes("b", 1, json!(2)).expect("accepted"), ["completed b"]);
    assert_eq!(
        scenario.completes("a", 1, json!(1)).expect("accepted"),
        ["completed a", "completed join", "completed"]
    );
    assert_eq!(scenario.output(), json!([1, 2]));
}

#[test]
fn a_branch_not_taken_never_blocks_a_join() {
    let document = graph(
        json!([
            {"id": "choose", "type": "condition", "config": {"expression": "false"}},
            request("slow"), transform("after_slow", json!(1)), transform("quick", json!(2)), transform("join", json!(3)),
        ]),
        json!([
            "start>choose",
            "start>quick",
            "choose.true>slow",
            "slow>after_slow",
            "after_slow>join",
            "quick>join",
            "join>end"
        ]),
    );
    let scenario = given(document).started_with(Value::Null);
    assert_eq!(scenario.phase(), COMPLETED);
    assert!(scenario.types().contains(&"skipped after_slow".to_owned()));
}

#[test]
fn the_first_result_of_an_attempt_wins_and_later_ones_are_stale() {
    let document =
        graph(json!([request("a"), request("b")]), json!(["start>a", "start>b", "a>end", "b>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.completes("a", 1, json!(1)).expect("accepted");
    let rejection = scenario.completes("a", 1, json!(2)).expect_err("stale");
    assert_eq!(rejection.code, "stale_attempt");
    assert_eq!(scenario.completes("b", 2, json!(1)).expect_err("never scheduled").code, "stale_attempt");
}

#[test]
fn a_failed_node_fails_the_execution_and_stops_the_others() {
    let document =
        graph(json!([request("a"), request("b")]), json!(["start>a", "start>b", "a>end", "b>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    let events = scenario.fails("a", 1, ErrorKind::Http5xx).expect("accepted");
    assert_eq!(events, ["failed a", "dead_lettered a", "cancelled b", "failed"]);
    assert_eq!(scenario.phase(), FAILED);
    assert_eq!(scenario.latest("execution.failed")["node_id"], "a");
    assert_eq!(scenario.completes("b", 1, json!(1)).expect_err("over").code, "stale_attempt");
}

#[test]
fn a_retry_waits_longer_each_time_and_ends_after_max_attempts() {
    let retry = json!({"max_attempts": 3, "initial_interval_ms": 100, "factor": 3.0, "jitter": false});
    let document = graph(json!([with(request("a"), "retry", retry)]), json!(["start>a", "a>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    let begin = scenario.now;
    assert_eq!(
        scenario.fails("a", 1, ErrorKind::Timeout).expect("accepted"),
        ["failed a", "retry_scheduled a", "timer.started a"]
    );
    assert_eq!(scenario.wakes(is_timer).expect("due"), ["timer.fired a", "scheduled a"]);
    assert_eq!(scenario.now.since_ms(begin), 100);
    scenario.fails("a", 2, ErrorKind::Connection).expect("accepted");
    scenario.wakes(is_timer).expect("due");
    assert_eq!(scenario.now.since_ms(begin), 400);
    assert_eq!(
        scenario.fails("a", 3, ErrorKind::Timeout).expect("accepted"),
        ["failed a", "dead_lettered a", "failed"]
    );
}

#[test]
fn an_error_that_retry_on_does_not_name_is_not_tried_again() {
    let document = graph(json!([with(request("a"), "retry", json!({}))]), json!(["start>a", "a>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    assert_eq!(
        scenario.fails("a", 1, ErrorKind::Http4xx).expect("accepted"),
        ["failed a", "dead_lettered a", "failed"]
    );
}

#[test]
fn jitter_keeps_the_pause_between_half_and_whole_and_is_the_same_on_replay() {
    let retry = json!({"initial_interval_ms": 1000});
    let document = graph(json!([with(request("a"), "retry", retry)]), json!(["start>a", "a>end"]));
    let pause = || {
        let mut scenario = given(document.clone()).started_with(Value::Null);
        scenario.fails("a", 1, ErrorKind::Timeout).expect("accepted");
        let begin = scenario.now;
        scenario.wakes(is_timer).expect("due");
        scenario.now.since_ms(begin)
    };
    assert!((500..=1000).contains(&pause()), "{}", pause());
    assert_eq!(pause(), pause());
}

#[test]
fn on_error_continue_goes_on_with_the_error_as_output() {
    let node = with(request("a"), "on_error", json!("continue"));
    let document = graph(
        json!([node, {"id": "end", "type": "end", "config": {"output": "{{ nodes.a.output.error.kind }}"}}]),
        json!(["start>a", "a>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    assert_eq!(
        scenario.fails("a", 1, ErrorKind::Http4xx).expect("accepted"),
        ["failed a", "completed a", "completed"]
    );
    assert_eq!(scenario.output(), json!("http_4xx"));
}

#[test]
fn on_error_route_leaves_by_the_error_handle_only_when_it_failed() {
    let node = with(request("a"), "on_error", json!("route"));
    let document = graph(
        json!([
            node,
            transform("fine", json!("fine")),
            transform("broken", json!("{{ nodes.a.error.message }}"))
        ]),
        json!(["start>a", "a>fine", "a.error>broken", "fine>end", "broken>end"]),
    );
    let mut failed = given(document.clone()).started_with(Value::Null);
    assert_eq!(
        failed.fails("a", 1, ErrorKind::Timeout).expect("accepted"),
        ["failed a", "completed a", "skipped fine", "completed broken", "completed"]
    );
    let mut worked = given(document).started_with(Value::Null);
    assert_eq!(
        worked.completes("a", 1, json!(1)).expect("accepted"),
        ["completed a", "completed fine", "skipped broken", "completed"]
    );
}

#[test]
fn an_attempt_past_its_deadline_times_out() {
    let node = with(request("a"), "timeout_ms", json!(5000));
    let mut scenario = given(graph(json!([node]), json!(["start>a", "a>end"]))).started_with(Value::Null);
    let begin = scenario.now;
    assert_eq!(scenario.wakes(is_attempt_deadline).expect("due"), ["failed a", "dead_lettered a", "failed"]);
    assert_eq!(scenario.now.since_ms(begin), 5000);
    assert_eq!(scenario.latest("execution.node.failed")["error"]["kind"], "timeout");
}

#[test]
fn a_deadline_of_an_attempt_that_is_over_is_stale() {
    let document =
        graph(json!([request("a"), request("b")]), json!(["start>a", "start>b", "a>end", "b>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.completes("b", 1, json!(1)).expect("accepted");
    assert_eq!(scenario.wakes(is_attempt_deadline).expect_err("stale").code, "stale_wakeup");
}

#[test]
fn an_execution_past_its_deadline_fails_with_everything_stopped() {
    let mut document = graph(json!([request("a")]), json!(["start>a", "a>end"]));
    document["timeout_ms"] = json!(1000);
    let mut scenario = given(document).started_with(Value::Null);
    let events = scenario.wakes(|kind| matches!(kind, WakeupKind::ExecutionDeadline)).expect("due");
    assert_eq!(events, ["cancelled a", "failed"]);
    assert_eq!(scenario.latest("execution.failed")["error"]["kind"], "timeout");
}

#[test]
fn a_lost_worker_raises_the_attempt_beside_max_attempts_and_five_times_at_most() {
    let document = graph(json!([request("a")]), json!(["start>a", "a>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    for attempt in 1..=5 {
        let lost = ExecutionCommand::LoseWorker { node: run("a", attempt) };
        assert_eq!(scenario.when(lost).expect("accepted"), ["failed a", "scheduled a"], "attempt {attempt}");
    }
    let lost = ExecutionCommand::LoseWorker { node: run("a", 6) };
    assert_eq!(scenario.when(lost).expect("accepted"), ["failed a", "dead_lettered a", "failed"]);
}

#[test]
fn a_delay_waits_for_its_timer_and_gives_the_time() {
    let delay = json!({"id": "pause", "type": "delay", "config": {"duration_ms": "{{ input.ms }}"}});
    let document = graph(
        json!([delay, {"id": "end", "type": "end", "config": {"output": "{{ nodes.pause.output }}"}}]),
        json!(["start>pause", "pause>end"]),
    );
    let mut scenario = given(document).started_with(json!({"ms": 1500}));
    assert_eq!(scenario.types(), ["started", "waiting pause", "timer.started pause"]);
    let begin = scenario.now;
    assert_eq!(scenario.wakes(is_timer).expect("due"), ["timer.fired pause", "completed pause", "completed"]);
    assert_eq!(scenario.now.since_ms(begin), 1500);
    assert_eq!(scenario.output(), json!(scenario.now.to_string()));
}

#[test]
fn a_delay_until_a_time_that_is_past_fires_at_once() {
    let delay = json!({"id": "pause", "type": "delay", "config": {"until": "2020-01-01T00:00:00Z"}});
    let scenario =
        given(graph(json!([delay]), json!(["start>pause", "pause>end"]))).started_with(Value::Null);
    // The event keeps the time that was asked for; the wakeup is due at once.
    assert_eq!(scenario.latest("execution.timer.started")["due_at"], "2020-01-01T00:00:00.000Z");
    assert_eq!(scenario.wakeups[0].due_at, scenario.now);
}

#[test]
fn an_expression_that_fails_at_run_time_fails_its_node_with_the_expression() {
    let document =
        graph(json!([transform("a", json!("{{ input.missing + 1 }}"))]), json!(["start>a", "a>end"]));
    let scenario = given(document).started_with(json!({}));
    assert_eq!(scenario.types(), ["started", "failed a", "failed"]);
    let error = &scenario.latest("execution.node.failed")["error"];
    assert_eq!(error["kind"], "expression_error");
    assert_eq!(error["details"]["expression"], "input.missing + 1");
}

#[test]
fn an_end_whose_output_fails_fails_the_execution() {
    let end = json!({"id": "end", "type": "end", "config": {"output": "{{ 1 / 0 }}"}});
    let scenario = given(graph(json!([end]), json!(["start>end"]))).started_with(Value::Null);
    assert_eq!(scenario.types(), ["started", "failed"]);
    assert_eq!(scenario.latest("execution.failed")["node_id"], "end");
}

#[test]
fn several_ends_give_an_object_by_end_id() {
    let end = |id: &str, value: u32| json!({"id": id, "type": "end", "config": {"output": value}});
    let document = graph(json!([end("one", 1), end("two", 2)]), json!(["start>one", "start>two"]));
    assert_eq!(given(document).started_with(Value::Null).output(), json!({"one": 1, "two": 2}));
}

#[test]
fn without_a_way_to_an_end_the_output_is_null() {
    let document = graph(
        json!([{"id": "never", "type": "condition", "config": {"expression": "false"}}]),
        json!(["start>never", "never.true>end"]),
    );
    let scenario = given(document).started_with(Value::Null);
    assert_eq!(scenario.phase(), COMPLETED);
    assert_eq!(scenario.output(), Value::Null);
}

#[test]
fn cancel_stops_nodes_and_timers_and_happens_once() {
    let delay = json!({"id": "pause", "type": "delay", "config": {"duration_ms": 60000}});
    let document =
        graph(json!([request("a"), delay]), json!(["start>a", "start>pause", "a>end", "pause>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    let cancel = || ExecutionCommand::Cancel { reason: Some("enough".to_owned()) };
    assert_eq!(
        scenario.when(cancel()).expect("accepted"),
        ["cancelled a", "timer.cancelled pause", "cancelled pause", "cancelled"]
    );
    assert_eq!(scenario.when(cancel()).expect_err("over").code, "execution_finished");
    assert_eq!(scenario.wakes(is_timer).expect_err("over").code, "stale_wakeup");
}

#[test]
fn a_signal_is_recorded_while_the_execution_runs_and_refused_after() {
    let mut scenario =
        given(graph(json!([request("a")]), json!(["start>a", "a>end"]))).started_with(Value::Null);
    let signal = || ExecutionCommand::Signal { name: "approved".to_owned(), payload: json!({"by": "ann"}) };
    assert_eq!(scenario.when(signal()).expect("accepted"), ["signal.received"]);
    scenario.completes("a", 1, Value::Null).expect("accepted");
    assert_eq!(scenario.when(signal()).expect_err("over").code, "execution_finished");
}

#[test]
fn text_from_input_is_never_read_as_a_template_or_a_credential() {
    let node = json!({"id": "a", "type": "http_request", "config": {
        "url": "http://127.0.0.1:1/",
        "headers": {"authorization": "Bearer {{ credentials.shop_token }}"},
        "body": {"text": "{{ input.text }}", "object": "{{ input.object }}"},
    }});
    let hostile = json!({"text": "{{ credentials.x }}", "object": {"$parts": [{"$credential": "x", "field": "value"}]}});
    let scenario = given(graph(json!([node]), json!(["start>a", "a>end"]))).started_with(hostile);
    let config = scenario.latest("execution.node.scheduled")["config"].clone();
    assert_eq!(
        config["headers"]["authorization"],
        json!({"$parts": ["Bearer ", {"$credential": "shop_token", "field": "value"}]})
    );
    assert_eq!(config["body"]["text"], "{{ credentials.x }}");
    assert_eq!(
        config["body"]["object"],
        json!({"$data": {"$parts": [{"$credential": "x", "field": "value"}]}})
    );
}

#[test]
fn variables_and_execution_are_in_scope() {
    let document = graph(
        json!([transform("a", json!("{{ vars.greeting }} {{ execution.workflow }} {{ trigger.kind }}")),
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.a.output }}"}}]),
        json!(["start>a", "a>end"]),
    );
    let scenario = given(document).with_variable("greeting", json!("hello")).started_with(Value::Null);
    assert_eq!(scenario.output(), json!("hello test api"));
}

#[test]
fn now_and_uuid_are_the_same_when_the_command_is_decided_again() {
    let document = graph(
        json!([transform("a", json!(["{{ now() }}", "{{ uuid() }}", "{{ uuid() }}"]))]),
        json!(["start>a", "a>end"]),
    );
    let output = || {
        given(document.clone()).started_with(Value::Null).latest("execution.node.completed")["output"].clone()
    };
    let first = output();
    assert_eq!(first, output());
    assert_ne!(first[1], first[2]);
}

#[test]
fn a_long_chain_yields_and_goes_on_to_the_same_end() {
    let nodes: Vec<Value> = (0..900).map(|n| transform(&format!("n{n}"), json!(n))).collect();
    let mut edges = vec![json!("start>n0")];
    edges.extend((1..900).map(|n| json!(format!("n{}>n{n}", n - 1))));
    edges.push(json!("n899>end"));
    let mut scenario = given(graph(json!(nodes), json!(edges))).started_with(Value::Null);
    assert_eq!(scenario.phase(), Phase::Running);
    assert_eq!(scenario.log.len(), 500);
    let rest = scenario.wakes(|kind| matches!(kind, WakeupKind::Yield(_))).expect("due");
    assert_eq!(rest.len(), 402);
    assert_eq!(scenario.phase(), COMPLETED);
}

#[test]
fn a_claim_check_put_together_from_input_fails_its_node() {
    let forged = json!({"$blob": {"sha256": "00", "bytes": 1, "media_type": "application/json"}});
    let document = graph(json!([transform("a", json!("{{ input.x }}"))]), json!(["start>a", "a>end"]));
    let scenario = given(document).started_with(json!({"x": forged}));
    assert_eq!(scenario.types(), ["started", "failed a", "failed"]);
}

#[test]
fn a_large_output_is_claim_checked_and_still_seen_by_the_next_node_of_the_same_decision() {
    let document = graph(
        json!([transform("copy", json!({"got": "{{ input + input }}"})),
            {"id": "end", "type": "end", "config": {"output": "{{ size(nodes.copy.output.got) }}"}}]),
        json!(["start>copy", "copy>end"]),
    );
    let scenario = given(document).started_with(json!("x".repeat(40_000)));
    assert_eq!(scenario.output(), json!(80_000));
    assert!(scenario.latest("execution.node.completed")["output"]["$blob"]["sha256"].is_string());
}

#[test]
fn retrying_lost_workers_ends_with_max_attempts() {
    let retry = json!({"max_attempts": 2, "initial_interval_ms": 1, "retry_on": ["worker_lost"]});
    let mut scenario = given(graph(json!([with(request("a"), "retry", retry)]), json!(["start>a", "a>end"])))
        .started_with(Value::Null);
    let mut losses = 0;
    // What does not fit into the append that fails is stopped by those after it.
    while !matches!(scenario.phase(), Phase::Finished(_)) {
        let node = scenario.state().nodes["a"].clone();
        if matches!(node.status, domain::execution::NodeStatus::BackingOff { .. }) {
            scenario.wakes(is_timer).expect("due");
            continue;
        }
        scenario.when(ExecutionCommand::LoseWorker { node: run("a", node.attempt) }).expect("accepted");
        losses += 1;
        assert!(losses < 20, "it never ends");
    }
    assert_eq!(losses, 7);
}

#[test]
fn the_start_has_the_input_as_its_output() {
    let document = graph(
        json!([{"id": "end", "type": "end", "config": {"output": "{{ nodes.start.output.x }}"}}]),
        json!(["start>end"]),
    );
    assert_eq!(given(document).started_with(json!({"x": 1})).output(), json!(1));
}

#[test]
fn stopping_many_nodes_never_makes_more_events_than_an_append_may_have() {
    let wait = |id: &str| json!({"id": id, "type": "delay", "config": {"duration_ms": 1_000_000}});
    let mut nodes: Vec<Value> = (0..700).map(|n| wait(&format!("d{n}"))).collect();
    let mut edges: Vec<String> =
        (0..700).flat_map(|n| [format!("start>d{n}"), format!("d{n}>end")]).collect();
    nodes.push(with(request("h"), "on_error", json!("continue")));
    edges.push("start>h".to_owned());
    nodes.extend((0..240).map(|n| wait(&format!("e{n}"))));
    edges.extend((0..240).flat_map(|n| [format!("h>e{n}"), format!("e{n}>end")]));
    nodes.push(transform("z", json!("{{ 1 / 0 }}")));
    edges.extend(["h>z".to_owned(), "z>end".to_owned()]);
    let mut scenario = given(graph(json!(nodes), json!(edges))).started_with(Value::Null);
    let is_yield = |kind: &WakeupKind| matches!(kind, WakeupKind::Yield(_));
    while !scenario.state().nodes.contains_key("h") {
        scenario.wakes(is_yield).expect("due");
    }
    assert!(scenario.completes("h", 1, json!(1)).expect("accepted").len() <= 2_000);
    // What does not fit into the append that fails is stopped by those after it.
    while !matches!(scenario.phase(), Phase::Finished(_)) {
        assert!(scenario.wakes(is_yield).expect("due").len() <= 2_000);
    }
    assert_eq!(scenario.phase(), FAILED);
}

#[test]
fn a_decision_that_makes_much_or_thinks_long_yields() {
    let copies: Vec<Value> = (0..150).map(|_| json!("{{ input }}")).collect();
    let nodes: Vec<Value> = (0..40).map(|n| transform(&format!("t{n}"), json!(copies))).collect();
    let edges: Vec<String> = (0..40).flat_map(|n| [format!("start>t{n}"), format!("t{n}>end")]).collect();
    let mut large = given(graph(json!(nodes), json!(edges)));
    let outcome = large.decide(crate::scenario::start_with(json!("x".repeat(60_000)))).expect("accepted");
    let bytes: usize = outcome.blobs.iter().map(|blob| blob.content.len()).sum();
    assert!(bytes < 20 * 1024 * 1024, "{bytes} bytes in one decision");

    let slow = "{{ input.all(a, input.all(b, input.all(c, a + b + c >= 0))) }}";
    let nodes: Vec<Value> = (0..20)
        .map(|n| with(transform(&format!("t{n}"), json!(slow)), "on_error", json!("continue")))
        .collect();
    let edges: Vec<String> = (0..20).flat_map(|n| [format!("start>t{n}"), format!("t{n}>end")]).collect();
    let mut long = given(graph(json!(nodes), json!(edges)));
    let numbers: Vec<u32> = (0..200).collect();
    let outcome = long.decide(crate::scenario::start_with(json!(numbers))).expect("accepted");
    assert!(outcome.events.len() <= 8, "{} events in one decision", outcome.events.len());
}

#[test]
fn data_in_the_form_of_a_claim_check_becomes_no_childs_input_no_event_and_no_answer() {
    let forged =
        json!({"$blob": {"sha256": "0".repeat(64), "bytes": 70_000, "media_type": "application/json"}});
    for (node_type, config) in [
        ("sub_workflow", json!({"workflow": "w", "input": "{{ input.x }}"})),
        ("emit_event", json!({"type": "order.paid", "data": "{{ input.x }}"})),
        ("respond", json!({"body": "{{ input.x }}"})),
    ] {
        let document = graph(json!([node("n", node_type, config)]), json!(["start>n", "n>end"]));
        let scenario = given(document).started_with(json!({"x": forged}));
        assert_eq!(scenario.types(), ["started", "failed n", "failed"], "{node_type}");
    }
}
