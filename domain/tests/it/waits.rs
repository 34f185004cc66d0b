//! `wait`: signals, approvals and events, early or late; `delay` and time limits.

use domain::decision::WakeupKind;
use domain::execution::Phase;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::ErrorKind;
use serde_json::{Value, json};

use crate::documents::{body, condition, end, graph, node, request, transform, with};
use crate::scenario::{COMPLETED, FAILED, Scenario, given};

/// A workflow of one wait, whose output is the wait's.
fn waiting(config: Value) -> Value {
    graph(json!([node("w", "wait", config), end(json!("{{ nodes.w.output }}"))]), json!(["start>w", "w>end"]))
}

fn wait_for(config: Value) -> Scenario {
    given(waiting(config)).started_with(json!({"order": 7}))
}

#[test]
fn a_signal_satisfies_a_wait_and_its_payload_is_the_output() {
    let mut scenario = wait_for(json!({"for": "signal", "signal": "go"}));
    assert_eq!(scenario.types(), ["started", "waiting w"]);
    assert_eq!(scenario.signal("other", json!(0)), ["signal.received"]);
    let events = scenario.signal("go", json!({"by": "ann"}));
    assert_eq!(events, ["signal.received", "wait.satisfied w", "completed w", "completed"]);
    assert_eq!(scenario.output(), json!({"by": "ann"}));
}

