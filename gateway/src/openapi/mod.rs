//! The OpenAPI 3.1 document: its head, and what is true of every operation.
//!
//! ```text
//!   routes' attributes ─► paths, parameters, bodies, 2xx ─┐
//!   operations/*.json  ─► ids, examples, codes of its own ─┼─► complete() ─► /api/v1/openapi.json, docs/openapi.json
//!   access::RULES      ─► credentials, 401, 403 ───────────┘
//! ```
//!
//! Owns: which statuses an operation can answer, each with its codes (`x-codes`). Invariants, held by tests: every
//! operation has a row of the table; an operation has no `default` answer, so that a status that is not written down
//! is a defect (the gateway's tests look for one in everything that they ask). Deliberately absent: the shapes
//! themselves ([`crate::schemas`]).

mod answers;
mod codes;
mod operations;
mod parameters;
mod schemas;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::access::{RULES, Rule};

use operations::Row;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Everline",
        description = "Everline's HTTP API. Errors are `application/problem+json` (RFC 9457) with a stable `code`; each answer names in `x-codes` the codes that it can carry, and `/docs/errors/{code}` says what to do."
    ),
    components(schemas(crate::schemas::Problem, crate::schemas::FieldProblem, crate::schemas::Event))
)]
struct Head;

/// The methods that an item of the document can have.
pub(crate) const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// The document before its paths.
pub(crate) fn head() -> OpenApi {
    let mut document = Head::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.license = None;
    document
}

/// The whole document.
pub(crate) fn complete(document: &OpenApi) -> Value {
    let mut document = serde_json::to_value(document).expect("an OpenAPI document is plain data");
    document["servers"] = json!([{ "url": "/" }]);
    let mut tags = std::collections::BTreeSet::new();
    let mut bodies = std::collections::BTreeSet::new();
    let paths = document["paths"].as_object_mut().expect("a document has paths");
    for (path, item) in paths {
        for method in METHODS {
            let Some(operation) = item.get_mut(method).and_then(Value::as_object_mut) else { continue };
            complete_operation(&Place { method, path }, operation);
            tags.extend(operation["tags"].as_array().into_iter().flatten().map(Value::to_string));
            bodies.extend(schemas::body_of(operation));
        }
    }
    let tags = tags.iter().filter_map(|tag| serde_json::from_str::<Value>(tag).ok());
    document["tags"] = tags.map(|name| json!({ "name": name })).collect();
    let components = document["components"].as_object_mut().expect("the head has components");
    components.insert("securitySchemes".to_owned(), security_schemes());
    components.insert("headers".to_owned(), answers::headers());
    if let Some(all) = components.get_mut("schemas").and_then(Value::as_object_mut) {
        schemas::close_bodies(all, bodies);
    }
    document
}

/// Where an operation stands.
pub(crate) struct Place<'a> {
    /// In lower case.
    pub(crate) method: &'static str,
    /// With its parameters in braces.
    pub(crate) path: &'a str,
}

impl Place<'_> {
    /// What it needs; nothing is known of a route without a rule, and nobody may use it.
    fn rule(&self) -> Option<Rule> {
        let found =
            RULES.iter().find(|(verb, path, _)| verb.eq_ignore_ascii_case(self.method) && *path == self.path);
        found.map(|(_, _, rule)| *rule)
    }

    fn is_public(&self) -> bool {
        self.rule() == Some(Rule::Public)
    }

    fn is_read(&self) -> bool {
        self.method == "get"
    }
}

fn complete_operation(place: &Place<'_>, operation: &mut Map<String, Value>) {
    let row = Row::of(place);
    operation.insert("operationId".to_owned(), Value::from(row.id.clone()));
    summarize(operation);
    let needs = if place.is_public() { json!([{}]) } else { json!([{ "bearer": [] }]) };
    operation.insert("security".to_owned(), needs);
    if let Some(Rule::Needs(permission)) = place.rule() {
        operation.insert("x-permission".to_owned(), Value::from(permission.as_str()));
    }
    parameters::complete(place, &row, operation);
    schemas::complete_body(&row, operation);
    answers::complete(place, &row, operation);
}

/// The first sentence is the summary, on one line; what follows is the description.
fn summarize(operation: &mut Map<String, Value>) {
    let mut text = operation.remove("summary").and_then(|text| Some(text.as_str()?.replace('\n', " ")));
    let rest = operation.remove("description").and_then(|text| Some(text.as_str()?.to_owned()));
    if let Some(rest) = rest {
        let text = text.get_or_insert_default();
        text.push_str(if text.is_empty() { "" } else { "\n\n" });
        text.push_str(&rest);
    }
    let text = text.unwrap_or_default();
    let end = text.find([';', '\n']).into_iter().chain(text.find(". ")).chain(text.find(": ")).min();
    let summary = end.map_or(text.as_str(), |end| &text[..end]).trim_end_matches(['.', ':', ';']);
    operation.insert("summary".to_owned(), Value::from(summary));
    if text.trim_end_matches('.') != summary {
        operation.insert("description".to_owned(), Value::from(text));
    }
}

fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`evl_…`) or an access token.",
        },
    })
}
