//! What follows from an event for other streams, line by line of the reactor's table.

use domain::command::Command;
use domain::decision::NodeRun;
use domain::event::{CATALOGUE, Codec, Event, ExecutionEvent, LaneEvent, RecordedEvent};
use domain::execution::ExecutionStatus;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{
    ChildCompensationRequested, ChildStarted, CompensationFinished, CompensationStatus, Effects, EndNotice,
    ErrorKind, ExecutionCancelled, ExecutionCompleted, ExecutionFailed, ExecutionForked, ExecutionQueued,
    ExecutionTerminated, ForkedChild, NodeCancelled, NodeError, OnLimit, ParentRef, StopChild, StoppedChild,
};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
use domain::lane::event::{LaneEvictionRequested, LaneGranted, LaneRefused};
use domain::node_type::NodeType;
use domain::reactor::{REACTING_TYPES, Reaction, after_refusal, reactions, reacts_to};
use domain::rejection::{Rejection, RejectionKind};
use domain::time::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(number * 37), number)
}

/// The stream of every event here.
fn this() -> Uuid {
    id(1)
}

fn recorded(event: &Event) -> RecordedEvent {
    RecordedEvent {
        position: Position { partition: Partition(3), offset: 8 },
        stream: this(),
        version: 4,
        tenant: TenantId::try_from("acme".to_owned()).expect("a tenant"),
        event_type: event.event_type().into(),
        schema_version: event.schema_version(),
        id: id(100),
        recorded_at: Timestamp::from_unix_ms(1_795_000_000_500),
        correlation_id: id(101),
        causation_id: id(102),
        actor: Actor::new("user", "ann"),
        traceparent: Some("00-1-2-01".into()),
        codec: Codec::Json,
        key_id: None,
        data: event.encode(),
    }
}

fn react(event: impl Into<Event>) -> Vec<Reaction> {
    let event = event.into();
    let reactions = reactions(&recorded(&event), &event);
    assert!(reactions.is_empty() || reacts_to(event.event_type()), "{} is not read", event.event_type());
    for reaction in &reactions {
        let command = &reaction.command;
        assert_eq!((command.tenant.as_str(), command.actor.as_str()), ("acme", "system:reactor"));
        assert_eq!((command.correlation_id, command.causation_id), (id(101), id(100)));
        assert_eq!(command.traceparent.as_deref(), Some("00-1-2-01"));
        assert_eq!(
            Slot::of(command.id),
            Slot::of(command.stream),
            "the command's id says where its answer is"
        );
    }
    reactions
}

