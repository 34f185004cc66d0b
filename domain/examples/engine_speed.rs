//! How fast the engine folds and decides, and that a step does not cost more as the history grows.
//!
//! `cargo run --release -p domain --example engine_speed`

use domain::aggregate::{Aggregate, AggregateState};
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Decision, Need, NodeRun, Outcome, WakeupKind};
use domain::event::{Event, ExecutionEvent};
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::Trigger;
use domain::execution::{ExecutionState, Phase, evolve};
use domain::facts::{Fact, Facts, Variables, WorkflowHead};
use domain::ids::{Actor, TenantId};
use domain::time::Timestamp;
use domain::workflow::definition::Definition;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

struct Engine {
    definition: Arc<Definition>,
    aggregate: Aggregate,
    log: Vec<ExecutionEvent>,
    commits: usize,
    commands: u128,
    yielded: bool,
    now: Timestamp,
}

impl Engine {
    fn new(document: &Value) -> Self {
        let definition = Definition::parse(document).expect("a valid definition");
        Self {
            definition: Arc::new(definition),
            aggregate: Aggregate::default(),
            log: Vec::new(),
            commits: 0,
            commands: 0,
            yielded: false,
            now: Timestamp::from_unix_ms(1_795_000_000_000),
        }
    }

    /// Decides a command and installs what follows; returns how long the decision took.
    fn when(&mut self, command: ExecutionCommand) -> Duration {
        self.commands += 1;
        let stream = Uuid::from_u128(2);
        let envelope = CommandEnvelope {
            id: Uuid::from_u128(self.commands),
            tenant: TenantId::default_tenant(),
            actor: Actor::system("bench"),
            stream,
            correlation_id: stream,
            causation_id: stream,
            traceparent: None,
            digest: None,
            command: Command::Execution(command),
            authority: None,
        };
        let mut facts = Facts::new(self.now, envelope.id, stream, envelope.tenant.clone());
        facts.definition = Fact::Is(self.definition.clone());
        facts.variables = Fact::Is(Arc::new(Variables::default()));
        facts.workflow = Fact::Is(Arc::new(WorkflowHead {
            name: "bench".to_owned(),
            published_version: Some(1),
            latest_version: 1,
            enabled: true,
            deleted: false,
            owner: None,
            shared: domain::workflow::event::WorkflowShared::default(),
        }));
        let begun = Instant::now();
        let outcome = loop {
            match self.aggregate.decide(&envelope, &facts).expect("accepted") {
                Decision::Events(outcome) => break outcome,
                Decision::Needs(needs) => {
                    for need in needs {
                        if let Need::Blob(reference) = &need {
                            panic!("no blob {} here", reference.sha256);
                        }
                    }
                }
            }
        };
        let took = begun.elapsed();
        self.install(outcome);
        took
    }

    fn install(&mut self, outcome: Outcome) {
        self.commits += 1;
        self.yielded = outcome.wakeups.iter().any(|wakeup| matches!(wakeup.kind, WakeupKind::Yield(_)));
        for event in outcome.events {
            if let Event::Execution(event) = event {
                self.log.push(event);
            }
        }
        self.aggregate.tenant = Some(TenantId::default_tenant());
        self.aggregate.version = self.log.len() as u64;
        self.aggregate.state = AggregateState::Execution(outcome.after.expect("a state"));
    }

    fn start(&mut self, input: Value) {
        self.when(ExecutionCommand::Start(StartExecution {
            workflow_id: Uuid::from_u128(1),
            workflow_version: None,
            input,
            trigger: Trigger { kind: "api".to_owned() },
            priority: None,
            attributes: Map::new(),
            parent: None,
            owner: None,
        }));
        self.go_on();
    }

    /// Carries out wakeups that are due at once.
    fn go_on(&mut self) {
        while self.yielded {
            let wakeup = domain::decision::Wakeup { due_at: self.now, kind: WakeupKind::Yield(0) };
            self.when(ExecutionCommand::Wake(wakeup));
        }
    }

    fn complete(&mut self, path: &str) -> Duration {
        let node = NodeRun { node_id: path.to_owned(), run: 1, attempt: 1 };
        let took = self.when(ExecutionCommand::CompleteNode { node, result: Ok(json!({"ok": true})) });
        self.go_on();
        took
    }

    fn state(&self) -> &ExecutionState {
        match &self.aggregate.state {
            AggregateState::Execution(state) => state,
            other => panic!("{other:?}"),
        }
    }
}

fn request(id: &str) -> Value {
    json!({"id": id, "type": "http_request", "config": {"url": "http://127.0.0.1/"}})
}

