//! Whole fixtures on whole workflows.

use domain::workflow::definition::Definition;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

use super::expectation::Finding;
use super::{fixture, run_case};

/// A graph around these nodes and edges (`source[.handle]>target`, `^` before a back edge); `start` is there already.
fn graph(nodes: Value, edges: &[&str]) -> Value {
    let mut all = vec![json!({"id": "start", "type": "start"})];
    all.extend(nodes.as_array().unwrap().iter().cloned());
    if !all.iter().any(|node| node["type"] == "end") {
        all.push(json!({"id": "end", "type": "end"}));
    }
    let edge = |text: &&str| {
        let (back, text) = text.strip_prefix('^').map_or((false, *text), |rest| (true, rest));
        let (source, target) = text.split_once('>').unwrap();
        let (source, handle) = source.split_once('.').map_or((source, None), |(s, h)| (s, Some(h)));
        let mut edge = json!({"source": source, "target": target});
        if let Some(handle) = handle {
            edge["source_handle"] = json!(handle);
        }
        if back {
            edge["back"] = json!(true);
        }
        edge
    };
    json!({"nodes": all, "edges": edges.iter().map(edge).collect::<Vec<_>>()})
}

fn workflow(nodes: Value, edges: &[&str]) -> Value {
    let mut workflow = graph(nodes, edges);
    workflow["name"] = json!("tested");
    workflow
}

fn http(id: &str) -> Value {
    json!({"id": id, "type": "http_request", "config": {"url": "http://shop.example/{{ input.order }}"}})
}

