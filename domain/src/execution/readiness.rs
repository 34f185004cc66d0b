//! The graph's rules: when a node is ready, when it never will be, and what a back edge runs again.

use crate::node_type::NodeType;
use crate::nodes::{MergeMode, NodeConfig};
use crate::workflow::definition::{Edge, Graph};

use super::advance::Place;
use super::event::RunStarted;
use super::paths::join;
use super::progress::{Progress, custom_error};
use super::state::NodeStatus;

/// What an edge can know of the node that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The node is not done.
    Open,
    /// It left by this edge's handle.
    Taken,
    /// It is done, and did not.
    Closed,
}

/// Whether a node that has not begun can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    NotYet,
    Ready,
    Never,
}

impl<'a> Progress<'a> {
    /// Whether an edge of a scope is taken, or can still be in this run. In a graph with back edges a node that can never
    /// be ready is not recorded as skipped while it may run again; its edges are settled all the same.
    pub(super) fn way(&self, scope: &str, graph: &Graph, edge: &Edge) -> Way {
        let way = self.recorded_way(scope, graph, edge);
        if way != Way::Open || !graph.has_back_edges() {
            return way;
        }
        if self.never_ready(scope, graph)[edge.source] { Way::Closed } else { Way::Open }
    }

    /// The nodes of a graph that have not begun and cannot in this run, by index.
    fn never_ready(&self, scope: &str, graph: &Graph) -> Vec<bool> {
        let mut never = vec![false; graph.nodes().len()];
        for &index in graph.order() {
            let node = &graph.nodes()[index];
            let state = self.state.nodes.get(&*join(scope, &node.id));
            let is_pending = state.is_none_or(|state| state.status == NodeStatus::Pending);
            if !is_pending || node.node_type == NodeType::Start || graph.is_compensator(index) {
                continue;
            }
            let way = |edge: &Edge| match self.recorded_way(scope, graph, edge) {
                Way::Open if never[edge.source] => Way::Closed,
                way => way,
            };
            never[index] = self.judge(graph, index, way) == Readiness::Never;
        }
        never
    }

    /// Whether an edge is taken or can still be, by what its source has recorded.
    fn recorded_way(&self, scope: &str, graph: &Graph, edge: &Edge) -> Way {
        let source = &graph.nodes()[edge.source];
        if source.node_type == NodeType::Start {
            return Way::Taken;
        }
        let Some(state) = self.state.nodes.get(&*join(scope, &source.id)) else { return Way::Open };
        match &state.status {
            NodeStatus::Completed { handle } if *handle == edge.handle => Way::Taken,
            NodeStatus::Completed { .. } | NodeStatus::Skipped | NodeStatus::Cancelled => Way::Closed,
            NodeStatus::Pending
            | NodeStatus::Scheduled { .. }
            | NodeStatus::Running { .. }
            | NodeStatus::Iterating
            | NodeStatus::Waiting { .. }
            | NodeStatus::Failed { .. }
            | NodeStatus::BackingOff { .. }
            | NodeStatus::Due { .. } => Way::Open,
        }
    }

    /// Whether a node can begin: all edges that lead to it are settled and one was taken; a `merge` has its own rule.
    pub(super) fn readiness(&self, scope: &str, graph: &Graph, index: usize) -> Readiness {
        if !graph.has_back_edges() {
            return self.judge(graph, index, |edge| self.recorded_way(scope, graph, edge));
        }
        let never = self.never_ready(scope, graph);
        self.judge(graph, index, |edge| match self.recorded_way(scope, graph, edge) {
            Way::Open if never[edge.source] => Way::Closed,
            way => way,
        })
    }

    fn judge(&self, graph: &Graph, index: usize, way: impl Fn(&Edge) -> Way) -> Readiness {
        let merge = match &graph.nodes()[index].config {
            NodeConfig::Merge(merge) => Some(merge.mode()),
            _ => None,
        };
        let (mut taken, mut open) = (0, 0);
        for edge in graph.incoming(index) {
            match way(edge) {
                Way::Open if merge.is_none() => return Readiness::NotYet,
                Way::Open => open += 1,
                Way::Taken => taken += 1,
                Way::Closed => {}
            }
        }
        let needed = match merge {
            Some(MergeMode::Any) => 1,
            Some(MergeMode::Count(count)) => count,
            Some(MergeMode::All) if open > 0 => return Readiness::NotYet,
            Some(MergeMode::All) | None => 1,
        };
        match (taken >= needed, open > 0) {
            (true, _) => Readiness::Ready,
            (false, true) => Readiness::NotYet,
            (false, false) => Readiness::Never,
        }
    }

