//! Histories with loops, runs, forks, retries and dead letters, as an engine would write them.

use serde_json::{Value, json};
use uuid::Uuid;

use domain::event::{CATALOGUE, Event, RecordedEvent};

use crate::support::recorded;

/// A stream that is written down event by event.
pub(crate) struct History {
    pub(crate) stream: Uuid,
    pub(crate) events: Vec<RecordedEvent>,
}

impl History {
    pub(crate) fn begun(stream: Uuid) -> Self {
        let mut history = Self { stream, events: Vec::new() };
        history.add(
            "execution.started",
            json!({
                "workflow_id": stream, "workflow_name": "orders", "workflow_version": 1,
                "definition_hash": "00".repeat(32), "input": {"order": 17}, "trigger": {"kind": "api"},
                "vars_version": 0, "priority": 5, "attributes": {},
            }),
        );
        history
    }

    pub(crate) fn forked(stream: Uuid, origin: &Self, at_version: u64) -> Self {
        let mut history = Self { stream, events: Vec::new() };
        history.add(
            "execution.forked",
            json!({
                "origin": origin.stream, "at_version": at_version, "recorded_until": at_version, "depth": 1,
                "effects": "replay", "workflow_id": origin.stream, "workflow_name": "orders",
                "workflow_version": 2, "definition_hash": "01".repeat(32),
                "node_outputs": {"loop/0/fetch": "another"},
            }),
        );
        history
    }

    /// The next event, of today's schema version.
    pub(crate) fn add(&mut self, event_type: &str, data: Value) -> &mut Self {
        let entry = CATALOGUE.iter().find(|entry| entry.event_type == event_type).unwrap();
        let data = serde_json::to_vec(&data).unwrap();
        let event = Event::decode(event_type, entry.schema_version, &data).unwrap();
        self.events.push(recorded(self.stream, self.events.len() as u64 + 1, event));
        self
    }

    /// An event of a node, with what all of them have.
    pub(crate) fn node(&mut self, what: &str, node_id: &str, run: u32, more: Value) -> &mut Self {
        let id = node_id.rsplit('/').next().unwrap();
        let node_type = match id {
            "loop" | "inner" => "loop",
            "pause" => "delay",
            _ => "http_request",
        };
        let mut data = json!({"node_id": node_id, "run": run, "attempt": 1, "node_type": node_type});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.add(&format!("execution.node.{what}"), data)
    }

    pub(crate) fn scheduled(&mut self, node_id: &str, run: u32) -> &mut Self {
        self.node("scheduled", node_id, run, json!({"config": {}, "deadline": "2026-11-21T09:00:00Z"}))
    }

    pub(crate) fn completed(&mut self, node_id: &str, run: u32) -> &mut Self {
        self.node("completed", node_id, run, json!({"output": {"from": node_id}, "duration_ms": 3}))
    }

    pub(crate) fn iteration(&mut self, node_id: &str, run: u32) -> &mut Self {
        self.add(
            "execution.scope.completed",
            json!({"node_id": node_id, "run": run, "output": null, "ends": []}),
        )
    }

    /// A loop of so many iterations, one after the other; each has a request and a loop of two pauses.
    pub(crate) fn looped(&mut self, run: u32, iterations: u32) -> &mut Self {
        self.node("started", "loop", run, json!({"count": iterations}));
        for iteration in 0..iterations {
            let fetch = format!("loop/{iteration}/fetch");
            self.scheduled(&fetch, run).completed(&fetch, run);
            let inner = format!("loop/{iteration}/inner");
            self.node("started", &inner, run, json!({"count": 2}));
            for step in 0..2 {
                let pause = format!("{inner}/{step}/pause");
                self.node("waiting", &pause, run, json!({})).completed(&pause, run);
                self.iteration(&format!("{inner}/{step}"), run);
            }
            self.completed(&inner, run).iteration(&format!("loop/{iteration}"), run);
        }
        self.completed("loop", run)
    }

    pub(crate) fn died(&mut self, node_id: &str, run: u32) -> &mut Self {
        let error = json!({"kind": "http_5xx", "message": "the shop is closed", "retryable": true});
        self.node("failed", node_id, run, json!({"error": error, "duration_ms": 4}));
        self.node("dead_lettered", node_id, run, json!({"error": error}));
        self.add("execution.failed", json!({"node_id": node_id, "error": error, "duration_ms": 9}))
    }

    pub(crate) fn ended(&mut self) -> &mut Self {
        self.add("execution.completed", json!({"output": 42, "ends": ["end"], "duration_ms": 20}))
    }
}

/// A history with everything that shows in the tables: a loop in a loop, run twice by a back edge, and a node that ran
/// out of attempts and was tried again.
pub(crate) fn eventful(stream: Uuid) -> History {
    let mut history = History::begun(stream);
    history.looped(1, 3);
    history.add(
        "execution.run.started",
        json!({"node_id": "loop", "run": 2, "source": "again", "nodes": ["loop", "after"]}),
    );
    history.looped(2, 2).scheduled("after", 2).died("after", 2);
    history.add("execution.retried", json!({"nodes": ["after"]}));
    history.scheduled("after", 2).completed("after", 2).ended();
    history
}
