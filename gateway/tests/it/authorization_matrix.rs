//! THE MATRIX: every route × every kind of caller × whose the thing is, and what must come of it.
//!
//! A row's marks stand for the callers [`ADMIN`, `USER`, `VIEWER`, a custom role that reads everything, a key of the
//! USER for `workflow:read` alone]; each has five letters, for a thing of the caller's own, of another user of the
//! tenant, of another who shares it for reading, of another who shares it for executing, and of another tenant:
//! `y` admitted (also if the thing's state then says no), `n` 403, `-` 404. A single letter stands for routes without a
//! thing. The table is written down, not derived from the rules that it holds.

mod cells;
mod messages;
mod world;

use gateway::{Guard, RULES, Rule};
use serde_json::Value;
use std::collections::BTreeSet;

use cells::{Cell, Mark, cells_of};
use world::World;

/// What needs one route: method, route, marks.
type Row = (&'static str, &'static str, [&'static str; 5]);

/// Reads of things that can be shared.
const READ: [&str; 5] = ["yyyy-", "ynyy-", "ynyy-", "yyyy-", "ynyy-"];
/// Reads of executions: the key is for workflows.
const READ_EXECUTION: [&str; 5] = ["yyyy-", "ynyy-", "ynyy-", "yyyy-", "nnnnn"];
/// Changes of what is the caller's own.
const OWN: [&str; 5] = ["yyyy-", "ynnn-", "nnnnn", "nnnnn", "nnnnn"];
/// For administrators alone.
const ADMIN: [&str; 5] = ["yyyy-", "nnnnn", "nnnnn", "nnnnn", "nnnnn"];
/// What has no thing: for administrators; for all but some.
const ADMIN_ALL: [&str; 5] = ["y", "n", "n", "n", "n"];
const ANYBODY: [&str; 5] = ["y", "y", "y", "y", "y"];
/// For operators of the installation alone, of whom the ADMIN here is none.
const OPERATOR: [&str; 5] = ["n", "n", "n", "n", "n"];
/// A caller's own keys.
const KEYS: [&str; 5] = ["yyyy-", "ynnn-", "ynnn-", "nnnnn", "nnnnn"];

#[rustfmt::skip]
const MATRIX: &[Row] = &[
    ("GET", "/api/v1/permissions", ANYBODY),
    ("GET", "/api/v1/auth/me", ANYBODY),
    ("GET", "/api/v1/users", ADMIN_ALL),
    ("POST", "/api/v1/users", ADMIN_ALL),
    ("GET", "/api/v1/users/{id}", ADMIN),
    ("PUT", "/api/v1/users/{id}", ADMIN),
    ("DELETE", "/api/v1/users/{id}", ADMIN),
    ("POST", "/api/v1/users/{id}/disable", ADMIN),
    ("POST", "/api/v1/users/{id}/enable", ADMIN),
    ("POST", "/api/v1/users/{id}/invite", ADMIN),
    ("POST", "/api/v1/users/{id}/reset-password", ADMIN),
    ("GET", "/api/v1/roles", ADMIN_ALL),
    ("POST", "/api/v1/roles", ADMIN_ALL),
    ("GET", "/api/v1/roles/{name}", ADMIN_ALL),
    ("PUT", "/api/v1/roles/{name}", ADMIN_ALL),
    ("DELETE", "/api/v1/roles/{name}", ADMIN_ALL),
    ("GET", "/api/v1/api-keys", ["y", "y", "y", "n", "n"]),
    ("POST", "/api/v1/api-keys", ["y", "y", "y", "n", "n"]),
    ("GET", "/api/v1/api-keys/{id}", KEYS),
    ("DELETE", "/api/v1/api-keys/{id}", KEYS),
    ("GET", "/api/v1/tenant", ADMIN_ALL),
    ("PUT", "/api/v1/tenant", ADMIN_ALL),
    ("GET", "/api/v1/tenants", OPERATOR),
    ("POST", "/api/v1/tenants", OPERATOR),
    ("GET", "/api/v1/tenants/{slug}", OPERATOR),
    ("PUT", "/api/v1/tenants/{slug}", OPERATOR),
    ("POST", "/api/v1/tenants/{slug}/suspend", OPERATOR),
    ("POST", "/api/v1/tenants/{slug}/resume", OPERATOR),
    ("POST", "/api/v1/workflows", ["y", "y", "n", "n", "n"]),
    ("GET", "/api/v1/workflows", ANYBODY),
    ("POST", "/api/v1/workflows/validate", ["y", "y", "y", "n", "n"]),
    ("GET", "/api/v1/workflows/{id}", READ),
    ("PUT", "/api/v1/workflows/{id}", OWN),
    ("DELETE", "/api/v1/workflows/{id}", OWN),
    ("POST", "/api/v1/workflows/{id}/publish", OWN),
    ("POST", "/api/v1/workflows/{id}/enable", OWN),
    ("POST", "/api/v1/workflows/{id}/disable", OWN),
    ("POST", "/api/v1/workflows/{id}/restore", OWN),
    ("POST", "/api/v1/workflows/{id}/share", OWN),
    ("GET", "/api/v1/workflows/{id}/versions", READ),
    ("GET", "/api/v1/workflows/{id}/versions/{v}", READ),
    ("POST", "/api/v1/workflows/{id}/execute", ["yyyy-", "ynny-", "nnnnn", "nnnnn", "nnnnn"]),
    ("GET", "/api/v1/executions", ["y", "y", "y", "y", "n"]),
    ("GET", "/api/v1/executions/{id}", READ_EXECUTION),
    ("GET", "/api/v1/executions/{id}/events", READ_EXECUTION),
    ("GET", "/api/v1/executions/{id}/state", READ_EXECUTION),
    ("GET", "/api/v1/executions/{id}/diff", READ_EXECUTION),
    ("GET", "/api/v1/executions/{id}/diff/{other}", READ_EXECUTION),
    ("GET", "/api/v1/executions/{id}/nodes", READ_EXECUTION),
    ("GET", "/api/v1/executions/{id}/stream", READ_EXECUTION),
    ("POST", "/api/v1/executions/{id}/cancel", OWN),
    ("POST", "/api/v1/executions/{id}/terminate", OWN),
    ("POST", "/api/v1/executions/{id}/pause", OWN),
    ("POST", "/api/v1/executions/{id}/resume", OWN),
    ("POST", "/api/v1/executions/{id}/retry", OWN),
    ("POST", "/api/v1/executions/{id}/fork", OWN),
    ("POST", "/api/v1/executions/{id}/signals/{name}", OWN),
    ("GET", "/api/v1/dead-letters", ["y", "y", "y", "y", "n"]),
    ("GET", "/api/v1/dead-letters/{id}", READ_EXECUTION),
    ("POST", "/api/v1/dead-letters/{id}/redrive", OWN),
    ("POST", "/api/v1/dead-letters/redrive", ["y", "y", "n", "n", "n"]),
    ("GET", "/api/v1/events", ADMIN_ALL),
    ("GET", "/api/v1/events/stream", ADMIN_ALL),
    ("POST", "/api/v1/filters/evaluate", ["y", "y", "y", "n", "n"]),
    ("POST", "/api/v1/expressions/evaluate", ["y", "y", "y", "n", "n"]),
    ("GET", "/api/v1/variables", ["y", "y", "n", "n", "n"]),
    ("POST", "/api/v1/variables", ADMIN_ALL),
    ("GET", "/api/v1/variables/{name}", ["y", "y", "n", "n", "n"]),
    ("PUT", "/api/v1/variables/{name}", ADMIN_ALL),
    ("DELETE", "/api/v1/variables/{name}", ADMIN_ALL),
    ("GET", "/api/v1/node-types", ["y", "y", "y", "n", "n"]),
];

/// Routes that are tried elsewhere: sessions of their caller alone, the WebSocket below, and areas with a table of
/// their own.
fn is_elsewhere(route: &str) -> bool {
    let areas = ["/api/v1/auth/", "/api/v1/ws", "/api/v1/audit", "/api/v1/executions/bulk"];
    areas.iter().any(|area| route.starts_with(area))
}

fn routes() -> BTreeSet<(String, String)> {
    let document: Value = serde_json::from_slice(&gateway::openapi_document()).expect("JSON");
    let mut routes = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            if ["get", "put", "post", "delete", "patch"].contains(&method.as_str()) {
                routes.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    routes
}

#[test]
fn every_route_has_a_rule_and_every_closed_one_a_row() {
    let rows: BTreeSet<_> = MATRIX.iter().map(|(method, route, _)| (*method, *route)).collect();
    for (method, route) in routes() {
        let rule = RULES.iter().find(|(verb, path, _)| *verb == method && *path == route);
        let (_, _, rule) = rule.unwrap_or_else(|| panic!("{method} {route} has no rule"));
        if *rule != Rule::Public && !is_elsewhere(&route) {
            assert!(rows.contains(&(&*method, &*route)), "{method} {route} has no row in the matrix");
        }
    }
    for (method, route) in rows {
        assert!(routes().contains(&(method.to_owned(), route.to_owned())), "there is no {method} {route}");
    }
}

/// What a cell gave, if that is not what its mark says.
async fn mismatch(world: &World, cell: &Cell) -> Option<String> {
    let status = world.ask(cell).await;
    (!cell.mark.admits(status)).then(|| format!("{cell:?}: {status}"))
}

#[tokio::test]
async fn every_caller_gets_what_the_matrix_says() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for row in MATRIX {
        for cell in cells_of(row) {
            wrong.extend(mismatch(&world, &cell).await);
        }
    }
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every guard is taken away in turn; a matrix that does not notice would hold nothing.
#[tokio::test]
async fn a_guard_that_is_away_is_noticed() {
    let world = World::new().await;
    let mut unnoticed = Vec::new();
    for row in MATRIX {
        let (method, route, _) = row;
        let cells = cells_of(row);
        for guard in [Guard::Rule, Guard::Judgement] {
            // Denied for lack of a permission, or because of whose the thing is.
            let guarded = |cell: &&Cell| cell.mark == Mark::Forbidden && cell.is_gated(row) == (guard == Guard::Rule);
            let Some(cell) = cells.iter().find(guarded) else { continue };
            world.harness.weakness.set(guard, method, route);
            if mismatch(&world, cell).await.is_none() {
                unnoticed.push(format!("{guard:?} of {method} {route}, by {cell:?}"));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}
