//! `sub_workflow`: an execution as a step of another.

use domain::decision::NodeRun;
use domain::execution::ExecutionStatus;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::ParentRef;
use serde_json::{Value, json};

use crate::documents::{body, end, graph, node, transform, with};
use crate::scenario::{CANCELLED, COMPLETED, FAILED, Scenario, given, id};

fn calling(config: Value) -> Value {
    graph(
        json!([node("sub", "sub_workflow", config), end(json!("{{ nodes.sub.output }}"))]),
        json!(["start>sub", "sub>end"]),
    )
}

fn parent() -> Scenario {
    given(calling(json!({"workflow": "child-of-{{ input.kind }}", "input": {"n": "{{ input.n }}"}})))
        .started_with(json!({"kind": "test", "n": 3}))
}

fn parent_ref(depth: u32) -> ParentRef {
    ParentRef { execution_id: id(90), node_id: "sub".to_owned(), run: 1, attempt: 1, depth, detached: false }
}

#[test]
fn a_sub_workflow_asks_for_a_child_and_its_output_is_the_childs() {
    let mut scenario = parent();
    assert_eq!(scenario.types(), ["started", "child.started sub"]);
    let asked = scenario.latest("execution.child.started");
    assert_eq!(
        (&asked["workflow"], &asked["input"], &asked["depth"]),
        (&json!("child-of-test"), &json!({"n": 3}), &json!(1))
    );
    let events = scenario.child_ends("sub", Ok(json!("done")));
    assert_eq!(events, ["child.finished sub", "completed sub", "completed"]);
    assert_eq!(scenario.output(), json!("done"));
}

#[test]
fn a_child_that_does_not_complete_fails_its_node() {
    for status in [ExecutionStatus::Failed, ExecutionStatus::Cancelled, ExecutionStatus::Terminated] {
        let mut scenario = parent();
        assert_eq!(scenario.child_ends("sub", Err(status)), ["child.finished sub", "failed sub", "failed"]);
        let error = scenario.latest("execution.failed")["error"].clone();
        assert_eq!(error["details"]["status"], status.as_str());
    }
    let routed = with(node("sub", "sub_workflow", json!({"workflow": "w"})), "on_error", json!("continue"));
    let document = graph(
        json!([routed, end(json!("{{ nodes.sub.output.error.kind }}"))]),
        json!(["start>sub", "sub>end"]),
    );
    let mut scenario = given(document).started_with(Value::Null);
    scenario.child_ends("sub", Err(ExecutionStatus::Failed));
    assert_eq!((scenario.phase(), scenario.output()), (COMPLETED, json!("custom")));
}

#[test]
fn without_waiting_the_output_is_the_childs_id_at_once() {
    let scenario = given(calling(json!({"workflow": "w", "wait": false}))).started_with(Value::Null);
    assert_eq!(scenario.types(), ["started", "child.started sub", "completed sub", "completed"]);
    let child = scenario.latest("execution.child.started")["child_id"].clone();
    assert_eq!(scenario.output(), json!({"execution_id": child}));
}

#[test]
fn the_end_of_another_child_or_a_second_end_is_stale() {
    let mut scenario = parent();
    let finish = |child| ExecutionCommand::FinishChild {
        node: NodeRun { node_id: "sub".to_owned(), run: 1, attempt: 1 },
        child,
        status: ExecutionStatus::Completed,
        output: Value::Null,
        error: None,
    };
    assert_eq!(scenario.when(finish(id(77))).expect_err("another").code, "stale_child");
    let child = scenario.at("sub").child.expect("a child");
    scenario.when(finish(child)).expect("its own");
    assert_eq!(scenario.when(finish(child)).expect_err("finished").code, "execution_finished");
}

#[test]
fn cancelling_goes_down_to_the_child_and_so_does_terminating() {
    let mut scenario = parent();
    assert_eq!(scenario.cancel(), ["cancelled sub", "cancelled"]);
    let child = scenario.latest("execution.node.cancelled")["child"].clone();
    assert_eq!(child["how"], "cancel");
    assert_eq!(scenario.phase(), CANCELLED);
    let mut scenario = parent();
    scenario.when(ExecutionCommand::Terminate { reason: None }).expect("accepted");
    assert_eq!(scenario.latest("execution.node.cancelled")["child"]["how"], "terminate");
}

#[test]
fn the_end_of_a_child_names_its_parent() {
    let document = graph(json!([transform("a", json!(1))]), json!(["start>a", "a>end"]));
    let scenario = given(document).started_by(parent_ref(4), Value::Null);
    assert_eq!(scenario.latest("execution.started")["parent"]["depth"], 4);
    assert_eq!(scenario.latest("execution.completed")["parent"]["node_id"], "sub");
}

#[test]
fn children_go_thirty_two_deep_and_no_deeper() {
    let document = || calling(json!({"workflow": "again"}));
    let scenario = given(document()).started_by(parent_ref(31), Value::Null);
    assert_eq!(scenario.latest("execution.child.started")["depth"], 32);
    let scenario = given(document()).started_by(parent_ref(32), Value::Null);
    assert_eq!(scenario.phase(), FAILED);
    assert_eq!(scenario.latest("execution.failed")["error"]["details"]["code"], "children_too_deep");
}

#[test]
fn each_iteration_has_a_child_of_its_own() {
    let inner = body(
        json!([
            node("sub", "sub_workflow", json!({"workflow": "w", "input": "{{ item }}"})),
            end(json!("{{ nodes.sub.output }}"))
        ]),
        json!(["start>sub", "sub>end"]),
    );
    let looped = node("loop", "loop", json!({"over": [1, 2], "max_concurrency": 2, "body": inner}));
    let document =
        graph(json!([looped, end(json!("{{ nodes.loop.output }}"))]), json!(["start>loop", "loop>end"]));
    let mut scenario = given(document).started_with(Value::Null);
    assert_ne!(scenario.at("loop/0/sub").child, scenario.at("loop/1/sub").child);
    scenario.child_ends("loop/1/sub", Ok(json!("b")));
    scenario.child_ends("loop/0/sub", Ok(json!("a")));
    assert_eq!(scenario.output(), json!(["a", "b"]));
}

#[test]
fn a_workflow_that_is_no_name_fails_the_node() {
    let scenario = given(calling(json!({"workflow": "{{ input.kind }}"}))).started_with(json!({"kind": 5}));
    assert_eq!(scenario.latest("execution.failed")["error"]["kind"], "invalid_config");
}
