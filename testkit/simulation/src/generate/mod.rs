//! Random workflows that are valid, and what happens to their executions from outside.
//!
//! Two kinds of document. *Confluent* ones end the same in whatever order results, timers and signals come: they are
//! compared under every fault. *Racy* ones have merges that fire early, and are compared only with a run in which
//! virtual time orders everything.
//!
//! How confluence is kept: a node reads only nodes that lead to it (all of them are settled when it is ready); a back
//! edge leaves the only node of its region that can be running; a `merge` that fires early has inputs that exclude each
//! other; several failures at the same time differ in the error alone, which is not compared then.

mod blocks;
mod expressions;
mod graph;

use domain::workflow::definition::Definition;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use crate::random::Random;

use graph::GraphBuilder;

/// Names of signals that waits use.
pub(crate) const SIGNALS: [&str; 3] = ["s0", "s1", "approval"];
/// Signals of each name that are sent; no wait consumes more.
const SIGNALS_EACH: usize = 6;
/// Nodes of the main definition, in all its graphs, beyond which no block is begun.
const MOST_NODES: u32 = 28;

/// What documents may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// The order of events does not matter.
    Confluent,
    /// It does.
    Racy,
}

/// A signal that is sent to an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// When, in virtual milliseconds from the start.
    pub at_ms: u64,
    /// Its name.
    pub name: String,
    /// What comes with it.
    pub payload: Value,
}

/// Workflows and one way to run the main one.
#[derive(Debug, Clone)]
pub struct Case {
    /// Where it comes from; also what the workers' answers are drawn from.
    pub seed: u64,
    /// Whether the order of events matters.
    pub flavour: Flavour,
    /// Documents by name: `main`, and those that it uses.
    pub workflows: BTreeMap<String, Value>,
    /// What `main` is started with.
    pub input: Value,
    /// Sent to it, in this order.
    pub signals: Vec<Signal>,
}

/// What is drawn from while a document is made.
pub(crate) struct Generator {
    pub(crate) random: Random,
    pub(crate) flavour: Flavour,
    /// Nodes that may still be made.
    pub(crate) budget: u32,
    /// Numbers node ids, so that no graph hides a node of one around it.
    pub(crate) ids: u32,
    /// Names of workflows that may be used.
    pub(crate) children: Vec<String>,
    /// Whether waits may be made: children get no signals.
    pub(crate) waits: bool,
}

/// The case of a seed.
///
/// # Panics
///
/// If a document is not valid: then the generator is wrong, or the format refuses what it should accept.
pub fn case(seed: u64, flavour: Flavour) -> Case {
    let mut random = Random::new(seed);
    let mut workflows = BTreeMap::new();
    let mut children = Vec::new();
    for number in 0..random.below(3) {
        let name = format!("child_{number}");
        let document = document(&mut random, &name, flavour, &children, 6);
        workflows.insert(name.clone(), document);
        children.push(name);
    }
    let size = 3 + random.below(u64::from(MOST_NODES)) as u32;
    let main = document(&mut random, "main", flavour, &children, size);
    workflows.insert("main".to_owned(), main);
    let input = input(&mut random);
    let signals = signals(&mut random);
    Case { seed, flavour, workflows, input, signals }
}

fn document(random: &mut Random, name: &str, flavour: Flavour, children: &[String], budget: u32) -> Value {
    let mut generator = Generator {
        random: random.split(),
        flavour,
        budget,
        ids: 0,
        children: children.to_vec(),
        waits: name == "main",
    };
    let (nodes, edges) = GraphBuilder::top(&mut generator).build();
    let document = json!({"name": name, "nodes": nodes, "edges": edges});
    if let Err(problems) = Definition::parse(&document) {
        panic!("the generator made a document that is not valid: {problems:#?}\n{document:#}");
    }
    document
}

fn input(random: &mut Random) -> Value {
    let items: Vec<u64> = (0..random.below(4)).map(|_| random.below(10)).collect();
    let map: Map<String, Value> =
        (0..random.below(3)).map(|key| (format!("k{key}"), json!(random.below(10)))).collect();
    json!({"n": random.below(10), "flag": random.chance(50), "items": items, "map": map})
}

fn signals(random: &mut Random) -> Vec<Signal> {
    let mut names: Vec<&str> = SIGNALS.iter().flat_map(|name| [*name; SIGNALS_EACH]).collect();
    for at in (1..names.len()).rev() {
        names.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut at_ms = 0;
    let mut signals = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        at_ms += random.below(6_000);
        signals.push(Signal { at_ms, name: name.to_owned(), payload: json!(number) });
    }
    signals
}
