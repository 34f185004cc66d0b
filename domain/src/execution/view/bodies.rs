//! The nodes inside loops and branches: rows of their own, of which a fold needs only those that an event touches.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::ExecutionEvent;
use crate::node_type::NodeType;

use super::super::paths::{container_of, id_of, is_inside, scope_of};
use super::nodes::NodeView;

/// Nodes of bodies, by path: all of an execution's, or those that the next events touch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bodies {
    nodes: BTreeMap<String, NodeView>,
    changed: BTreeSet<String>,
}

/// The rows that an event touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Paths of nodes in bodies.
    pub paths: Vec<String>,
    /// Paths of nodes all of whose insides are touched, if they have any.
    pub insides: Vec<String>,
}

impl Bodies {
    /// Takes in a node as it was left by the events before; one that is known already stays.
    pub fn insert(&mut self, node: NodeView) {
        self.nodes.entry(node.id.clone()).or_insert(node);
    }

    /// The nodes, ordered by their paths' text.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.values()
    }

    /// The nodes directly inside a container, ordered by their paths' text.
    pub fn nodes_of<'a>(&'a self, container: &'a str) -> impl Iterator<Item = &'a NodeView> {
        let first = format!("{container}/");
        let inside = self.nodes.range(first..).take_while(move |(path, _)| is_inside(path, container));
        let direct =
            inside.filter(move |(path, _)| place(path).is_some_and(|(parent, ..)| parent == container));
        direct.map(|(_, node)| node)
    }

    /// A node.
    pub fn get(&self, path: &str) -> Option<&NodeView> {
        self.nodes.get(path)
    }

    /// Those that events have changed since the last call, or since the beginning.
    pub fn take_changed(&mut self) -> Vec<&NodeView> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().filter_map(|path| self.nodes.get(path)).collect()
    }

    /// The node, which begins here if it has no event yet.
    pub(super) fn entry(&mut self, path: &str, node_type: NodeType) -> &mut NodeView {
        self.changed.insert(path.to_owned());
        self.nodes.entry(path.to_owned()).or_insert_with(|| NodeView::pending(path, node_type))
    }

    /// A node that has an event.
    pub(super) fn get_mut(&mut self, path: &str) -> Option<&mut NodeView> {
        let node = self.nodes.get_mut(path)?;
        self.changed.insert(path.to_owned());
        Some(node)
    }

    /// All nodes inside a container, at any depth.
    pub(super) fn inside_mut(&mut self, container: &str) -> impl Iterator<Item = &mut NodeView> {
        let Self { nodes, changed } = self;
        let first = format!("{container}/");
        let inside = nodes.range_mut(first..).take_while(move |(path, _)| is_inside(path, container));
        inside.map(|(path, node)| {
            changed.insert(path.clone());
            node
        })
    }

    /// All nodes.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut NodeView> {
        let Self { nodes, changed } = self;
        nodes.iter_mut().map(|(path, node)| {
            changed.insert(path.clone());
            node
        })
    }
}

/// The rows of bodies that an event touches: a fold must have those of them that exist.
pub fn touched_by(event: &ExecutionEvent) -> Touched {
    let one = |path: &str| Touched { paths: nested([path]), insides: Vec::new() };
    match event {
        ExecutionEvent::NodeScheduled(e) => one(&e.node_id),
        ExecutionEvent::NodeStarted(e) => one(&e.node_id),
        ExecutionEvent::ScopeCompleted(e) => {
            container_of(&e.node_id).map_or_else(Touched::default, |(container, _)| one(container))
        }
        ExecutionEvent::RunStarted(e) => {
            Touched { paths: nested(e.nodes.iter().map(String::as_str)), insides: e.nodes.clone() }
        }
        ExecutionEvent::NodeCompleted(e) => one(&e.node_id),
        ExecutionEvent::NodeFailed(e) => one(&e.node_id),
        ExecutionEvent::NodeSkipped(e) => one(&e.node_id),
        ExecutionEvent::NodeCancelled(e) => one(&e.node_id),
        ExecutionEvent::NodeWaiting(e) => one(&e.node_id),
        ExecutionEvent::NodeRetryScheduled(e) => one(&e.node_id),
        ExecutionEvent::NodeCompensated(e) => one(&e.node_id),
        ExecutionEvent::ChildStarted(e) => one(&e.node_id),
        ExecutionEvent::ChildFinished(e) => one(&e.node_id),
        ExecutionEvent::Retried(e) => {
            Touched { paths: nested(e.nodes.iter().map(String::as_str)), insides: Vec::new() }
        }
        ExecutionEvent::Started(_)
        | ExecutionEvent::Forked(_)
        | ExecutionEvent::Queued(_)
        | ExecutionEvent::Admitted(_)
        | ExecutionEvent::TimerStarted(_)
        | ExecutionEvent::TimerFired(_)
        | ExecutionEvent::TimerCancelled(_)
        | ExecutionEvent::SignalReceived(_)
        | ExecutionEvent::WaitSatisfied(_)
        | ExecutionEvent::EventEmitted(_)
        | ExecutionEvent::Responded(_)
        | ExecutionEvent::NodeDeadLettered(_)
        | ExecutionEvent::CompensationStarted(_)
        | ExecutionEvent::CompensationFinished(_)
        | ExecutionEvent::ChildCompensationRequested(_)
        | ExecutionEvent::ChildCompensated(_)
        | ExecutionEvent::Paused(_)
        | ExecutionEvent::Resumed(_)
        | ExecutionEvent::Warning(_)
        | ExecutionEvent::Completed(_)
        | ExecutionEvent::Failed(_)
        | ExecutionEvent::Cancelled(_)
        | ExecutionEvent::Terminated(_) => Touched::default(),
    }
}

/// Those of the paths that lie in bodies.
fn nested<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    paths.into_iter().filter(|path| is_nested(path)).map(str::to_owned).collect()
}

/// Whether a path is that of a node in a body.
pub(super) fn is_nested(path: &str) -> bool {
    place(path).is_some()
}

/// Where a node of a body is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePlace {
    /// Path of the `loop` or `parallel`.
    pub parent: String,
    /// The iteration or branch, from 0.
    pub iteration: u32,
    /// The node's id.
    pub id: String,
}

impl NodePlace {
    /// The place that a path names; `None` if the path is one of the top level.
    pub fn of(path: &str) -> Option<Self> {
        let (parent, iteration, id) = place(path)?;
        Some(Self { parent: parent.to_owned(), iteration, id: id.to_owned() })
    }
}

fn place(path: &str) -> Option<(&str, u32, &str)> {
    let (parent, iteration) = container_of(scope_of(path))?;
    Some((parent, iteration, id_of(path)))
}
