//! Who may depend on whom: a table, compared with what `cargo metadata` says.
//!
//! Invariant: a crate that is not in the table is refused, so a new one is placed deliberately.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Stdio;

use crate::{tools, workspace};

/// Crates that import at most the domain.
const LEAVES: &[&str] = &["event-store", "read-models", "bus", "sandbox"];
/// What a service may import: the leaves and the domain, never another service.
const SERVICE_IMPORTS: &[&str] = &["domain", "event-store", "read-models", "bus", "sandbox"];
/// Each crate and the crates of ours that it may import.
const TABLE: &[(&str, Imports)] = &[
    ("domain", Imports::Only(&[])),
    ("event-store", Imports::Only(&["domain"])),
    ("read-models", Imports::Only(&["domain"])),
    ("bus", Imports::Only(&["domain"])),
    ("sandbox", Imports::Only(&["domain"])),
    ("command-service", Imports::Only(SERVICE_IMPORTS)),
    ("projection-service", Imports::Only(SERVICE_IMPORTS)),
    ("agents", Imports::Only(SERVICE_IMPORTS)),
    ("gateway", Imports::Only(SERVICE_IMPORTS)),
    ("server", Imports::Any),
    ("testkit", Imports::Any),
    ("test-services", Imports::Only(&[])),
    ("simulation", Imports::Only(&["domain"])),
    ("bench", Imports::Any),
    ("xtask", Imports::Only(&[])),
];
/// What tests may use besides, in every crate but the domain.
const TESTS_MAY_IMPORT: &[&str] = &["testkit", "test-services"];
/// The crate that is SQL, and who may write SQL. `bench` compares the log with a bare insert.
const SQL: (&str, &[&str]) = ("sqlx", &["event-store", "read-models", "bench"]);
/// What would give the domain I/O, a clock, randomness or async.
const IMPURE: &[&str] =
    &["axum", "chrono", "futures", "getrandom", "rand", "reqwest", "sqlx", "tokio", "tokio-util", "tracing"];

/// Which crates of ours a crate may import.
#[derive(Debug, Clone, Copy)]
enum Imports {
    /// These.
    Only(&'static [&'static str]),
    /// All of them: it wires or measures the whole.
    Any,
}

/// A dependency of a workspace crate, as its manifest states it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    /// Used by tests, examples and benches only.
    dev: bool,
}

/// The offending edges of the real workspace, in words.
pub(crate) fn check_workspace() -> Result<Vec<String>> {
    let mut cargo = tools::cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = cargo.current_dir(workspace()?).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let (crates, edges) = read(&metadata)?;
    Ok(violations(&crates, &edges))
}

/// The workspace's crates and their dependencies.
fn read(metadata: &Value) -> Result<(BTreeSet<String>, Vec<Edge>)> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut crates = BTreeSet::new();
    let mut edges = Vec::new();
    for package in packages {
        let from = package["name"].as_str().context("a package has no name")?;
        crates.insert(from.to_owned());
        for dependency in package["dependencies"].as_array().context("a package has no dependencies")? {
            let to = dependency["name"].as_str().context("a dependency has no name")?;
            let dev = dependency["kind"] == "dev";
            edges.push(Edge { from: from.to_owned(), to: to.to_owned(), dev });
        }
    }
    Ok((crates, edges))
}

/// Every edge that the table does not allow, and every crate that is not in it.
fn violations(crates: &BTreeSet<String>, edges: &[Edge]) -> Vec<String> {
    let missing = crates.iter().filter(|name| imports_of(name).is_none());
    let mut found: Vec<String> = missing
        .map(|name| format!("crate `{name}` is not in the table of xtask/src/layers.rs; give it a layer"))
        .collect();
    found.extend(edges.iter().filter_map(|edge| refuse(edge, crates)));
    found
}

fn imports_of(name: &str) -> Option<Imports> {
    TABLE.iter().find(|(row, _)| *row == name).map(|(_, imports)| *imports)
}

