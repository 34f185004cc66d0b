//! One execution: scopes, virtual time, and what happens next.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

use crate::answers::Answer;
use crate::generate::{Case, Signal};

use super::document::{Graph, kind};
use super::{Ending, Fault, NodeEnd, NodeEnding, Status};

/// One execution.
pub(super) struct Course<'a> {
    pub(super) case: &'a Case,
    pub(super) label: String,
    pub(super) input: &'a Value,
    pub(super) depth: u32,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
    /// By path: the top level is empty.
    pub(super) scopes: BTreeMap<String, Scope<'a>>,
    /// The highest run of each path.
    runs: BTreeMap<String, u32>,
    /// The latest output of each path: a container that runs again has the same paths inside.
    pub(super) latest: BTreeMap<String, Value>,
    pub(super) signals: Vec<Signal>,
    /// How many of the signals have come.
    pub(super) received: usize,
    /// The signals that each wait has used, over all its runs.
    pub(super) consumed: BTreeMap<String, BTreeSet<usize>>,
    /// Containers, as `path/`, that were stopped before they were done: what runs in them later has any run number.
    pub(super) broken_off: BTreeSet<String>,
    over: Option<(Status, Value, Option<String>, Option<Fault>)>,
    pub(super) ambiguous: Option<String>,
    /// The paths of nodes that another order would have stopped before they began or ended.
    pub(super) either_way: BTreeSet<String>,
}

/// One graph that runs: the whole, an iteration or a branch.
pub(super) struct Scope<'a> {
    pub(super) graph: Graph<'a>,
    /// `item`, `key`, `index`.
    pub(super) names: Map<String, Value>,
    pub(super) nodes: BTreeMap<&'a str, Node>,
    pub(super) done: bool,
}

/// One node of a scope.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) state: State,
    pub(super) run: u32,
    pub(super) attempt: u32,
    /// The output of its latest completed run.
    pub(super) latest: Option<Value>,
    pub(super) container: Option<Container>,
    pub(super) wait: Option<Vec<Option<usize>>>,
    /// When it, or something inside it, last began or ended.
    pub(super) touched: Option<u64>,
}

/// Where a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Idle,
    Running,
    /// Left by a handle.
    Done(Option<String>),
    Stopped,
}

/// A loop or parallel that runs.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) outputs: Vec<Option<Value>>,
    /// Iterations that have not begun.
    pub(super) waiting: Vec<Map<String, Value>>,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub(super) struct Happening {
    pub(super) path: String,
    pub(super) run: u32,
    pub(super) attempt: u32,
    pub(super) what: What,
}

/// What happens to a node.
#[derive(Debug, Clone)]
pub(super) enum What {
    Signal,
    Answered(Answer),
    AttemptDeadline,
    TryAgain,
    DelayOver,
    WaitTimeout,
    ChildEnded(Box<Ending>),
}