    /// A merge that has fired: what can only lead into it is cancelled.
    pub(super) fn cancel_beaten(&mut self, place: &Place<'a>) {
        if place.node.node_type != NodeType::Merge {
            return;
        }
        // Early if an input was still open; those that this has cancelled already say so too.
        let was_open = |edge: &Edge| {
            let source = join(place.scope(), &place.graph.nodes()[edge.source].id);
            let state = self.state.nodes.get(&*source);
            state.is_some_and(|state| state.status == NodeStatus::Cancelled)
                || self.way(place.scope(), place.graph, edge) == Way::Open
        };
        if !place.graph.incoming(place.index).any(was_open) {
            return;
        }
        for index in place.graph.only_into(place.index) {
            let node = &place.graph.nodes()[index];
            if node.node_type != NodeType::Start {
                let path = join(place.scope(), &node.id);
                self.cancel_node(&path, "a merge went on without it");
            }
            if self.must_yield() {
                return;
            }
        }
    }

    /// Takes the back edges by which a node has left, if there are any: their region begins a new run.
    pub(super) fn take_back_edges(&mut self, place: &Place<'a>, handle: Option<&str>, run: u32) -> bool {
        let graph = place.graph;
        let taken: Vec<&Edge> =
            graph.back_from(place.index).filter(|edge| edge.handle.as_deref() == handle).collect();
        let Some(first) = taken.first() else { return false };
        let mut region: Vec<usize> = taken.iter().flat_map(|edge| graph.region(edge.target)).collect();
        region.sort_unstable();
        region.dedup();
        let scope = place.scope();
        let target = join(scope, &graph.nodes()[first.target].id);
        let next = self.state.nodes.get(&*target).map_or(1, |node| node.run) + 1;
        if next.max(run + 1) > self.definition.max_node_runs {
            let most = self.definition.max_node_runs;
            let message =
                format!("`{target}` has run {most} times, which is all that `max_node_runs` allows");
            self.fail_up(&place.path, custom_error(message));
            return true;
        }
        let ran: Vec<&crate::workflow::definition::Node> = region
            .iter()
            .map(|index| &graph.nodes()[*index])
            .filter(|node| node.node_type != NodeType::End)
            .collect();
        for node in &ran {
            let path = join(scope, &node.id);
            if self.state.nodes.get(&*path).is_some_and(|node| node.status.is_open()) {
                self.cancel_node(&path, "a back edge was taken");
            }
            if self.must_yield() {
                return true;
            }
        }
        let nodes: Vec<String> = ran.iter().map(|node| join(scope, &node.id).to_string()).collect();
        let source = place.path.to_string();
        self.record(RunStarted { node_id: target.to_string(), run: next, source, nodes });
        for node in ran {
            self.look_at(&join(scope, &node.id));
        }
        self.look_at_scope(&std::sync::Arc::from(scope));
        true
    }

    /// Skips the nodes of a graph with back edges that nothing can reach any more. Whether there were any.
    pub(super) fn skip_out_of_reach(&mut self, scope: &str, graph: &'a Graph) -> bool {
        let reachable = self.within_reach(scope, graph);
        let mut skipped = false;
        for &index in graph.order() {
            let node = &graph.nodes()[index];
            if reachable[index] || matches!(node.node_type, NodeType::Start | NodeType::End) {
                continue;
            }
            let path = join(scope, &node.id);
            let state = self.state.nodes.get(&*path);
            let is_pending = state.is_none_or(|state| state.status == NodeStatus::Pending);
            if !is_pending
                || graph.is_compensator(index)
                || self.readiness(scope, graph, index) != Readiness::Never
            {
                continue;
            }
            let run = state.map_or(1, |state| state.run);
            let place = Place { path, graph, index, node };
            self.skip(&place, run);
            skipped = true;
        }
        skipped
    }

    /// What open nodes could still lead to, back edges included.
    fn within_reach(&self, scope: &str, graph: &Graph) -> Vec<bool> {
        let status = |index: usize| {
            let state = self.state.nodes.get(&*join(scope, &graph.nodes()[index].id));
            state.map(|state| &state.status)
        };
        let mut seen = vec![false; graph.nodes().len()];
        let mut stack: Vec<usize> =
            (0..seen.len()).filter(|index| status(*index).is_some_and(NodeStatus::is_open)).collect();
        while let Some(index) = stack.pop() {
            for edge in graph.outgoing(index) {
                let is_pending = status(edge.target).is_none_or(|status| *status == NodeStatus::Pending);
                if is_pending && !std::mem::replace(&mut seen[edge.target], true) {
                    stack.push(edge.target);
                }
            }
            for edge in graph.back_from(index) {
                for again in graph.region(edge.target) {
                    if !std::mem::replace(&mut seen[again], true) {
                        stack.push(again);
                    }
                }
            }
        }
        seen
    }
}