fn for_each(body: &Value, concurrency: usize) -> Value {
    let body = json!({
        "nodes": [{"id": "start", "type": "start"}, body, {"id": "end", "type": "end", "config": {"output": "{{ index }}"}}],
        "edges": [{"source": "start", "target": "a"}, {"source": "a", "target": "end"}],
    });
    let each = json!({"over": "{{ input }}", "body": body, "max_concurrency": concurrency, "max_iterations": 100_000});
    json!({
        "name": "bench",
        "nodes": [{"id": "start", "type": "start"}, {"id": "each", "type": "loop", "config": each}, {"id": "end", "type": "end"}],
        "edges": [{"source": "start", "target": "each"}, {"source": "each", "target": "end"}],
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A step of a loop whose history grows to nearly its limit, and the fold of that history.
fn steps_and_fold() {
    let mut engine = Engine::new(&for_each(&request("a"), 1));
    engine.start(json!((0..15_200).collect::<Vec<u32>>()));
    let mut index = 0;
    println!("events in the history | one step, median of 200");
    for until in [1_000, 5_000, 10_000, 20_000, 30_000, 40_000, 45_000] {
        while engine.log.len() < until {
            engine.complete(&format!("each/{index}/a"));
            index += 1;
        }
        let mut times = Vec::new();
        for _ in 0..200 {
            times.push(engine.complete(&format!("each/{index}/a")));
            index += 1;
        }
        println!("{:>21} | {:?}", engine.log.len(), median(times));
    }
    let best = (0..5).map(|_| {
        let begun = Instant::now();
        let folded = engine
            .log
            .iter()
            .fold(ExecutionState::default(), |state, event| evolve(state, event, engine.now));
        assert_eq!(&folded, engine.state(), "the fold of the log is the live state");
        begun.elapsed()
    });
    let best = best.min().expect("five");
    println!(
        "fold: {} events in {best:?}: {:.2} million events per second",
        engine.log.len(),
        engine.log.len() as f64 / best.as_secs_f64() / 1e6
    );
}

/// The next step of an execution of 1,000 nodes.
fn a_thousand_nodes() {
    let ids: Vec<String> = (0..998).map(|n| format!("n{n}")).collect();
    let mut nodes: Vec<Value> = ids.iter().map(|id| request(id)).collect();
    nodes.extend([json!({"id": "start", "type": "start"}), json!({"id": "end", "type": "end"})]);
    // A trunk of 499 with a leaf beside each.
    let mut edges = vec![json!({"source": "start", "target": "n0"})];
    for n in 0..499 {
        edges.push(json!({"source": format!("n{n}"), "target": format!("n{}", n + 499)}));
        edges.push(json!({"source": format!("n{}", n + 499), "target": "end"}));
        if n < 498 {
            edges.push(json!({"source": format!("n{n}"), "target": format!("n{}", n + 1)}));
        }
    }
    let mut engine = Engine::new(&json!({"name": "bench", "nodes": nodes, "edges": edges}));
    engine.start(Value::Null);
    let mut times = Vec::new();
    for n in 0..499 {
        times.push(engine.complete(&format!("n{n}")));
        times.push(engine.complete(&format!("n{}", n + 499)));
    }
    assert!(matches!(engine.state().phase, Phase::Finished(_)));
    let worst = times.iter().max().copied().unwrap_or_default();
    println!(
        "1,000 nodes: one step {:?} (median of {}), {worst:?} at most",
        median(times.clone()),
        times.len()
    );
}

/// Engine-only work: how many commits, and how long without a store.
fn engine_only() {
    let nodes =
        (0..100).map(|n| json!({"id": format!("t{n}"), "type": "transform", "config": {"output": n}}));
    let ends = [json!({"id": "start", "type": "start"}), json!({"id": "end", "type": "end"})];
    let mut edges: Vec<Value> =
        (0..99).map(|n| json!({"source": format!("t{n}"), "target": format!("t{}", n + 1)})).collect();
    edges.extend([json!({"source": "start", "target": "t0"}), json!({"source": "t99", "target": "end"})]);
    let mut chain = Engine::new(
        &json!({"name": "bench", "nodes": nodes.chain(ends).collect::<Vec<_>>(), "edges": edges}),
    );
    chain.start(Value::Null);
    println!("a chain of 100 engine nodes: {} events in {} commit(s)", chain.log.len(), chain.commits);
    let transform = json!({"id": "a", "type": "transform", "config": {"output": "{{ item * 2 }}"}});
    let mut each = Engine::new(&for_each(&transform, 100));
    let begun = Instant::now();
    each.start(json!((0..10_000).collect::<Vec<u32>>()));
    let took = begun.elapsed();
    assert!(matches!(each.state().phase, Phase::Finished(_)));
    println!(
        "for-each over 10,000 items, 100 at a time: {} events in {} commits, {took:?} of deciding",
        each.log.len(),
        each.commits
    );
}

fn main() {
    steps_and_fold();
    a_thousand_nodes();
    engine_only();
}
