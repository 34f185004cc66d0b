//! Over random graphs and random courses: every prefix can be continued, replay equals live, nothing panics.

use domain::aggregate::Aggregate;
use domain::decision::{Wakeup, WakeupKind};
use domain::execution::Phase;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::ErrorKind;
use domain::ids::TenantId;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::scenario::{Scenario, given, graph};

/// A random acyclic graph: node kinds, and for each node the earlier nodes that lead to it.
fn graphs() -> impl Strategy<Value = Value> {
    prop::collection::vec((0..8u8, prop::collection::vec(any::<prop::sample::Index>(), 1..3), any::<bool>()), 1..12)
        .prop_map(|specs| {
            let mut nodes = Vec::new();
            let mut edges = Vec::new();
            let mut kinds: Vec<u8> = Vec::new();
            for (at, (kind, sources, flag)) in specs.iter().enumerate() {
                let id = format!("n{at}");
                nodes.push(match kind {
                    0 => json!({"id": id, "type": "transform", "config": {"output": at}}),
                    1 => json!({"id": id, "type": "condition", "config": {"expression": flag.to_string()}}),
                    2 => json!({"id": id, "type": "delay", "config": {"duration_ms": at}}),
                    3 => json!({"id": id, "type": "http_request", "config": {"url": "http://127.0.0.1:1/"}, "on_error": "continue",
                        "retry": {"max_attempts": 2}}),
                    4 => json!({"id": id, "type": "http_request", "config": {"url": "http://127.0.0.1:1/"}, "on_error": "route"}),
                    5 => json!({"id": id, "type": "merge", "config": {"mode": if *flag { "any" } else { "all" }}}),
                    6 => json!({"id": id, "type": "loop", "on_error": "continue",
                        "config": {"over": [1, 2, 3], "max_concurrency": if *flag { 2 } else { 1 }, "body": iteration()}}),
                    _ => json!({"id": id, "type": "parallel", "config": {"branches": [iteration(), iteration()]}, "on_error": "route"}),
                });
                let mut seen = std::collections::HashSet::new();
                for source in sources {
                    let source = source.index(at + 1);
                    if !seen.insert(source) {
                        continue;
                    }
                    edges.push(match source.checked_sub(1).map(|s| (s, kinds[s])) {
                        None => json!(format!("start>{id}")),
                        Some((s, 1)) => json!(format!("n{s}.{flag}>{id}")),
                        Some((s, 4 | 7)) if *flag => json!(format!("n{s}.error>{id}")),
                        Some((s, _)) => json!(format!("n{s}>{id}")),
                    });
                }
                kinds.push(*kind);
            }
            for (at, kind) in kinds.iter().enumerate() {
                edges.push(if *kind == 1 { json!(format!("n{at}.true>end")) } else { json!(format!("n{at}>end")) });
            }
            graph(json!(nodes), json!(edges))
        })
}

/// What loops and branches run: a call that may fail, which is then passed over or fails what is around it.
fn iteration() -> Value {
    json!({
        "nodes": [{"id": "start", "type": "start"}, {"id": "x", "type": "http_request", "config": {"url": "http://127.0.0.1:1/"}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.x.output }}"}}],
        "edges": [{"source": "start", "target": "x"}, {"source": "x", "target": "end"}],
    })
}

/// Lets something happen that can happen: a result for an attempt in flight, or a wakeup.
fn happen(scenario: &mut Scenario, choice: usize, succeed: bool) {
    use domain::execution::NodeStatus;
    let open: Vec<(String, u32, bool)> = scenario
        .state()
        .nodes
        .iter()
        .filter_map(|(id, node)| match node.status {
            NodeStatus::Scheduled { .. } | NodeStatus::Running { .. } => {
                Some((id.to_string(), node.attempt, true))
            }
            NodeStatus::Waiting { .. } | NodeStatus::BackingOff { .. } => {
                Some((id.to_string(), node.attempt, false))
            }
            _ => None,
        })
        .collect();
    let Some((id, attempt, worker)) = open.get(choice % open.len().max(1)) else { return };
    let done = match (worker, succeed) {
        (true, true) => scenario.completes(id, *attempt, json!(attempt)),
        (true, false) => scenario.fails(id, *attempt, ErrorKind::Timeout),
        (false, _) => {
            let kind = WakeupKind::Timer(crate::scenario::run(id, *attempt));
            let wakeup = scenario.wakeups.iter().find(|wakeup| wakeup.kind == kind).cloned();
            let wakeup: Wakeup = wakeup.expect("a waiting node has its wakeup");
            scenario.now = scenario.now.max(wakeup.due_at);
            scenario.when(ExecutionCommand::Wake(wakeup))
        }
    };
    done.expect("what is open can happen");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_course_ends_and_replay_equals_live(
        document in graphs(),
        choices in prop::collection::vec((any::<usize>(), any::<bool>()), 0..80),
    ) {
        let mut scenario = given(document).started_with(Value::Null);
        for (choice, succeed) in choices {
            happen(&mut scenario, choice, succeed);
        }
        for _ in 0..100 {
            happen(&mut scenario, 0, true);
        }
        prop_assert!(matches!(scenario.phase(), Phase::Finished(_)), "{:?}", scenario.types());
        let tenant = TenantId::default_tenant();
        let mut replayed = Aggregate::default();
        for event in &scenario.log {
            let stored = domain::event::Event::decode(event.event_type(), event.schema_version(), &event.encode());
            replayed.apply(&tenant, &stored.expect("decodes"), scenario.now);
        }
        let (live, replayed) = (scenario.state(), replayed.state);
        let domain::aggregate::AggregateState::Execution(replayed) = replayed else { panic!("an execution") };
        prop_assert_eq!(live.phase, replayed.phase);
        prop_assert_eq!(
            live.nodes.iter().map(|(id, node)| (id, &node.output, &node.error, node.attempt)).collect::<Vec<_>>(),
            replayed.nodes.iter().map(|(id, node)| (id, &node.output, &node.error, node.attempt)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn any_prefix_of_a_stream_can_be_continued(document in graphs(), cut in any::<prop::sample::Index>()) {
        let mut whole = given(document.clone()).started_with(Value::Null);
        for _ in 0..100 {
            happen(&mut whole, 0, true);
        }
        let cut = 1 + cut.index(whole.log.len());
        let mut continued = given(document);
        continued.now = whole.now;
        continued.wakeups.clone_from(&whole.wakeups);
        let tenant = TenantId::default_tenant();
        for event in &whole.log[..cut] {
            continued.aggregate.apply(&tenant, event, continued.now);
            continued.log.push(event.clone());
        }
        // A wakeup that finds nothing to do is refused or leads on; either way the state can go on.
        let wakeup = Wakeup { due_at: continued.now, kind: WakeupKind::Yield(0) };
        let _ = continued.when(ExecutionCommand::Wake(wakeup));
        for _ in 0..100 {
            happen(&mut continued, 0, true);
        }
        prop_assert_eq!(continued.phase(), whole.phase());
    }
}
