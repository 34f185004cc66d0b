//! The table of operations: what cannot be read from a route's code.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use super::Place;

/// The table's parts, by area. A row's key is `METHOD /path`.
const PARTS: [&str; 6] = [
    include_str!("operations/identity.json"),
    include_str!("operations/auth.json"),
    include_str!("operations/login.json"),
    include_str!("operations/workflows.json"),
    include_str!("operations/executions.json"),
    include_str!("operations/rest.json"),
];

static TABLE: LazyLock<HashMap<String, Row>> = LazyLock::new(|| {
    let parts = PARTS.into_iter().map(|part| {
        serde_json::from_str::<HashMap<String, Row>>(part).expect("a test reads every part of the table")
    });
    parts.flatten().collect()
});

/// What is known of one operation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Row {
    /// Its `operationId`.
    pub(super) id: String,
    /// Codes of its own: a code of the gateway, or `409 code` for one of a decider.
    pub(super) codes: Vec<String>,
    /// A body as an example.
    pub(super) request: Option<Value>,
    /// Answers as examples, by status.
    pub(super) answers: BTreeMap<String, Value>,
    /// Answers carry an `ETag`.
    pub(super) etag: bool,
    /// It takes `If-None-Match` and can answer 304.
    pub(super) conditional: bool,
    /// It takes `If-Match`: `required` or `optional`.
    pub(super) if_match: Option<String>,
    /// The answer has a `Location`.
    pub(super) location: bool,
    /// It takes `Everline-Min-Position`.
    pub(super) fresh: bool,
    /// It takes `Prefer`.
    pub(super) prefer: bool,
    /// A `POST` that changes nothing: it takes no `Idempotency-Key`.
    pub(super) reads: bool,
    /// Any JSON is a body, also none.
    pub(super) any_body: bool,
    /// It holds a place among the open streams.
    pub(super) stream: bool,
    /// It is answered however much there is to do.
    pub(super) health: bool,
}

impl Row {
    /// The row of an operation. One that is not in the table gets a name from its path, so that a document can be made;
    /// a test refuses it.
    pub(super) fn of(place: &Place<'_>) -> Self {
        TABLE.get(&key(place)).cloned().unwrap_or_else(|| {
            let words = place.path.trim_start_matches("/api/v1").replace(['{', '}', '.'], "");
            let words = words.replace(['/', '-'], "_");
            Self { id: format!("{}{words}", place.method), ..Self::default() }
        })
    }

    /// Whether an operation has one.
    #[cfg(test)]
    pub(super) fn exists(place: &Place<'_>) -> bool {
        TABLE.contains_key(&key(place))
    }

    /// Every row with its key.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = (&'static String, &'static Self)> {
        TABLE.iter()
    }

    /// Whether it is a command: it may carry an `Idempotency-Key` and answers with a position.
    pub(super) fn is_command(&self, place: &Place<'_>) -> bool {
        let session = place.path.starts_with("/api/v1/auth/");
        !place.is_read() && !self.reads && !session && !place.is_public()
    }
}

fn key(place: &Place<'_>) -> String {
    format!("{} {}", place.method.to_ascii_uppercase(), place.path)
}

/// Whether an operation has a body.
pub(super) fn has_body(operation: &Map<String, Value>) -> bool {
    operation.contains_key("requestBody")
}