fn only(event: impl Into<Event>) -> Reaction {
    let mut all = react(event);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn execution(event: impl Into<ExecutionEvent>) -> Event {
    Event::Execution(event.into())
}

fn lane(event: impl Into<LaneEvent>) -> Event {
    Event::Lane(event.into())
}

/// The command of a reaction as JSON, and its target.
fn asks(reaction: &Reaction) -> (Uuid, Value) {
    let command = match &reaction.command.command {
        Command::Execution(command) => serde_json::to_value(command),
        Command::Lane(command) => serde_json::to_value(command),
        other => panic!("{other:?}"),
    };
    (reaction.command.stream, command.expect("JSON"))
}

fn parent() -> ParentRef {
    ParentRef {
        execution_id: id(7),
        node_id: "loop/3/sub".to_owned(),
        run: 2,
        attempt: 3,
        depth: 4,
        detached: false,
    }
}

fn node() -> Value {
    json!({"node_id": "loop/3/sub", "run": 2, "attempt": 3})
}

fn refused(code: &'static str) -> Rejection {
    Rejection::new(RejectionKind::Conflict, code, "no, and here is why")
}

fn queued() -> Event {
    execution(ExecutionQueued {
        lane: id(20),
        key: "customer-7".to_owned(),
        limit: 3,
        on_limit: OnLimit::Queue,
        priority: 8,
        workflow_id: id(21),
    })
}

#[test]
fn a_queued_execution_asks_its_lane_and_is_dropped_if_the_lane_is_full() {
    let request = only(queued());
    let expected = json!({"request": {"execution": this(), "workflow_id": id(21), "key": "customer-7", "limit": 3,
        "on_limit": "queue", "priority": 8}});
    assert_eq!(asks(&request), (id(20), expected));
    let dropped = after_refusal(&request, &refused("lane_full")).expect("a follow-up");
    assert_eq!(asks(&dropped), (this(), json!({"drop": {"lane": id(20)}})));
    assert!(after_refusal(&dropped, &refused("execution_already_finished")).is_none());
}

#[test]
fn a_granted_slot_admits_and_comes_back_from_one_that_has_ended() {
    let admit = only(lane(LaneGranted { execution_id: id(5) }));
    assert_eq!(asks(&admit), (id(5), json!({"admit": {"lane": this()}})));
    let back = after_refusal(&admit, &refused("execution_already_finished")).expect("a follow-up");
    assert_eq!(asks(&back), (this(), json!({"release": {"execution": id(5)}})));
    assert!(after_refusal(&back, &refused("any")).is_none());
}

#[test]
fn a_refused_request_drops_and_an_eviction_cancels() {
    let drop = only(lane(LaneRefused { execution_id: id(5) }));
    assert_eq!(asks(&drop), (id(5), json!({"drop": {"lane": this()}})));
    let evict = only(lane(LaneEvictionRequested { execution_id: id(5), for_execution_id: id(6) }));
    assert_eq!(asks(&evict), (id(5), json!({"cancel": {"reason": "cancel_running"}})));
    assert!(
        after_refusal(&evict, &refused("execution_already_finished")).is_none(),
        "its end frees the slot"
    );
}

#[test]
fn every_end_frees_its_slot_and_tells_its_parent_in_that_order() {
    let notice = || EndNotice { lane: Some(id(20)), parent: Some(parent()) };
    let error = NodeError {
        kind: ErrorKind::Http5xx,
        message: "503".to_owned(),
        retryable: true,
        details: json!({"status": 503}),
    };
    let ends: [(Event, Value); 4] = [
        (
            execution(ExecutionCompleted {
                output: json!(42),
                ends: vec![],
                duration_ms: 1,
                notice: notice(),
            }),
            json!({"status": "completed", "output": 42, "error": null}),
        ),
        (
            execution(ExecutionFailed {
                node_id: None,
                error: error.clone(),
                duration_ms: 1,
                notice: notice(),
            }),
            json!({"status": "failed", "output": null, "error": error}),
        ),
        (
            execution(ExecutionCancelled { reason: Some("enough".into()), duration_ms: 1, notice: notice() }),
            json!({"status": "cancelled", "output": null, "error":
                {"kind": "cancelled", "message": "the child was cancelled: enough", "retryable": false}}),
        ),
        (
            execution(ExecutionTerminated { reason: None, duration_ms: 1, notice: notice() }),
            json!({"status": "terminated", "output": null, "error":
                {"kind": "cancelled", "message": "the child was terminated", "retryable": false}}),
        ),
    ];
    for (event, outcome) in ends {
        let all = react(event);
        let [release, finish] = &all[..] else { panic!("{all:?}") };
        assert_eq!(asks(release), (id(20), json!({"release": {"execution": this()}})));
        let (target, mut command) = asks(finish);
        assert_eq!(target, id(7));
        let finish_child = command["finish_child"].as_object_mut().expect("an object");
        assert_eq!(finish_child.remove("node"), Some(node()));
        assert_eq!(finish_child.remove("child"), Some(json!(this())));
        assert_eq!(Value::Object(finish_child.clone()), outcome);
        assert!(after_refusal(finish, &refused("stale_child")).is_none());
    }
    let alone =
        ExecutionCompleted { output: json!(1), ends: vec![], duration_ms: 1, notice: EndNotice::default() };
    assert!(react(execution(alone)).is_empty());
}

fn child_started(workflow: &str, wait: bool) -> ChildStarted {
    ChildStarted {
        node_id: "loop/3/sub".to_owned(),
        run: 2,
        attempt: 3,
        child_id: id(30),
        workflow: workflow.to_owned(),
        workflow_version: Some(6),
        input: json!({"a": 1}),
        wait,
        depth: 4,
        priority: 9,
        owner: Some(id(50)),
    }
}

#[test]
fn a_child_is_started_for_the_node_that_waits_and_its_refusal_fails_the_node() {
    let start = only(execution(child_started(&id(40).to_string(), true)));
    let this_node =
        json!({"execution_id": this(), "node_id": "loop/3/sub", "run": 2, "attempt": 3, "depth": 4});
    let expected = json!({"start": {"workflow_id": id(40), "workflow_version": 6, "input": {"a": 1},
        "trigger": {"kind": "parent"}, "priority": 9, "attributes": {}, "parent": this_node, "owner": id(50)}});
    assert_eq!(asks(&start), (id(30), expected));
    assert_eq!(start.workflow_name, None);
    let told = after_refusal(&start, &refused("workflow_disabled")).expect("a follow-up");
    let expected = json!({"finish_child": {"node": node(), "child": id(30), "status": "failed", "output": null, "error":
        {"kind": "invalid_config", "message": "no, and here is why", "retryable": false,
         "details": {"code": "workflow_disabled", "child": id(30)}}}});
    assert_eq!(asks(&told), (this(), expected));
    assert!(after_refusal(&start, &refused("execution_exists")).is_none(), "it has begun long ago");
}

#[test]
fn a_workflow_given_by_name_is_put_in_and_an_unknown_one_is_named() {
    let mut start = only(execution(child_started("order-triage", true)));
    assert_eq!(start.workflow_name.as_deref(), Some("order-triage"));
    let told = after_refusal(&start, &refused("workflow_not_found")).expect("a follow-up");
    let (_, command) = asks(&told);
    let message = command["finish_child"]["error"]["message"].as_str().expect("a message");
    assert!(message.contains("`order-triage`"), "{message}");
    start.resolve(None);
    assert_eq!(asks(&start).1["start"]["workflow_id"], json!(Uuid::nil()), "which its decider refuses");
    let before = start.command.id;
    start.resolve(Some(id(40)));
    assert_eq!(asks(&start).1["start"]["workflow_id"], json!(id(40)));
    assert_eq!(start.command.id, before, "whatever the name leads to, it is the same command");
}

#[test]
fn a_child_that_nobody_waits_for_has_no_parent_to_tell() {
    let start = only(execution(child_started("order-triage", false)));
    let (_, command) = asks(&start);
    // How deep it is it must know all the same.
    assert_eq!(command["start"]["parent"]["detached"], json!(true));
    assert_eq!(command["start"]["trigger"], json!({"kind": "parent"}));
    assert!(after_refusal(&start, &refused("workflow_disabled")).is_none());
}

#[test]
fn the_children_of_a_fork_are_forked_with_its_effects() {
    let child = |number: u64| ForkedChild {
        node_id: format!("sub{number}"),
        run: 1,
        attempt: 2,
        depth: 3,
        origin: id(50 + number),
        at_version: 11,
        child: id(60 + number),
    };
    let all = react(execution(ExecutionForked {
        origin: id(2),
        at_version: 9,
        recorded_until: 20,
        depth: 1,
        effects: Effects::Mute,
        workflow_id: id(3),
        workflow_name: "x".to_owned(),
        workflow_version: 1,
        definition_hash: String::new(),
        input: None,
        node_outputs: Map::new(),
        node_handles: Map::new(),
        parent: None,
        anew: Vec::new(),
        children: vec![child(1), child(2)],
        deadline: None,
        owner: Some(id(70)),
    }));
    assert_eq!(all.len(), 2);
    let parent = json!({"execution_id": this(), "node_id": "sub2", "run": 1, "attempt": 2, "depth": 3});
    let expected = json!({"fork": {"origin": id(52), "at_version": 11, "input": null, "node_outputs": {},
        "workflow_version": null, "effects": "mute", "parent": parent, "owner": id(70)}});
    assert_eq!(asks(&all[1]), (id(62), expected));
    let told = after_refusal(&all[1], &refused("fork_too_deep")).expect("a follow-up");
    assert_eq!(told.command.stream, this());
    assert!(matches!(
        &told.command.command,
        Command::Execution(ExecutionCommand::FinishChild { node, status: ExecutionStatus::Failed, .. })
            if *node == NodeRun { node_id: "sub2".to_owned(), run: 1, attempt: 2 }
    ));
}

#[test]
fn a_node_that_ends_takes_its_child_along() {
    let cancelled = |child| NodeCancelled {
        node_id: "sub".to_owned(),
        run: 1,
        attempt: 1,
        node_type: NodeType::SubWorkflow,
        reason: "execution_cancelled".to_owned(),
        child,
    };
    assert!(react(execution(cancelled(None))).is_empty());
    for (how, name) in [(StopChild::Cancel, "cancel"), (StopChild::Terminate, "terminate")] {
        let stop = only(execution(cancelled(Some(StoppedChild { execution_id: id(30), how }))));
        let (target, command) = asks(&stop);
        assert_eq!(target, id(30));
        let reason = command[name]["reason"].as_str().expect("a reason");
        assert!(reason.contains(&this().to_string()) && reason.contains("execution_cancelled"), "{reason}");
        assert!(after_refusal(&stop, &refused("execution_not_found")).is_none());
    }
}

#[test]
fn a_completed_child_undoes_its_work_and_one_with_nothing_to_undo_has_done_so() {
    let ask = only(execution(ChildCompensationRequested {
        node_id: "loop/3/sub".to_owned(),
        run: 2,
        attempt: 3,
        child_id: id(30),
    }));
    let (target, command) = asks(&ask);
    assert_eq!(target, id(30));
    let asking = &command["compensate"]["parent"];
    assert_eq!((&asking["execution_id"], &asking["node_id"]), (&json!(this()), &json!("loop/3/sub")));
    let done = after_refusal(&ask, &refused("nothing_to_compensate")).expect("a follow-up");
    let expected =
        json!({"child_compensated": {"node": node(), "child": id(30), "status": "completed", "error": null}});
    assert_eq!(asks(&done), (this(), expected));
}

#[test]
fn a_child_that_has_undone_its_work_tells_the_parent_that_asked() {
    let finished = |parent| CompensationFinished {
        status: CompensationStatus::Failed,
        node_id: Some("undo".to_owned()),
        error: None,
        parent,
    };
    assert!(react(execution(finished(None))).is_empty());
    let expected =
        json!({"child_compensated": {"node": node(), "child": this(), "status": "failed", "error": null}});
    assert_eq!(asks(&only(execution(finished(Some(parent()))))), (id(7), expected));
}

#[test]
fn the_same_event_gives_the_same_ids_and_another_gives_others() {
    let (first, again) = (only(queued()), only(queued()));
    assert_eq!(first.command.id, again.command.id);
    let event = queued();
    let other = RecordedEvent { id: id(999), ..recorded(&event) };
    assert_ne!(reactions(&other, &event)[0].command.id, first.command.id);
    let refusal = |code| after_refusal(&first, &refused(code)).expect("a follow-up").command.id;
    assert_eq!(refusal("lane_full"), refusal("another_reason"), "whatever the words were");
    assert_ne!(refusal("lane_full"), first.command.id);
}

#[test]
fn what_is_read_is_in_the_catalogue() {
    for event_type in REACTING_TYPES {
        assert!(CATALOGUE.iter().any(|entry| entry.event_type == event_type), "{event_type}");
    }
    assert!(!reacts_to("execution.node.completed"));
}