/// What differs in a case of a workflow, in words.
#[track_caller]
fn findings(workflow: &Value, case: Value) -> Vec<String> {
    run(workflow, case, Path::new("")).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn run(workflow: &Value, mut case: Value, directory: &Path) -> Vec<Finding> {
    if case.get("name").is_none() {
        case["name"] = json!("case");
    }
    let definition = Definition::parse(workflow).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let definition = Arc::new(definition);
    let cases = fixture::read(json!({"cases": [case]}), &definition, directory).expect("a fixture");
    let (first, again) = (run_case(&definition, &cases[0]), run_case(&definition, &cases[0]));
    assert_eq!(first, again, "a case always gives the same");
    first.findings
}

fn defects(workflow: &Value, fixture: Value) -> Vec<String> {
    let definition = Definition::parse(workflow).unwrap_or_else(|problems| panic!("{problems:#?}"));
    fixture::read(fixture, &definition, Path::new("")).expect_err("defects")
}

#[test]
fn a_workflow_gives_what_its_recorded_outputs_lead_to() {
    let workflow = workflow(
        json!([http("fetch"), {"id": "end", "type": "end", "config": {"output": "{{ nodes.fetch.output.body }}"}}]),
        &["start>fetch", "fetch>end"],
    );
    let nodes = json!({"fetch": {"output": {"status": 200, "body": {"total": 3}}}});
    let case = |expect: Value| json!({"input": {"order": 7}, "nodes": nodes, "expect": expect});
    let all = json!({
        "status": "completed", "output": {"total": 3},
        "nodes": {"fetch": {"status": "completed", "run": 1, "output": {"status": 200, "body": {"total": 3.0}}},
            "start": {"output": {"order": 7}}, "end": {"status": "completed", "output": {"total": 3}}},
    });
    assert_eq!(findings(&workflow, case(all)), [""; 0]);
    let wrong = json!({"output": {"total": 4}, "nodes": {"fetch": {"run": 2}}});
    assert_eq!(
        findings(&workflow, case(wrong)),
        ["output.total: expected 4, found 3", "nodes.fetch.run: expected 2, found 1"]
    );
}

#[test]
fn a_worker_node_without_a_record_fails_with_its_path_and_rendered_configuration() {
    let body = graph(json!([http("fetch")]), &["start>fetch", "fetch>end"]);
    let workflow = workflow(
        json!([{"id": "each", "type": "loop", "config": {"over": "{{ input.orders }}", "body": body}}]),
        &["start>each", "each>end"],
    );
    let case = json!({
        "input": {"orders": [1, 2], "order": 9},
        "nodes": {"each/0/fetch": {"output": 1}},
    });
    let found = findings(&workflow, case);
    assert_eq!(found.len(), 1, "{found:?}");
    for part in ["node `each/1/fetch` (run 1, attempt 1) has no recorded output", "http://shop.example/9"] {
        assert!(found[0].contains(part), "{part} in {found:?}");
    }
}

#[test]
fn an_unknown_field_a_path_of_no_worker_and_a_status_that_is_none_are_refused_by_name() {
    let workflow = workflow(json!([http("fetch")]), &["start>fetch", "fetch>end"]);
    let case = json!({
        "name": "a", "inputs": {},
        "nodes": {"fetsch": {"output": 1}, "end": {"output": 1}, "fetch": {"error": {"kind": "sad"}}},
        "signals": [{"payload": 1}],
        "children": {"x": {"definition": "nowhere.json"}},
        "expect": {"status": "done", "nodes": {"gone": {}}},
    });
    let found = defects(&workflow, json!({"cases": [case, {"name": "a"}], "more": 1}));
    for part in [
        "cases[0]: `inputs` is not a field here",
        "cases[0].nodes.fetsch: there is no node `fetsch`",
        "cases[0].nodes.end: a `end` runs in the engine",
        "cases[0].nodes.fetch.error.kind: `sad` is not a kind of error",
        "cases[0].signals[0]: a signal needs its `name`",
        "cases[0].children.x.definition: cannot read nowhere.json",
        "cases[0].expect.status: `done` is not a status here",
        "cases[0].expect.nodes.gone: there is no node `gone`",
        "cases[1]: there is another case `a`",
        "the fixture: `more` is not a field here",
    ] {
        assert!(found.iter().any(|defect| defect.starts_with(part)), "{part} in {found:#?}");
    }
    assert_eq!(found.len(), 10, "{found:#?}");
    assert_eq!(defects(&workflow, json!({})), ["the fixture: `cases` is missing"]);
}

#[test]
fn an_hour_of_back_off_takes_no_time_and_records_are_taken_in_order() {
    let mut fetch = http("fetch");
    fetch["retry"] =
        json!({"max_attempts": 3, "initial_interval_ms": 3_600_000, "max_interval_ms": 3_600_000});
    let workflow = workflow(
        json!([fetch, {"id": "end", "type": "end", "config": {"output": "{{ nodes.fetch.output }}"}}]),
        &["start>fetch", "fetch>end"],
    );
    let failure = json!({"error": {"kind": "http_5xx", "message": "down"}});
    let case = |last: Value, expect: Value| json!({"input": {"order": 1}, "nodes": {"fetch": [failure, failure, last]}, "expect": expect});
    assert_eq!(findings(&workflow, case(json!({"output": "up"}), json!({"output": "up"}))), [""; 0]);
    let failed =
        json!({"error": {"kind": "http_5xx", "node_id": "fetch"}, "nodes": {"fetch": {"status": "failed"}}});
    assert_eq!(findings(&workflow, case(failure.clone(), failed)), [""; 0]);
    let found = findings(&workflow, case(failure.clone(), json!({"output": "up"})));
    assert_eq!(found[0], "status: expected \"completed\", found \"failed\"");
    assert!(found[1].contains("node `fetch`: http_5xx: down"), "{found:?}");
    let short = json!({"input": {"order": 1}, "nodes": {"fetch": [failure]}});
    let found = findings(&workflow, short);
    assert!(
        found[0].contains("(run 1, attempt 2) was called more often than outputs are recorded"),
        "{found:?}"
    );
}

#[test]
fn a_worker_that_never_answers_runs_into_its_deadline() {
    let mut fetch = http("fetch");
    fetch["timeout_ms"] = json!(5_000);
    let workflow = workflow(json!([fetch]), &["start>fetch", "fetch>end"]);
    let case = json!({
        "input": {"order": 1}, "nodes": {"fetch": {"never": true}},
        "expect": {"status": "failed", "error": {"kind": "timeout", "node_id": "fetch"}},
    });
    assert_eq!(findings(&workflow, case), [""; 0]);
}

#[test]
fn a_loop_takes_a_record_for_each_iteration_or_one_for_all() {
    let body = graph(
        json!([http("fetch"), {"id": "end", "type": "end", "config": {"output": "{{ nodes.fetch.output }}"}}]),
        &["start>fetch", "fetch>end"],
    );
    let workflow = workflow(
        json!([
            {"id": "each", "type": "loop", "config": {"over": "{{ input.orders }}", "max_concurrency": 2, "body": body}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.each.output }}"}}
        ]),
        &["start>each", "each>end"],
    );
    let case = json!({
        "input": {"orders": [1, 2, 3], "order": 0},
        "nodes": {"each/*/fetch": {"output": "any"}, "each/1/fetch": {"output": "second"}},
        "expect": {"output": ["any", "second", "any"],
            "nodes": {"each": {"status": "completed"}, "each/2/fetch": {"output": "any", "run": 1}}},
    });
    assert_eq!(findings(&workflow, case), [""; 0]);
}

