//! The pieces that graphs are made of. Each takes ways that are open and leaves ways that are open.

use serde_json::{Value, json};

use super::expressions::Readable;
use super::graph::{GraphBuilder, Place, Stub};
use super::{Flavour, SIGNALS};

/// How deep containers are nested.
const MOST_NESTING: u32 = 2;
/// How deep blocks are nested in one graph.
const MOST_DEPTH: u32 = 3;

impl GraphBuilder<'_> {
    /// Blocks one after the other.
    pub(crate) fn sequence(&mut self, mut stubs: Vec<Stub>, place: Place, length: u64) -> Vec<Stub> {
        for _ in 0..length {
            if stubs.is_empty() || self.generator.budget == 0 {
                break;
            }
            stubs = self.block(stubs, place);
        }
        stubs
    }

    fn block(&mut self, stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        let deeper = place.depth < MOST_DEPTH;
        match self.generator.random.below(20) {
            0..=2 if deeper => self.condition(stubs, place),
            3 if deeper => self.switch(stubs, place),
            4..=6 if deeper => self.fork(stubs, place),
            7 if deeper => self.repeat(stubs, place),
            8..=10 if self.nesting < MOST_NESTING => self.container(stubs, place),
            11..=14 => self.http_request(stubs, place),
            15 if self.generator.waits => self.wait(stubs, place),
            16 if !self.generator.children.is_empty() => self.sub_workflow(stubs, place),
            17 => self.delay_or_emit(stubs),
            _ => self.transform(stubs, place),
        }
    }

    fn transform(&mut self, mut stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        self.maybe_join(&mut stubs, place);
        let id = self.fresh("t");
        let settled = self.settled_at(&stubs);
        let (output, weight) = self.any_value(&settled);
        let mut node = json!({"id": id, "type": "transform", "config": {"output": output}});
        self.maybe_compensate(&mut node);
        self.connect(node, &stubs);
        self.leave(id, Readable { number: None, weight: Some(weight), is_list: false })
    }

    fn http_request(&mut self, mut stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        self.maybe_join(&mut stubs, place);
        let id = self.fresh("h");
        let settled = self.settled_at(&stubs);
        let behaviour = match self.generator.random.below(12) {
            0 => "fail".to_owned(),
            1..=2 => format!("flaky/{}", self.generator.random.between(1, 3)),
            3 => format!("hang/{}", self.generator.random.between(1, 2)),
            _ => "ok".to_owned(),
        };
        let number = self.number(&settled);
        let mut node = json!({"id": id, "type": "http_request", "config": {
            "method": "POST", "url": format!("http://sim/{behaviour}"), "body": {"n": format!("{{{{ {number} }}}}")},
        }});
        if self.generator.random.chance(60) {
            node["retry"] = json!({
                "max_attempts": self.generator.random.between(1, 4),
                "initial_interval_ms": self.generator.random.between(0, 3_000),
                "jitter": false,
                "backoff": if self.generator.random.chance(50) { "constant" } else { "exponential" },
            });
            if self.generator.random.chance(30) {
                node["retry"]["retry_on"] = json!(["http_5xx", "connection"]);
            }
        }
        if self.generator.random.chance(30) {
            node["timeout_ms"] = json!(self.generator.random.between(10_000, 40_000));
        }
        let plain = self.generator.random.chance(45);
        if plain {
            self.maybe_compensate(&mut node);
        }
        let number = plain.then(|| format!("nodes.{id}.output.body.n"));
        let routed = !plain && self.on_error(&mut node);
        self.connect(node, &stubs);
        let mut stubs = self.leave(id.clone(), Readable { number, weight: Some(3), is_list: false });
        if routed {
            self.route(&id, &mut stubs, place);
        }
        stubs
    }

    /// What a failure means; whether it leaves by a way of its own.
    fn on_error(&mut self, node: &mut Value) -> bool {
        let routed = self.generator.random.chance(50);
        node["on_error"] = json!(if routed { "route" } else { "continue" });
        routed
    }

    /// Where the `error` handle leads.
    fn route(&mut self, id: &str, stubs: &mut Vec<Stub>, place: Place) {
        let error = Stub { source: id.to_owned(), handle: Some("error".to_owned()) };
        match self.generator.random.below(4) {
            0 if !place.strict => self.end(&[error]),
            1 => stubs.extend(self.transform(vec![error], Place { joins: false, ..place })),
            // Nowhere.
            2 => {}
            _ => stubs.push(error),
        }
    }

    fn condition(&mut self, stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        let id = self.fresh("c");
        let settled = self.settled_at(&stubs);
        let expression = self.truth(&settled);
        self.connect(json!({"id": id, "type": "condition", "config": {"expression": expression}}), &stubs);
        self.readable.insert(id.clone(), Readable { number: None, weight: Some(1), is_list: false });
        let exclusive = self.generator.random.chance(25);
        let inner = Place { depth: place.depth + 1, joins: place.joins && !exclusive, ..place };
        let mut ways = Vec::new();
        for handle in ["true", "false"] {
            if !exclusive && !place.strict && self.generator.random.chance(15) {
                continue;
            }
            let way = Stub { source: id.clone(), handle: Some(handle.to_owned()) };
            if !place.strict && self.generator.random.chance(6) {
                self.fail(&[way]);
                continue;
            }
            let length = self.generator.random.below(3);
            ways.push(self.sequence(vec![way], inner, length));
        }
        let single = ways.len() == 2 && ways.iter().all(|way| way.len() == 1);
        let stubs: Vec<Stub> = ways.concat();
        if exclusive && single { self.merge(&stubs, json!({"mode": "any"})) } else { stubs }
    }

    fn switch(&mut self, stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        let id = self.fresh("s");
        let settled = self.settled_at(&stubs);
        let count = self.generator.random.between(1, 3);
        let cases: Vec<Value> = (0..count)
            .map(|number| json!({"name": format!("case {number}"), "expression": self.truth(&settled)}))
            .collect();
        let mut handles: Vec<String> = (0..count).map(|number| format!("case {number}")).collect();
        handles.push("default".to_owned());
        self.connect(json!({"id": id, "type": "switch", "config": {"cases": cases}}), &stubs);
        self.readable.insert(id.clone(), Readable { number: None, weight: Some(1), is_list: false });
        let mut open = Vec::new();
        for handle in handles {
            if !place.strict && self.generator.random.chance(15) {
                continue;
            }
            let way = Stub { source: id.clone(), handle: Some(handle) };
            let length = self.generator.random.below(2);
            open.extend(self.sequence(vec![way], Place { depth: place.depth + 1, ..place }, length));
        }
        open
    }

    fn fork(&mut self, stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        let stubs = self.transform(stubs, place);
        let mut open: Vec<Stub> = Vec::new();
        for _ in 0..self.generator.random.between(2, 3) {
            let length = self.generator.random.between(1, 2);
            let inner = Place { depth: place.depth + 1, ..place };
            for stub in self.sequence(stubs.clone(), inner, length) {
                if !open.contains(&stub) {
                    open.push(stub);
                }
            }
        }
        if open.len() < 2 || self.generator.random.chance(40) {
            return open;
        }
        let config = match self.generator.random.below(4) {
            0 => json!({"count": open.len()}),
            1 if self.generator.flavour == Flavour::Racy => json!({"mode": "any"}),
            2 if self.generator.flavour == Flavour::Racy => {
                json!({"count": self.generator.random.between(1, open.len() as u64)})
            }
            _ => json!({"mode": "all"}),
        };
        self.merge(&open, config)
    }

    fn merge(&mut self, stubs: &[Stub], config: Value) -> Vec<Stub> {
        let id = self.fresh("m");
        let weights: Vec<Option<u32>> = stubs
            .iter()
            .map(|stub| self.readable.get(&stub.source).map_or(Some(4), |readable| readable.weight))
            .collect();
        self.connect(json!({"id": id, "type": "merge", "config": config}), stubs);
        let weight = weights.into_iter().sum::<Option<u32>>();
        self.leave(id, Readable { number: None, weight, is_list: true })
    }

    /// A region with a back edge; it ends because a counter grows.
    fn repeat(&mut self, stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        let counter = self.fresh("n");
        let expression = format!("{{{{ has(nodes.{counter}.output) ? nodes.{counter}.output + 1 : 1 }}}}");
        self.connect(json!({"id": counter, "type": "transform", "config": {"output": expression}}), &stubs);
        let outer_region = self.region;
        self.region = self.generator.ids;
        let number = Some(format!("nodes.{counter}.output"));
        let stubs = self.leave(counter.clone(), Readable { number, weight: Some(1), is_list: false });
        let strict =
            place.strict || self.generator.flavour == Flavour::Confluent || self.generator.random.chance(50);
        let length = self.generator.random.between(0, 2);
        let inner = Place { depth: place.depth + 1, strict, ..place };
        let stubs = self.sequence(stubs, inner, length);
        self.region = outer_region;
        if stubs.is_empty() {
            return stubs;
        }
        let again = self.fresh("again");
        let most = self.generator.random.between(1, 3);
        let expression = format!("nodes.{counter}.output < {most}");
        self.connect(json!({"id": again, "type": "condition", "config": {"expression": expression}}), &stubs);
        self.readable.insert(again.clone(), Readable { number: None, weight: Some(1), is_list: false });
        self.back(&again, "true", &counter);
        vec![Stub { source: again, handle: Some("false".to_owned()) }]
    }

    fn container(&mut self, mut stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        self.maybe_join(&mut stubs, place);
        let settled = self.settled_at(&stubs);
        let (id, mut node) = match self.generator.random.below(5) {
            0..=1 => {
                let id = self.fresh("par");
                let branches: Vec<Value> =
                    (0..self.generator.random.between(1, 3)).map(|_| self.inner(&stubs, false)).collect();
                (id.clone(), json!({"id": id, "type": "parallel", "config": {"branches": branches}}))
            }
            2 => {
                let id = self.fresh("while");
                let expression = format!("index < {}", self.generator.random.below(4));
                let body = self.inner(&stubs, true);
                (id.clone(), json!({"id": id, "type": "loop", "config": {"while": expression, "body": body}}))
            }
            _ => {
                let id = self.fresh("loop");
                let over = self.collection(&settled);
                let body = self.inner(&stubs, true);
                (id.clone(), json!({"id": id, "type": "loop", "config": {"over": over, "body": body}}))
            }
        };
        if node["config"]["while"].is_null() && self.generator.random.chance(60) {
            node["config"]["max_concurrency"] = json!(self.generator.random.between(1, 3));
        }
        let routed = self.generator.random.chance(30) && self.on_error(&mut node);
        self.connect(node, &stubs);
        let mut stubs = self.leave(id.clone(), Readable { number: None, weight: Some(10), is_list: true });
        if routed {
            self.route(&id, &mut stubs, place);
        }
        stubs
    }

    fn wait(&mut self, mut stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        self.maybe_join(&mut stubs, place);
        let id = self.fresh("w");
        let one = |name: &str| match name {
            "approval" => json!({"for": "approval"}),
            name => json!({"for": "signal", "signal": name}),
        };
        let first = self.generator.random.below(SIGNALS.len() as u64) as usize;
        let second = (first + 1) % SIGNALS.len();
        let mut config = match self.generator.random.below(4) {
            0 => json!({"any": [one(SIGNALS[first]), one(SIGNALS[second])]}),
            1 => json!({"all": [one(SIGNALS[first]), one(SIGNALS[second])]}),
            2 => json!({"for": "signal", "signal": "never"}),
            _ => one(SIGNALS[first]),
        };
        config["timeout_ms"] = json!(self.generator.random.between(200_000, 300_000));
        let mut node = json!({"id": id, "type": "wait"});
        let routed = match self.generator.random.below(4) {
            0 => self.on_error(&mut node),
            1 => false,
            _ => {
                config["on_timeout"] = json!("continue");
                false
            }
        };
        node["config"] = config;
        self.connect(node, &stubs);
        let mut stubs = self.leave(id.clone(), Readable { number: None, weight: Some(3), is_list: false });
        if routed {
            self.route(&id, &mut stubs, place);
        }
        stubs
    }

    fn sub_workflow(&mut self, mut stubs: Vec<Stub>, place: Place) -> Vec<Stub> {
        self.maybe_join(&mut stubs, place);
        let id = self.fresh("sub");
        let settled = self.settled_at(&stubs);
        let child = self.generator.random.pick(&self.generator.children).cloned().unwrap_or_default();
        let number = self.number(&settled);
        let mut node = json!({"id": id, "type": "sub_workflow", "config": {
            "workflow": child,
            "input": {"n": format!("{{{{ {number} }}}}"), "flag": true, "items": [1, 2], "map": {"k": 1}},
        }});
        let waits = self.generator.random.chance(80);
        if !waits {
            node["config"]["wait"] = json!(false);
        }
        let routed = self.generator.random.chance(40) && self.on_error(&mut node);
        self.connect(node, &stubs);
        let weight = waits.then_some(8);
        let mut stubs = self.leave(id.clone(), Readable { number: None, weight, is_list: false });
        if routed {
            self.route(&id, &mut stubs, place);
        }
        stubs
    }

    fn delay_or_emit(&mut self, stubs: Vec<Stub>) -> Vec<Stub> {
        let (id, node) = if self.generator.random.chance(50) {
            let id = self.fresh("d");
            let ms = self.generator.random.below(20_000);
            (id.clone(), json!({"id": id, "type": "delay", "config": {"duration_ms": ms}}))
        } else {
            let id = self.fresh("e");
            let config = json!({"type": "sim.emitted", "data": {"n": "{{ input.n }}"}});
            (id.clone(), json!({"id": id, "type": "emit_event", "config": config}))
        };
        self.connect(node, &stubs);
        // Its output is a time or an id.
        self.leave(id, Readable { number: None, weight: None, is_list: false })
    }

    fn fail(&mut self, stubs: &[Stub]) {
        let id = self.fresh("f");
        self.connect(json!({"id": id, "type": "fail", "config": {"message": "no {{ input.n }}"}}), stubs);
    }

    /// A node that is made is left by its plain handle.
    fn leave(&mut self, id: String, readable: Readable) -> Vec<Stub> {
        self.readable.insert(id.clone(), readable);
        let stub = Stub { source: id, handle: None };
        self.offer(&stub);
        vec![stub]
    }

    fn maybe_join(&mut self, stubs: &mut Vec<Stub>, place: Place) {
        if place.joins && self.generator.random.chance(20) {
            self.join(stubs);
        }
    }

    fn maybe_compensate(&mut self, node: &mut Value) {
        if self.generator.random.chance(75) {
            return;
        }
        let id = self.fresh("undo");
        node["compensate"] = json!(id);
        let undoes = if self.generator.random.chance(70) {
            let url = if self.generator.random.chance(8) { "http://sim/fail" } else { "http://sim/ok" };
            json!({"id": id, "type": "http_request", "config": {"url": url}})
        } else {
            json!({"id": id, "type": "transform", "config": {"output": "{{ input.n }}"}})
        };
        self.add_alone(undoes);
    }
}