impl<'a> Course<'a> {
    pub(super) fn new(
        case: &'a Case,
        label: String,
        workflow: &str,
        input: &'a Value,
        signals: &[Signal],
        depth: u32,
    ) -> Self {
        let mut course = Self {
            case,
            label,
            input,
            depth,
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            scopes: BTreeMap::new(),
            runs: BTreeMap::new(),
            latest: BTreeMap::new(),
            signals: signals.to_vec(),
            received: 0,
            consumed: BTreeMap::new(),
            broken_off: BTreeSet::new(),
            over: None,
            ambiguous: None,
            either_way: BTreeSet::new(),
        };
        for signal in signals {
            let happening = Happening { path: String::new(), run: 0, attempt: 0, what: What::Signal };
            course.at(signal.at_ms, happening);
        }
        course.open("", Graph::read(&case.workflows[workflow]), Map::new());
        course
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> Ending {
        loop {
            self.look_around();
            if let Some((status, output, failed_node, fault)) = self.over.take() {
                return self.ending(status, output, failed_node, fault);
            }
            let Some(((at, number), happening)) = self.queue.pop_first() else {
                unreachable!(
                    "the reference is stuck: a node runs and nothing will happen (seed {})",
                    self.case.seed
                )
            };
            let tied = self.queue.range((at, number)..).next().is_some_and(|((next, _), _)| *next == at);
            if tied && !matches!(happening.what, What::Signal) {
                self.ambiguous.get_or_insert_with(|| format!("two things happen at {at}"));
            }
            self.now = at;
            self.happen(happening);
        }
    }

    /// Looks at every graph until nothing changes.
    fn look_around(&mut self) {
        while self.over.is_none() {
            let mut paths: Vec<String> =
                self.scopes.iter().filter(|(_, scope)| !scope.done).map(|(path, _)| path.clone()).collect();
            // The deepest first, so that what is done inside is told before the outside is asked whether it is done.
            paths.sort_by_key(|path| std::cmp::Reverse(path.matches('/').count()));
            let changed = paths.iter().any(|path| self.begin_one(path) || self.close(path));
            if !changed {
                return;
            }
        }
    }

    /// Begins one node that is ready.
    fn begin_one(&mut self, scope_path: &str) -> bool {
        let scope = &self.scopes[scope_path];
        let ready = scope.graph.nodes.iter().find(|(id, node)| kind(node) != "end" && scope.is_ready(id));
        let Some((id, definition)) = ready.map(|(id, node)| (*id, *node)) else { return false };
        if kind(definition) == "merge" {
            self.fire(scope_path, id);
        } else {
            self.begin(&join(scope_path, id), definition);
        }
        true
    }

    /// Ends a scope in which nothing runs.
    fn close(&mut self, path: &str) -> bool {
        let scope = &self.scopes[path];
        if scope.nodes.values().any(|node| node.state == State::Running) {
            return false;
        }
        let reached: Vec<&'a str> = scope
            .graph
            .nodes
            .iter()
            .filter(|(id, node)| kind(node) == "end" && scope.is_ready(id))
            .map(|(id, _)| *id)
            .collect();
        let mut outputs = Map::new();
        for id in &reached {
            let template = &self.scopes[path].graph.nodes[id]["config"]["output"];
            match self.render(path, template) {
                Ok(output) => outputs.insert((*id).to_owned(), output),
                Err(fault) => {
                    self.scope_failed(path, &join(path, id), fault);
                    return true;
                }
            };
        }
        let output = match reached.as_slice() {
            [] => Value::Null,
            [only] => outputs.remove(*only).unwrap_or_default(),
            _ => Value::Object(outputs),
        };
        if let Some(scope) = self.scopes.get_mut(path) {
            scope.done = true;
        }
        match path.rsplit_once('/') {
            None => self.over = Some((Status::Completed, output, None, None)),
            Some((container, number)) => self.inner_done(container, number.parse().unwrap_or(0), output),
        }
        true
    }

    /// A node has failed for good and does not go on: neither does what it is in.
    pub(super) fn scope_failed(&mut self, scope_path: &str, node: &str, fault: Fault) {
        self.fails_beside_others(scope_path, split(node).1);
        self.fails_beside_a_merge(scope_path, split(node).1);
        match scope_path.rsplit_once('/') {
            None => self.over = Some((Status::Failed, Value::Null, Some(node.to_owned()), Some(fault))),
            Some((container, _)) => {
                let container = container.to_owned();
                let inner = fault.inner.clone().unwrap_or_else(|| node.to_owned());
                self.stop_inside(&container);
                self.fail(&container, Fault { inner: Some(inner), ..fault });
            }
        }
    }

    /// Opens a graph.
    pub(super) fn open(&mut self, path: &str, graph: Graph<'a>, names: Map<String, Value>) {
        let mut nodes = BTreeMap::new();
        for id in graph.nodes.keys() {
            let highest = self.runs.entry(join(path, id)).or_default();
            *highest += 1;
            let latest = self.latest.get(&join(path, id)).cloned();
            nodes.insert(*id, Node { run: *highest, latest, ..Node::default() });
        }
        self.scopes.insert(path.to_owned(), Scope { graph, names, nodes, done: false });
    }

    /// Starts a new run of all that is reachable from a back edge's target.
    pub(super) fn take_back_edge(&mut self, scope_path: &str, target: &'a str) {
        let (region, now) = (self.scopes[scope_path].graph.region(target), self.now);
        let scope = &self.scopes[scope_path];
        if let Some(other) =
            region.iter().find(|id| kind(scope.graph.nodes[*id]) != "end" && scope.is_ready(id))
        {
            self.ambiguous.get_or_insert_with(|| format!("{other} may begin before a back edge is taken"));
        }
        for id in region {
            let path = join(scope_path, id);
            self.stop_inside(&path);
            let highest = self.runs.entry(path).or_default();
            *highest += 1;
            let run = *highest;
            if let Some(node) = self.scopes.get_mut(scope_path).and_then(|scope| scope.nodes.get_mut(id)) {
                *node = Node { run, latest: node.latest.take(), touched: Some(now), ..Node::default() };
            }
        }
    }

    /// Drops the scopes of a container that is stopped.
    pub(super) fn stop_inside(&mut self, path: &str) {
        let prefix = format!("{path}/");
        if self.scopes.iter().any(|(scope, state)| scope.starts_with(&prefix) && !state.done) {
            self.broken_off.insert(prefix.clone());
        }
        self.scopes.retain(|scope, _| !scope.starts_with(&prefix));
    }

    /// Something will happen, so many milliseconds from now.
    pub(super) fn at(&mut self, after_ms: u64, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + after_ms, self.queued), happening);
    }

    pub(super) fn node(&mut self, path: &str) -> Option<&mut Node> {
        let (scope, id) = split(path);
        self.scopes.get_mut(scope)?.nodes.get_mut(id)
    }

    pub(super) fn definition(&self, path: &str) -> Option<&'a Value> {
        let (scope, id) = split(path);
        self.scopes.get(scope)?.graph.nodes.get(id).copied()
    }

    fn ending(
        self,
        status: Status,
        output: Value,
        failed_node: Option<String>,
        fault: Option<Fault>,
    ) -> Ending {
        let mut nodes = BTreeMap::new();
        for (path, scope) in &self.scopes {
            for (id, node) in &scope.nodes {
                let definition = scope.graph.nodes[id];
                let undoes = scope.graph.nodes.values().any(|other| other["compensate"] == json!(id));
                if matches!(kind(definition), "start" | "end") || undoes {
                    continue;
                }
                let end = if matches!(node.state, State::Done(_)) {
                    NodeEnd::Completed
                } else {
                    NodeEnd::NotCompleted
                };
                let run = path.is_empty().then_some(node.run);
                nodes.insert(join(path, id), NodeEnding { end, output: node.latest.clone(), run });
            }
        }
        let Self { now: took_ms, ambiguous, either_way, .. } = self;
        Ending { status, output, failed_node, fault, nodes, took_ms, ambiguous, either_way }
    }
}

/// The path of a node in a scope.
pub(super) fn join(scope: &str, id: &str) -> String {
    if scope.is_empty() { id.to_owned() } else { format!("{scope}/{id}") }
}

/// Scope and id of a node's path.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
