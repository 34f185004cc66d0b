//! When a node is ready, asked anew each time.

use serde_json::Value;
use std::collections::BTreeMap;

use super::course::{Course, Scope, State, join};
use super::document::{Edge, kind};

/// What an edge has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Taken,
    /// It can no longer be taken.
    Dead,
    Open,
}

impl<'a> Scope<'a> {
    /// Whether a node can begin now.
    pub(super) fn is_ready(&self, id: &str) -> bool {
        if self.nodes[id].state != State::Idle {
            return false;
        }
        if kind(self.graph.nodes[id]) == "start" {
            return true;
        }
        let mut known = BTreeMap::new();
        let edges: Vec<Settled> =
            self.graph.incoming(id).into_iter().map(|edge| self.settled(edge, &mut known)).collect();
        let taken = edges.iter().filter(|edge| **edge == Settled::Taken).count();
        let all_settled = edges.iter().all(|edge| *edge != Settled::Open);
        match self.needed(id) {
            Some(needed) => taken >= needed,
            None => all_settled && taken > 0,
        }
    }

    /// Whether a node has not begun in this run.
    pub(super) fn is_idle(&self, id: &str) -> bool {
        self.nodes[id].state == State::Idle
    }

    /// How many taken edges make a merge fire at once; `None` for any node that waits for all edges.
    pub(super) fn needed(&self, id: &str) -> Option<usize> {
        let node = self.graph.nodes[id];
        let config = &node["config"];
        match kind(node) {
            "merge" if config["mode"] == "any" => Some(1),
            "merge" => config["count"].as_u64().map(|count| count as usize),
            _ => None,
        }
    }

    fn settled(&self, edge: Edge<'a>, known: &mut BTreeMap<&'a str, bool>) -> Settled {
        match &self.nodes[edge.source].state {
            State::Done(handle) if handle.as_deref() == edge.handle => Settled::Taken,
            State::Done(_) | State::Stopped => Settled::Dead,
            State::Running => Settled::Open,
            State::Idle if self.is_dead(edge.source, known) => Settled::Dead,
            State::Idle => Settled::Open,
        }
    }

    /// Whether a node that has not begun cannot begin any more in this run.
    fn is_dead(&self, id: &'a str, known: &mut BTreeMap<&'a str, bool>) -> bool {
        if let Some(dead) = known.get(id) {
            return *dead;
        }
        let edges: Vec<Settled> =
            self.graph.incoming(id).into_iter().map(|edge| self.settled(edge, known)).collect();
        let taken = edges.iter().filter(|edge| **edge == Settled::Taken).count();
        let all_settled = edges.iter().all(|edge| *edge != Settled::Open);
        let dead =
            kind(self.graph.nodes[id]) != "start" && all_settled && taken < self.needed(id).unwrap_or(1);
        known.insert(id, dead);
        dead
    }
}

impl<'a> Course<'a> {
    /// A merge fires: with what came, and without what can only lead into it.
    pub(super) fn fire(&mut self, scope_path: &str, id: &'a str) {
        let scope = &self.scopes[scope_path];
        let mut known = BTreeMap::new();
        let edges = scope.graph.incoming(id);
        let settled: Vec<(Edge<'a>, Settled)> =
            edges.into_iter().map(|edge| (edge, scope.settled(edge, &mut known))).collect();
        let taken: Vec<&'a str> = settled
            .iter()
            .filter(|(_, state)| *state == Settled::Taken)
            .map(|(edge, _)| edge.source)
            .collect();
        let outputs: Vec<Value> =
            taken.iter().map(|source| scope.nodes[source].latest.clone().unwrap_or_default()).collect();
        let early = settled.iter().any(|(_, state)| *state == Settled::Open);
        if scope.needed(id).is_some_and(|needed| taken.len() > needed) {
            self.ambiguous
                .get_or_insert_with(|| format!("more inputs than needed reach {id} at the same time"));
        }
        let others = scope.graph.nodes.keys().any(|other| *other != id && scope.is_ready(other));
        if early && others {
            self.ambiguous.get_or_insert_with(|| format!("{id} fires early while others are ready too"));
        }
        self.look_for_ties(scope_path, id, &taken);
        if early {
            for stopped in self.scopes[scope_path].graph.only_into(id) {
                let path = join(scope_path, stopped);
                if let Some(node) = self.node(&path)
                    && matches!(node.state, State::Running | State::Idle)
                {
                    node.state = State::Stopped;
                    self.stop_inside(&path);
                }
            }
        }
        self.complete(&join(scope_path, id), Value::Array(outputs), None);
    }
}