#[test]
fn a_signal_that_came_before_the_wait_satisfies_it() {
    let document = graph(
        json!([
            request("a"),
            node("w", "wait", json!({"for": "signal", "signal": "go"})),
            end(json!("{{ nodes.w.output }}"))
        ]),
        json!(["start>a", "a>w", "w>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.signal("go", json!("early"));
    let events = scenario.done("a", json!(1));
    assert_eq!(events, ["completed a", "waiting w", "wait.satisfied w", "completed w", "completed"]);
    assert_eq!(scenario.output(), json!("early"));
}

#[test]
fn what_came_before_since_does_not_count() {
    let document = graph(
        json!([
            request("a"),
            node("w", "wait", json!({"for": "signal", "signal": "go", "since": "{{ nodes.a.output }}"})),
            end(json!("{{ nodes.w.output }}"))
        ]),
        json!(["start>a", "a>w", "w>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.signal("go", json!("too early"));
    scenario.passes(1_000);
    scenario.done("a", json!(scenario.now));
    assert_eq!(scenario.phase(), domain::execution::Phase::Running);
    scenario.passes(1);
    scenario.signal("go", json!("in time"));
    assert_eq!(scenario.output(), json!("in time"));
}

#[test]
fn signals_are_broadcast_to_all_waits() {
    let wait = |id: &str| node(id, "wait", json!({"for": "signal", "signal": "go"}));
    let document = graph(
        json!([wait("a"), wait("b"), end(json!(["{{ nodes.a.output }}", "{{ nodes.b.output }}"]))]),
        json!(["start>a", "start>b", "a>end", "b>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.signal("go", json!(1));
    assert_eq!(scenario.output(), json!([1, 1]));
}

#[test]
fn a_wait_path_uses_a_signal_once_over_all_its_runs_and_the_oldest_first() {
    let document = graph(
        json!([
            node("w", "wait", json!({"for": "signal", "signal": "next"})),
            condition("last", "nodes.w.output == 'last'"),
            end(json!("{{ nodes.w.output }}"))
        ]),
        json!(["start>w", "w>last", "last.true>end", "last.false<w"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.signal("next", json!("first"));
    assert_eq!(scenario.at("w").run, 2);
    assert_eq!(scenario.count("wait.satisfied w"), 1);
    scenario.signal("next", json!("last"));
    assert_eq!((scenario.phase(), scenario.count("wait.satisfied w")), (COMPLETED, 2));
}

#[test]
fn signals_that_came_early_are_used_one_by_one_by_the_runs_of_a_wait() {
    let document = graph(
        json!([
            request("a"),
            node("w", "wait", json!({"for": "signal", "signal": "next"})),
            condition("last", "nodes.w.output == 3"),
            end(json!("{{ nodes.w.output }}"))
        ]),
        json!(["start>a", "a>w", "w>last", "last.true>end", "last.false<w"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    for payload in [1, 2, 3, 4] {
        scenario.signal("next", json!(payload));
    }
    scenario.done("a", json!(0));
    assert_eq!((scenario.output(), scenario.at("w").run), (json!(3), 3));
}

#[test]
fn a_filter_lets_only_some_signals_through() {
    let mut scenario =
        wait_for(json!({"for": "signal", "signal": "paid", "filter": "payload.order == input.order"}));
    assert_eq!(scenario.signal("paid", json!({"order": 8})), ["signal.received"]);
    scenario.signal("paid", json!({"order": 7}));
    assert_eq!(scenario.phase(), COMPLETED);
}

#[test]
fn a_filter_that_fails_fails_the_wait() {
    let mut scenario = wait_for(json!({"for": "signal", "signal": "paid", "filter": "payload.order == 7"}));
    scenario.signal("paid", json!("no object"));
    assert_eq!(scenario.phase(), FAILED);
    assert_eq!(scenario.latest("execution.failed")["error"]["kind"], "expression_error");
}

#[test]
fn an_approval_is_a_signal_named_approval_unless_it_says_otherwise() {
    let mut scenario = wait_for(json!({"for": "approval"}));
    scenario.signal("approval", json!({"approved": true}));
    assert_eq!(scenario.output(), json!({"approved": true}));
    let mut scenario = wait_for(json!({"for": "approval", "signal": "ok_{{ input.order }}"}));
    scenario.signal("ok_7", json!(1));
    assert_eq!(scenario.phase(), COMPLETED);
}

#[test]
fn a_wait_that_lasts_too_long_fails_or_continues_with_null() {
    let config = json!({"for": "approval", "timeout_ms": "{{ input.order * 1000 }}"});
    let mut scenario = wait_for(config.clone());
    assert_eq!(scenario.types(), ["started", "waiting w", "timer.started w"]);
    assert_eq!(scenario.passes(6_999), Vec::<String>::new());
    assert_eq!(scenario.passes(1), ["timer.fired w", "failed w", "failed"]);
    assert_eq!(scenario.latest("execution.failed")["error"]["kind"], "timeout");
    let mut scenario = wait_for(with(config, "on_timeout", json!("continue")));
    scenario.passes(7_000);
    assert_eq!((scenario.phase(), scenario.output()), (COMPLETED, Value::Null));
}

#[test]
fn a_wait_that_is_satisfied_cancels_its_timer() {
    let mut scenario = wait_for(json!({"for": "approval", "timeout_ms": 1000}));
    let events = scenario.signal("approval", json!(1));
    assert_eq!(
        events,
        ["signal.received", "wait.satisfied w", "timer.cancelled w", "completed w", "completed"]
    );
    assert_eq!(scenario.passes(2_000), Vec::<String>::new());
}

#[test]
fn any_takes_the_first_condition_that_is_met() {
    let any = json!({"any": [{"for": "signal", "signal": "a"}, {"for": "signal", "signal": "b"}]});
    let mut scenario = wait_for(any);
    scenario.signal("b", json!("second"));
    assert_eq!(scenario.output(), json!("second"));
    assert_eq!(scenario.latest("execution.wait.satisfied")["condition"], 1);
}

#[test]
fn all_needs_every_condition_and_gives_the_payloads_in_their_order() {
    let all = json!({"all": [{"for": "signal", "signal": "a"}, {"for": "approval"}, {"for": "event", "type": "order.paid"}]});
    let mut scenario = wait_for(all);
    scenario.signal("approval", json!(2));
    scenario.offer("w", 2, (70, "order.paid"), json!({"n": 3})).expect("wanted");
    assert_eq!(scenario.phase(), domain::execution::Phase::Running);
    scenario.signal("a", json!(1));
    assert_eq!(scenario.output(), json!([1, 2, {"n": 3}]));
}

#[test]
fn the_same_signal_may_meet_two_conditions_only_if_it_comes_twice() {
    let all = json!({"all": [{"for": "signal", "signal": "vote"}, {"for": "signal", "signal": "vote"}]});
    let mut scenario = wait_for(all);
    scenario.signal("vote", json!("ann"));
    assert_eq!(scenario.phase(), domain::execution::Phase::Running);
    scenario.signal("vote", json!("bo"));
    assert_eq!(scenario.output(), json!(["ann", "bo"]));
}

#[test]
fn a_wait_for_an_event_takes_the_first_of_its_type_and_key() {
    let config = json!({"for": "event", "type": "order.paid", "key": "{{ input.order }}", "filter": "payload.cents > 5"});
    let mut scenario = wait_for(config);
    let unwanted =
        |result: Result<Vec<String>, domain::rejection::Rejection>| result.expect_err("unwanted").code;
    assert_eq!(
        unwanted(scenario.offer("w", 0, (70, "order.sent"), json!({"key": 7, "cents": 9}))),
        "event_not_wanted"
    );
    assert_eq!(
        unwanted(scenario.offer("w", 0, (71, "order.paid"), json!({"key": 8, "cents": 9}))),
        "event_not_wanted"
    );
    assert_eq!(
        unwanted(scenario.offer("w", 0, (72, "order.paid"), json!({"key": 7, "cents": 5}))),
        "event_not_wanted"
    );
    let events = scenario.offer("w", 0, (73, "order.paid"), json!({"key": 7, "cents": 9})).expect("wanted");
    assert_eq!(events, ["wait.satisfied w", "completed w", "completed"]);
    assert_eq!(scenario.output(), json!({"key": 7, "cents": 9}));
    assert_eq!(scenario.latest("execution.wait.satisfied")["event"]["type"], "order.paid");
}

#[test]
fn an_open_wait_for_an_event_leaves_a_wakeup_by_which_it_is_found_and_renews_it() {
    let mut scenario = wait_for(json!({"for": "event", "type": "order.paid"}));
    let is_entry = |kind: &WakeupKind| matches!(kind, WakeupKind::EventWait(node) if node.node_id == "w");
    assert_eq!(scenario.wakeups.iter().filter(|wakeup| is_entry(&wakeup.kind)).count(), 1);
    scenario.passes(31 * 24 * 60 * 60 * 1000);
    assert!(scenario.wakeups.iter().any(|wakeup| is_entry(&wakeup.kind) && wakeup.due_at > scenario.now));
}

#[test]
fn a_wait_path_uses_an_event_once_over_all_its_runs() {
    let document = graph(
        json!([
            node("w", "wait", json!({"for": "event", "type": "order.paid"})),
            condition("enough", "nodes.w.output.cents > 5")
        ]),
        json!(["start>w", "w>enough", "enough.true>end", "enough.false<w"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.offer("w", 0, (70, "order.paid"), json!({"cents": 1})).expect("wanted");
    let again = scenario.offer("w", 0, (70, "order.paid"), json!({"cents": 1}));
    assert_eq!(again.expect_err("used").code, "event_not_wanted");
    scenario.offer("w", 0, (71, "order.paid"), json!({"cents": 9})).expect("wanted");
    assert_eq!(scenario.phase(), COMPLETED);
}

#[test]
fn waits_in_iterations_have_paths_of_their_own() {
    let inner = body(
        json!([
            node("w", "wait", json!({"for": "signal", "signal": "{{ item }}"})),
            end(json!("{{ nodes.w.output }}"))
        ]),
        json!(["start>w", "w>end"]),
    );
    let looped = node("loop", "loop", json!({"over": ["a", "b"], "max_concurrency": 2, "body": inner}));
    let document =
        graph(json!([looped, end(json!("{{ nodes.loop.output }}"))]), json!(["start>loop", "loop>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    assert!(scenario.signal("b", json!(2)).contains(&"wait.satisfied loop/1/w".to_owned()));
    scenario.signal("a", json!(1));
    assert_eq!(scenario.output(), json!([1, 2]));
}

#[test]
fn a_finished_execution_takes_no_signals() {
    let mut scenario = wait_for(json!({"for": "approval"}));
    scenario.signal("approval", json!(1));
    let signal = ExecutionCommand::Signal { name: "approval".to_owned(), payload: Value::Null };
    assert_eq!(scenario.when(signal).expect_err("finished").code, "execution_finished");
}

#[test]
fn an_emitted_event_has_the_authors_type_and_data_and_the_node_gives_its_id() {
    let document = graph(
        json!([
            node(
                "tell",
                "emit_event",
                json!({"type": "order.{{ input.what }}", "data": {"key": "{{ input.order }}"}})
            ),
            end(json!("{{ nodes.tell.output }}"))
        ]),
        json!(["start>tell", "tell>end"]),
    );
    let scenario = given(document).started_with(json!({"what": "paid", "order": 7}));
    assert_eq!(scenario.types(), ["started", "event.emitted tell", "completed tell", "completed"]);
    let emitted = scenario.latest("execution.event.emitted");
    assert_eq!((&emitted["type"], &emitted["data"]), (&json!("order.paid"), &json!({"key": 7})));
    assert!(scenario.output().as_str().is_some_and(|id| id.parse::<uuid::Uuid>().is_ok()));
}

#[test]
fn a_response_is_an_event_and_the_execution_goes_on() {
    let config = json!({"status": "{{ input }}", "headers": {"x-count": 3}, "body": {"ok": true}});
    let document = graph(
        json!([node("r", "respond", config), request("then")]),
        json!(["start>r", "r>then", "then>end"]),
    );
    let scenario = given(document).started_with(json!(201));
    assert_eq!(scenario.types(), ["started", "responded r", "completed r", "scheduled then"]);
    let responded = scenario.latest("execution.responded");
    assert_eq!((&responded["status"], &responded["headers"]["x-count"]), (&json!(201), &json!("3")));
}

#[test]
fn a_fail_node_ends_the_execution_with_its_message_unless_it_is_routed() {
    let document =
        graph(json!([node("f", "fail", json!({"message": "no {{ input }}"}))]), json!(["start>f", "f>end"]));
    let scenario = given(document).started_with(json!("stock"));
    let error = scenario.latest("execution.failed")["error"].clone();
    assert_eq!((&error["kind"], &error["message"]), (&json!("custom"), &json!("no stock")));
    let routed = with(node("f", "fail", json!({"message": "no"})), "on_error", json!("route"));
    let document = graph(
        json!([
            routed,
            transform("t", json!("{{ nodes.f.output.error.message }}")),
            end(json!("{{ nodes.t.output }}"))
        ]),
        json!(["start>f", "f.error>t", "t>end"]),
    );
    assert_eq!(given(document).started_with(Value::Null).output(), json!("no"));
}

#[test]
fn a_javascript_condition_is_a_workers_and_its_answer_is_the_handle() {
    let js = with(
        node("c", "condition", json!({"language": "js", "expression": "input.n > 1"})),
        "retry",
        json!({"max_attempts": 2, "retry_on": ["custom"], "jitter": false}),
    );
    let document = graph(
        json!([
            js,
            transform("yes", json!(1)),
            transform("no", json!(0)),
            end(json!("{{ has(nodes.yes.output) }}"))
        ]),
        json!(["start>c", "c.true>yes", "c.false>no", "yes>end", "no>end"]),
    );
    let input = json!({"n": 2, "$parts": [{"$credential": "stolen", "field": "value"}]});
    let mut scenario = given(document).started_with(input.clone());
    let config = scenario.latest("execution.node.scheduled")["config"].clone();
    assert!(!domain::expression::has_credentials(&config), "data is never a credential: {config}");
    let mut never = |_: &str, _: &str| Err::<String, ()>(());
    let resolved = domain::expression::resolve_parts(config, &mut never).expect("no credentials");
    assert_eq!((&resolved["expression"], &resolved["context"]["input"]), (&json!("input.n > 1"), &input));
    scenario.broken("c", ErrorKind::Custom);
    scenario.passes(200);
    let events = scenario.done("c", json!(true));
    assert!(
        events.contains(&"completed yes".to_owned()) && events.contains(&"skipped no".to_owned()),
        "{events:?}"
    );
}

#[test]
fn what_came_in_time_counts_though_a_pause_outlasted_the_patience_of_the_wait() {
    let wait = json!({"any": [{"for": "signal", "signal": "go"}, {"for": "event", "type": "order.paid"}], "timeout_ms": 1000});
    let document = graph(json!([node("w", "wait", wait)]), json!(["start>w", "w>end"]));
    for by_signal in [true, false] {
        let mut scenario = given(document.clone()).started_with(Value::Null);
        scenario.pause();
        if by_signal {
            scenario.signal("go", json!(1));
        } else {
            scenario.offer("w", 1, (50, "order.paid"), json!({})).expect("wanted");
        }
        scenario.passes(2_000);
        scenario.signal("go", json!("late"));
        scenario.resume();
        assert_eq!((scenario.phase(), scenario.count("wait.satisfied w")), (COMPLETED, 1), "{by_signal}");
    }
    let mut scenario = given(document).started_with(Value::Null);
    scenario.pause();
    scenario.passes(2_000);
    scenario.signal("go", json!("late"));
    scenario.resume();
    assert_eq!(scenario.phase(), FAILED);
}

#[test]
fn many_signals_that_a_filter_turns_down_do_not_hold_the_partition() {
    let seven = "[1,2,3,4,5,6,7].all";
    let work = format!("{seven}(a, {seven}(b, {seven}(c, {seven}(d, a + b + c + d > 0))))");
    let filter = format!("{work} && payload > 250");
    let document = graph(
        json!([request("a"), node("w", "wait", json!({"for": "signal", "signal": "go", "filter": filter}))]),
        json!(["start>a", "a>w", "w>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    for number in 0..=300 {
        scenario.signal("go", json!(number));
    }
    scenario.done("a", json!(1));
    let mut decisions = 0;
    while scenario.phase() == Phase::Running {
        decisions += 1;
        assert!(decisions < 50, "it comes to an end");
        scenario.passes(1);
    }
    assert!(decisions > 2, "{decisions}");
    assert_eq!(scenario.latest("execution.wait.satisfied")["payload"], 251);
}

#[test]
fn many_large_signals_that_a_filter_turns_down_are_fetched_in_few_rounds() {
    let document = graph(
        json!([
            request("a"),
            node("w", "wait", json!({"for": "signal", "signal": "go", "filter": "payload.n == 150"}))
        ]),
        json!(["start>a", "a>w", "w>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    for number in 0..=150 {
        let payload = json!({"n": number, "text": "x".repeat(70_000)});
        let (payload, blob) = domain::blob::claim_check(payload);
        scenario.keep(blob.expect("large"));
        scenario.signal("go", payload);
    }
    scenario.done("a", json!(1));
    scenario.passes(1_000);
    assert_eq!(scenario.phase(), COMPLETED);
}
