//! Pause, resume, terminate, retry, dead letters; concurrency keys.

use domain::decision::NodeRun;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::ErrorKind;
use domain::execution::{ExecutionStatus, Phase};
use serde_json::{Map, Value, json};

use crate::documents::{body, end, graph, node, request, transform, with};
use crate::scenario::{CANCELLED, COMPLETED, FAILED, TERMINATED, given};

fn chain() -> Value {
    graph(
        json!([request("a"), request("b"), end(json!("{{ nodes.b.output }}"))]),
        json!(["start>a", "a>b", "b>end"]),
    )
}

#[test]
fn while_paused_results_are_recorded_and_nothing_new_starts() {
    let mut scenario = given(chain()).started_with(Value::Null);
    assert_eq!(scenario.pause(), ["paused"]);
    assert_eq!(scenario.pause(), Vec::<String>::new());
    assert_eq!(scenario.done("a", json!(1)), ["completed a"]);
    assert_eq!(scenario.resume(), ["resumed", "scheduled b"]);
    scenario.done("b", json!(2));
    assert_eq!(scenario.output(), json!(2));
}

#[test]
fn signals_and_timers_that_come_while_paused_count_after_it() {
    let document = graph(
        json!([
            node("d", "delay", json!({"duration_ms": 1000})),
            node("w", "wait", json!({"for": "approval"}))
        ]),
        json!(["start>d", "start>w", "d>end", "w>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.pause();
    scenario.passes(2_000);
    scenario.signal("approval", json!(1));
    assert_eq!((scenario.phase(), scenario.count("completed w")), (Phase::Running, 0));
    scenario.resume();
    assert_eq!(scenario.phase(), COMPLETED);
}

#[test]
fn what_is_not_paused_cannot_be_resumed_and_a_paused_one_can_be_cancelled() {
    let mut scenario = given(chain()).started_with(Value::Null);
    let resume = ExecutionCommand::Resume { reason: None };
    assert_eq!(scenario.when(resume).expect_err("not paused").code, "execution_not_paused");
    scenario.pause();
    scenario.cancel();
    assert_eq!(scenario.phase(), CANCELLED);
}

#[test]
fn terminating_ends_at_once_and_late_results_are_refused() {
    let mut scenario = given(chain()).started_with(Value::Null);
    let events =
        scenario.when(ExecutionCommand::Terminate { reason: Some("why".to_owned()) }).expect("accepted");
    assert_eq!(events, ["cancelled a", "terminated"]);
    assert_eq!(
        (scenario.phase(), scenario.latest("execution.terminated")["reason"].clone()),
        (TERMINATED, json!("why"))
    );
    assert!(scenario.completes("a", 1, json!(1)).is_err());
}

#[test]
fn a_retry_goes_on_from_the_failed_node_and_runs_nothing_finished_again() {
    let mut scenario = given(chain()).started_with(Value::Null);
    scenario.done("a", json!(1));
    scenario.broken("b", ErrorKind::Http4xx);
    assert_eq!(scenario.phase(), FAILED);
    assert_eq!(scenario.retry().expect("accepted"), ["retried", "scheduled b"]);
    assert_eq!(scenario.at("b").attempt, 2);
    scenario.done("b", json!(2));
    assert_eq!((scenario.output(), scenario.count("scheduled a")), (json!(2), 1));
}

#[test]
fn a_retry_runs_again_what_was_stopped_with_the_failure() {
    let document =
        graph(json!([request("a"), request("b")]), json!(["start>a", "start>b", "a>end", "b>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.broken("a", ErrorKind::Http4xx);
    let events = scenario.retry().expect("accepted");
    assert_eq!(events, ["retried", "scheduled a", "scheduled b"]);
    scenario.done("a", json!(1));
    scenario.done("b", json!(1));
    assert_eq!(scenario.phase(), COMPLETED);
}

#[test]
fn a_retry_may_give_the_failed_node_another_configuration() {
    let mut scenario = given(chain()).started_with(Value::Null);
    scenario.broken("a", ErrorKind::Http4xx);
    let inputs = |path: &str| Map::from_iter([(path.to_owned(), json!({"url": "http://127.0.0.1:2/"}))]);
    let retry =
        |path: &str| ExecutionCommand::Retry { reason: None, node_inputs: inputs(path), dead_letter: None };
    assert_eq!(scenario.when(retry("end")).expect_err("no worker node").code, "invalid_node_inputs");
    scenario.when(retry("a")).expect("accepted");
    assert_eq!(scenario.latest("execution.node.scheduled")["config"]["url"], "http://127.0.0.1:2/");
}

#[test]
fn what_has_not_failed_is_not_retried() {
    let mut scenario = given(chain()).started_with(Value::Null);
    assert_eq!(scenario.retry().expect_err("running").code, "execution_not_failed");
    scenario.cancel();
    assert_eq!(scenario.retry().expect_err("cancelled").code, "execution_not_failed");
}

#[test]
fn a_retry_inside_a_loop_goes_on_with_that_iteration() {
    let inner = body(json!([request("x"), end(json!("{{ nodes.x.output }}"))]), json!(["start>x", "x>end"]));
    let looped = node("loop", "loop", json!({"over": [1, 2], "body": inner}));
    let document =
        graph(json!([looped, end(json!("{{ nodes.loop.output }}"))]), json!(["start>loop", "loop>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.done("loop/0/x", json!("kept"));
    scenario.broken("loop/1/x", ErrorKind::Http4xx);
    assert_eq!(scenario.phase(), FAILED);
    scenario.retry().expect("accepted");
    scenario.done("loop/1/x", json!("now"));
    assert_eq!((scenario.output(), scenario.count("scheduled loop/0/x")), (json!(["kept", "now"]), 1));
}

#[test]
fn a_node_out_of_attempts_is_a_dead_letter_that_is_redriven_once() {
    let retried = with(request("a"), "retry", json!({"max_attempts": 2, "jitter": false}));
    let document = graph(json!([retried]), json!(["start>a", "a>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    scenario.broken("a", ErrorKind::Http5xx);
    scenario.passes(200);
    assert_eq!(scenario.broken("a", ErrorKind::Http5xx), ["failed a", "dead_lettered a", "failed"]);
    let letter = NodeRun { node_id: "a".to_owned(), run: 1, attempt: 2 };
    let redrive = || ExecutionCommand::Retry {
        reason: None,
        node_inputs: Map::new(),
        dead_letter: Some(letter.clone()),
    };
    assert_eq!(scenario.when(redrive()).expect("accepted"), ["retried", "scheduled a"]);
    // Its retry policy begins anew.
    assert!(scenario.broken("a", ErrorKind::Http5xx).contains(&"retry_scheduled a".to_owned()));
    scenario.passes(200);
    scenario.broken("a", ErrorKind::Http5xx);
    assert_eq!(scenario.when(redrive()).expect_err("another letter now").code, "dead_letter_stale");
}

#[test]
fn a_failure_that_is_passed_over_is_no_dead_letter() {
    let document =
        graph(json!([with(request("a"), "on_error", json!("continue"))]), json!(["start>a", "a>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    assert_eq!(scenario.broken("a", ErrorKind::Http5xx), ["failed a", "completed a", "completed"]);
}

#[test]
fn a_concurrency_key_holds_an_execution_back_until_its_lane_admits_it() {
    let document = with(
        graph(json!([transform("a", json!(1))]), json!(["start>a", "a>end"])),
        "concurrency",
        json!({"key": "{{ input.customer }}", "limit": 2, "on_limit": "drop"}),
    );
    let start = || given(document.clone()).started_with(json!({"customer": "acme"}));
    let mut scenario = start();
    assert_eq!(scenario.types(), ["started", "queued"]);
    assert_eq!(scenario.phase(), Phase::Queued);
    let queued = scenario.latest("execution.queued");
    assert_eq!(
        (&queued["key"], &queued["limit"], &queued["on_limit"]),
        (&json!("acme"), &json!(2), &json!("drop"))
    );
    let lane = scenario.state().lane.expect("a lane");
    let other = ExecutionCommand::Admit { lane: crate::scenario::id(55) };
    assert_eq!(scenario.when(other).expect_err("another lane").code, "execution_not_queued");
    let events = scenario.when(ExecutionCommand::Admit { lane }).expect("accepted");
    assert_eq!(events, ["admitted", "completed a", "completed"]);
    assert_eq!(scenario.latest("execution.completed")["lane"], json!(lane));
    let mut scenario = start();
    scenario.when(ExecutionCommand::Drop { lane }).expect("accepted");
    assert_eq!(scenario.phase(), Phase::Finished(ExecutionStatus::Cancelled));
    assert_eq!(scenario.latest("execution.cancelled")["reason"], "concurrency_limit");
}

#[test]
fn an_execution_that_waits_for_its_lane_can_be_cancelled() {
    let document =
        with(graph(json!([]), json!(["start>end"])), "concurrency", json!({"key": "k", "limit": 1}));
    let mut scenario = given(document).started_with(Value::Null);
    assert_eq!(scenario.cancel(), ["cancelled"]);
    assert!(scenario.latest("execution.cancelled")["lane"].is_string());
}

#[test]
fn a_paused_execution_that_is_cancelled_or_out_of_time_undoes_its_work_at_once() {
    let booked = with(request("a"), "compensate", json!("undo"));
    let document = with(
        graph(json!([booked, request("b"), request("undo")]), json!(["start>a", "a>b", "b>end"])),
        "timeout_ms",
        json!(60_000),
    );
    for ends_by_itself in [false, true] {
        let mut scenario = given(document.clone()).started_with(Value::Null);
        scenario.done("a", json!(1));
        scenario.pause();
        scenario.done("b", json!(2));
        if ends_by_itself {
            scenario.passes(60_000);
        } else {
            scenario.cancel();
        }
        assert_eq!(scenario.count("scheduled undo"), 1, "{:?}", scenario.types());
        scenario.done("undo", json!(0));
        assert_eq!(scenario.phase(), if ends_by_itself { FAILED } else { CANCELLED });
    }
}

#[test]
fn another_configuration_for_a_failed_node_is_data_and_names_no_credential() {
    let mut scenario = given(chain()).started_with(Value::Null);
    scenario.broken("a", ErrorKind::Http4xx);
    let parts = json!({"$parts": [{"$credential": "shop_token", "field": "value"}]});
    let config = json!({"url": "http://127.0.0.1:1/", "headers": {"x": parts}});
    let node_inputs = Map::from_iter([("a".to_owned(), config.clone())]);
    scenario
        .when(ExecutionCommand::Retry { reason: None, node_inputs, dead_letter: None })
        .expect("accepted");
    let rendered = scenario.latest("execution.node.scheduled")["config"].clone();
    let mut asked = Vec::new();
    let resolved = domain::expression::resolve_parts(rendered, &mut |name: &str, _: &str| {
        asked.push(name.to_owned());
        Ok::<_, ()>("secret".to_owned())
    });
    assert_eq!((resolved, asked), (Ok(config), Vec::new()));
}
