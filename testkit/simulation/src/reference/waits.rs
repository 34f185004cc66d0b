//! Waits: which signals satisfy them.

use serde_json::Value;

use super::course::{Course, State, What, join};
use super::document::kind;
use super::steps::fault;

impl Course<'_> {
    pub(super) fn begin_wait(&mut self, path: &str, config: &Value) {
        let count = names(config).len();
        if let Some(node) = self.node(path) {
            node.wait = Some(vec![None; count]);
        }
        if let Some(timeout_ms) = config["timeout_ms"].as_u64() {
            self.later(path, timeout_ms, What::WaitTimeout);
        }
        self.look_at_signals(path);
    }

    pub(super) fn wait_timed_out(&mut self, path: &str) {
        let goes_on = self.definition(path).is_some_and(|node| node["config"]["on_timeout"] == "continue");
        if goes_on { self.complete(path, Value::Null, None) } else { self.fail(path, fault("timeout")) }
    }

    /// The next signal comes, to every wait.
    pub(super) fn receive(&mut self) {
        self.received += 1;
        let mut waiting = Vec::new();
        for (path, scope) in &self.scopes {
            for (id, node) in &scope.nodes {
                if kind(scope.graph.nodes[id]) == "wait" && node.state == State::Running {
                    waiting.push(join(path, id));
                }
            }
        }
        for path in waiting {
            self.look_at_signals(&path);
        }
    }

    /// Gives a wait the signals that came and that it has not used, the oldest first.
    fn look_at_signals(&mut self, path: &str) {
        let Some(definition) = self.definition(path) else { return };
        let names = names(&definition["config"]);
        let any = definition["config"]["any"].is_array();
        for at in 0..self.received {
            let signal = self.signals[at].name.clone();
            if self.consumed.get(path).is_some_and(|used| used.contains(&at)) {
                continue;
            }
            let Some(met) = self.node(path).and_then(|node| node.wait.as_mut()) else { return };
            let Some(free) = (0..names.len()).find(|slot| met[*slot].is_none() && names[*slot] == signal)
            else {
                continue;
            };
            met[free] = Some(at);
            let met = met.clone();
            self.consumed.entry(path.to_owned()).or_default().insert(at);
            if any || met.iter().all(Option::is_some) {
                let payload = |at: usize| self.signals[at].payload.clone();
                let output = if definition["config"]["all"].is_array() {
                    Value::Array(met.into_iter().flatten().map(payload).collect())
                } else {
                    payload(at)
                };
                return self.complete(path, output, None);
            }
        }
    }
}

/// The signals that a wait is for.
fn names(config: &Value) -> Vec<String> {
    let name = |one: &Value| match one["signal"].as_str() {
        Some(name) => name.to_owned(),
        None => "approval".to_owned(),
    };
    match config["any"].as_array().or(config["all"].as_array()) {
        Some(list) => list.iter().map(name).collect(),
        None => vec![name(config)],
    }
}