#[test]
fn a_back_edge_takes_the_next_record_in_the_next_run() {
    let workflow = workflow(
        json!([
            http("poll"),
            {"id": "done", "type": "condition", "config": {"expression": "nodes.poll.output.ready"}},
            {"id": "pause", "type": "delay", "config": {"duration_ms": 60_000}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.poll.output }}"}}
        ]),
        &["start>poll", "poll>done", "done.true>end", "done.false>pause", "^pause>poll"],
    );
    let answer = |ready: bool, n: u32| json!({"output": {"ready": ready, "n": n}});
    let case = json!({
        "input": {"order": 1}, "nodes": {"poll": [answer(false, 1), answer(false, 2), answer(true, 3)]},
        "expect": {"output": {"ready": true, "n": 3}, "nodes": {"poll": {"run": 3}}},
    });
    assert_eq!(findings(&workflow, case), [""; 0]);
}

fn approval() -> Value {
    workflow(
        json!([
            {"id": "approve", "type": "wait",
                "config": {"for": "approval", "signal": "approved", "timeout_ms": 86_400_000, "on_timeout": "continue"}},
            {"id": "end", "type": "end",
                "config": {"output": {"said": "{{ nodes.approve.output }}", "at": "{{ string(now()) }}"}}}
        ]),
        &["start>approve", "approve>end"],
    )
}

#[test]
fn a_wait_takes_its_signal_at_its_time_or_times_out_after_a_day_at_once() {
    let signal = |at_ms: u64| json!([{"name": "approved", "payload": {"by": "ada"}, "at_ms": at_ms}]);
    let case = |signals: Value, output: Value| json!({"now": "2026-03-01T08:00:00Z", "signals": signals, "expect": {"output": output}});
    let said = |said: Value, at: &str| json!({"said": said, "at": at});
    let by = json!({"by": "ada"});
    assert_eq!(findings(&approval(), case(signal(60_000), said(by, "2026-03-01T08:01:00.000Z"))), [""; 0]);
    assert_eq!(
        findings(&approval(), case(json!([]), said(Value::Null, "2026-03-02T08:00:00.000Z"))),
        [""; 0]
    );
    let late = findings(&approval(), case(signal(90_000_000), Value::Null));
    assert_eq!(late, ["the execution had ended before signal `approved` came at 90000000 ms"]);
}

#[test]
fn a_wait_that_nothing_ends_is_named() {
    let workflow = workflow(
        json!([{"id": "go", "type": "wait", "config": {"for": "signal", "signal": "go"}}]),
        &["start>go", "go>end"],
    );
    assert_eq!(findings(&workflow, json!({"expect": {"status": "waiting"}})), [""; 0]);
    assert_eq!(
        findings(&workflow, json!({})),
        ["status: expected \"completed\", found \"waiting\"", "node `go` still waits"]
    );
}

#[test]
fn a_wait_for_an_event_takes_the_one_with_its_key() {
    let workflow = workflow(
        json!([
            {"id": "paid", "type": "wait", "config": {"for": "event", "type": "order.paid", "key": "{{ input.order }}"}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.paid.output }}"}}
        ]),
        &["start>paid", "paid>end"],
    );
    let paid = |key: &str, at_ms: u64| json!({"type": "order.paid", "data": {"key": key, "n": at_ms}, "at_ms": at_ms});
    let case = json!({
        "input": {"order": "b"}, "events": [paid("b", 9_000), paid("a", 1_000), paid("b", 7_000)],
        "expect": {"output": {"key": "b", "n": 7_000}},
    });
    assert_eq!(findings(&workflow, case), [""; 0]);
}

