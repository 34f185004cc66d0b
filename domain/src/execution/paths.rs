//! Paths: `fetch`, `loop/3/fetch`, `par/0/fetch`. A scope's path is the empty text, or a container's path and a number.

use std::sync::Arc;

/// The path of the scope that a node is in.
pub fn scope_of(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at])
}

/// The id of a node: the last segment of its path.
pub fn id_of(path: &str) -> &str {
    path.rfind('/').map_or(path, |at| &path[at + 1..])
}

/// The path of a node in a scope.
pub fn join(scope: &str, id: &str) -> Arc<str> {
    if scope.is_empty() { Arc::from(id) } else { Arc::from(format!("{scope}/{id}")) }
}

/// The path of an iteration or branch of a container.
pub fn scope_at(container: &str, index: u32) -> Arc<str> {
    Arc::from(format!("{container}/{index}"))
}

/// The container and the number of a scope; `None` for the whole graph.
pub fn container_of(scope: &str) -> Option<(&str, u32)> {
    let (container, index) = scope.rsplit_once('/')?;
    Some((container, index.parse().ok()?))
}

/// Whether a path lies inside a container, at any depth.
pub fn is_inside(path: &str, container: &str) -> bool {
    path.strip_prefix(container).is_some_and(|rest| rest.starts_with('/'))
}