fn refuse(edge: &Edge, crates: &BTreeSet<String>) -> Option<String> {
    let (from, to) = (edge.from.as_str(), edge.to.as_str());
    if from == to {
        // A crate's tests may turn on features of the crate itself.
        return None;
    }
    if !crates.contains(to) {
        return refuse_foreign(edge);
    }
    let allowed = match imports_of(from)? {
        Imports::Any => return None,
        Imports::Only(allowed) => allowed,
    };
    let for_tests = edge.dev && from != "domain" && TESTS_MAY_IMPORT.contains(&to);
    if allowed.contains(&to) || for_tests {
        return None;
    }
    let why = match from {
        "domain" | "xtask" => "it imports nothing of ours".to_owned(),
        leaf if LEAVES.contains(&leaf) => "a leaf imports at most domain".to_owned(),
        _ => format!("a service imports only {}", allowed.join(", ")),
    };
    Some(format!("`{from}` must not depend on `{to}`: {why}"))
}

fn refuse_foreign(edge: &Edge) -> Option<String> {
    let (from, to) = (edge.from.as_str(), edge.to.as_str());
    let (sql, writers) = SQL;
    if to == sql && !edge.dev && !writers.contains(&from) {
        return Some(format!("`{from}` must not depend on `{sql}`: SQL is in {} only", writers.join(", ")));
    }
    if from == "domain" && IMPURE.contains(&to) {
        return Some(format!(
            "`domain` must not depend on `{to}`: it has no I/O, clock, randomness or async"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edges: &[(&str, &str, bool)]) -> Vec<String> {
        let crates = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
        let edges: Vec<_> = edges
            .iter()
            .map(|(from, to, dev)| Edge { from: (*from).to_owned(), to: (*to).to_owned(), dev: *dev })
            .collect();
        violations(&crates, &edges)
    }

    #[test]
    fn the_workspace_follows_the_table() {
        assert_eq!(check_workspace().expect("cargo metadata runs"), Vec::<String>::new());
    }

    #[test]
    fn a_service_that_imports_a_service_is_named_with_the_edge() {
        let found = check(&[("gateway", "domain", false), ("gateway", "command-service", false)]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("`gateway` must not depend on `command-service`"), "{found:?}");
    }

    #[test]
    fn a_leaf_imports_no_leaf_and_the_domain_imports_nothing() {
        let found =
            check(&[("bus", "event-store", false), ("domain", "bus", false), ("domain", "testkit", true)]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn tests_of_a_leaf_or_service_may_use_the_testkit_and_the_crate_itself_may_not() {
        assert!(check(&[("agents", "testkit", true), ("event-store", "testkit", true)]).is_empty());
        assert_eq!(check(&[("agents", "testkit", false)]).len(), 1);
    }

    #[test]
    fn a_dev_dependency_on_another_service_is_refused_too() {
        assert_eq!(check(&[("gateway", "projection-service", true)]).len(), 1);
    }

    #[test]
    fn the_server_the_testkit_and_the_benchmarks_see_all() {
        let all =
            [("server", "gateway", false), ("testkit", "event-store", false), ("bench", "server", false)];
        assert!(check(&all).is_empty());
    }

    #[test]
    fn sql_outside_its_crates_and_a_runtime_in_the_domain_are_refused() {
        let found = check(&[("gateway", "sqlx", false), ("domain", "tokio", false), ("bus", "tokio", false)]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_refused() {
        let crates = BTreeSet::from(["domain".to_owned(), "helpers".to_owned()]);
        let found = violations(&crates, &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("`helpers`"), "{found:?}");
    }

    #[test]
    fn edges_are_read_from_the_metadata_with_their_kind() {
        let metadata = serde_json::json!({"packages": [{"name": "bus", "dependencies": [
            {"name": "domain", "kind": null}, {"name": "testkit", "kind": "dev"},
        ]}]});
        let (crates, edges) = read(&metadata).expect("well-formed");
        assert_eq!(crates.len(), 1);
        assert_eq!(edges.iter().map(|edge| edge.dev).collect::<Vec<_>>(), [false, true]);
    }
}