#[test]
fn children_stand_in_with_an_output_or_run_here() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = workflow(
        json!([http("send"), {"id": "end", "type": "end", "config": {"output": {"sent": "{{ nodes.send.output }}"}}}]),
        &["start>send", "send>end"],
    );
    child["name"] = json!("shipping");
    std::fs::write(directory.path().join("shipping.json"), child.to_string()).unwrap();
    let sub = |id: &str| json!({"id": id, "type": "sub_workflow", "config": {"workflow": id, "input": "{{ input }}"}});
    let workflow = workflow(
        json!([sub("billing"), sub("shipping"),
            {"id": "end", "type": "end", "config": {"output": ["{{ nodes.billing.output }}", "{{ nodes.shipping.output }}"]}}]),
        &["start>billing", "billing>shipping", "shipping>end"],
    );
    let shipping = |nodes: Value| json!({"definition": "shipping.json", "nodes": nodes});
    let case = |children: Value, expect: Value| json!({"input": {"order": 5}, "children": children, "expect": expect});
    let both =
        json!({"billing": {"output": "paid"}, "shipping": shipping(json!({"send": {"output": "now"}}))});
    let expect = json!({"output": ["paid", {"sent": "now"}], "nodes": {"shipping": {"status": "completed"}}});
    assert_eq!(run(&workflow, case(both, expect), directory.path()), []);

    let failed = json!({"billing": {"error": {"kind": "custom", "message": "no funds"}}});
    let expect = json!({"status": "failed", "error": {"node_id": "billing"}});
    assert_eq!(run(&workflow, case(failed, expect), directory.path()), []);

    let silent = json!({"billing": {"output": 1}, "shipping": shipping(json!({}))});
    let found = run(&workflow, case(silent, json!({})), directory.path());
    assert!(
        found[0].to_string().starts_with("child `shipping`: node `send` (run 1, attempt 1)"),
        "{found:?}"
    );
    let none = run(&workflow, case(json!({}), json!({})), directory.path());
    assert!(none[0].to_string().contains("starts workflow `billing`, which is not"), "{none:?}");
}

#[test]
fn a_failure_undoes_what_was_done_newest_first() {
    let with = |mut node: Value, undo: &str| {
        node["compensate"] = json!(undo);
        node
    };
    let workflow = workflow(
        json!([
            with(http("reserve"), "release"),
            with(http("charge"), "refund"),
            http("ship"),
            http("release"),
            http("refund")
        ]),
        &["start>reserve", "reserve>charge", "charge>ship", "ship>end"],
    );
    let output = json!({"output": "done"});
    let case = json!({
        "input": {"order": 1},
        "nodes": {"reserve": output, "charge": output, "release": output, "refund": output,
            "ship": {"error": {"kind": "http_4xx", "message": "no such address"}}},
        "expect": {"status": "failed", "error": {"kind": "http_4xx", "node_id": "ship"},
            "nodes": {"reserve": {"status": "compensated"}, "charge": {"status": "compensated"},
                "refund": {"status": "completed"}, "release": {"status": "completed"}}},
    });
    assert_eq!(findings(&workflow, case), [""; 0]);
}

#[test]
fn branches_run_and_variables_and_large_values_are_seen() {
    let branch = |text: &str| {
        graph(
            json!([{"id": "end", "type": "end", "config": {"output": format!("{{{{ vars.greeting }}}} {text}")}}]),
            &["start>end"],
        )
    };
    let workflow = workflow(
        json!([
            {"id": "par", "type": "parallel", "config": {"branches": [branch("a"), branch("b")]}},
            http("fetch"),
            {"id": "end", "type": "end",
                "config": {"output": {"par": "{{ nodes.par.output }}", "size": "{{ size(nodes.fetch.output) }}"}}}
        ]),
        &["start>par", "par>fetch", "fetch>end"],
    );
    let case = json!({
        "input": {"order": 1}, "vars": {"greeting": "hello"}, "nodes": {"fetch": {"output": "x".repeat(100_000)}},
        "expect": {"output": {"par": ["hello a", "hello b"], "size": 100_000}},
    });
    assert_eq!(findings(&workflow, case), [""; 0]);
}

#[test]
fn a_concurrency_key_always_has_a_slot_here() {
    let mut workflow = workflow(json!([]), &["start>end"]);
    workflow["concurrency"] = json!({"key": "one", "limit": 1, "on_limit": "queue"});
    assert_eq!(findings(&workflow, json!({})), [""; 0]);
}
