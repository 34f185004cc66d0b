//! Which problems an operation can answer.

use http::StatusCode;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use super::operations::{Row, has_body};
use super::parameters::has_parameter;
use crate::access::Rule;
use crate::status::{self, CODES, ErrorCode};

/// Codes by status.
pub(super) type Codes = BTreeMap<u16, BTreeSet<String>>;

/// Every code that an operation can answer, by its status.
pub(super) fn of(place: &Place<'_>, row: &Row, operation: &Map<String, Value>) -> Codes {
    let mut found = Codes::new();
    add(&mut found, &[status::INTERNAL]);
    if !row.health {
        add(&mut found, &[status::OVERLOADED, status::RATE_LIMITED, status::REQUEST_TOOK_TOO_LONG]);
    }
    of_caller(place, &mut found);
    of_parameters(place, operation, &mut found);
    if has_body(operation) {
        let body = [
            status::INVALID_JSON,
            status::INVALID_UTF8,
            status::BAD_REQUEST,
            status::INVALID_PARAMETER,
            status::REQUEST_TIMEOUT,
            status::BODY_TOO_LARGE,
            status::UNSUPPORTED_MEDIA_TYPE,
        ];
        add(&mut found, &body);
        if !row.any_body {
            add(&mut found, &[status::INVALID_BODY]);
        }
    }
    if row.is_command(place) {
        let command = [
            status::INVALID_PARAMETER,
            status::INVALID_IDEMPOTENCY_KEY,
            status::IDEMPOTENCY_KEY_REUSED,
            status::COMMAND_UNDECIDED,
        ];
        add(&mut found, &command);
        named(&mut found, "413 append_too_large");
        named(&mut found, "413 command_too_large");
    }
    match row.if_match.as_deref() {
        Some("required") => {
            add(
                &mut found,
                &[status::INVALID_HEADER, status::VERSION_MISMATCH, status::PRECONDITION_REQUIRED],
            );
        }
        Some(_) => add(&mut found, &[status::INVALID_HEADER, status::VERSION_MISMATCH]),
        None => {}
    }
    row.codes.iter().for_each(|code| named(&mut found, code));
    found
}

fn of_caller(place: &Place<'_>, found: &mut Codes) {
    match place.rule() {
        Some(Rule::Public) => {}
        Some(Rule::Recognised) => add(found, &[status::UNAUTHENTICATED, status::STORE_UNAVAILABLE]),
        Some(Rule::Needs(_)) | None => {
            add(found, &[status::UNAUTHENTICATED, status::FORBIDDEN, status::STORE_UNAVAILABLE]);
        }
    }
    if !place.is_public() && (!place.is_read() || place.path == "/api/v1/ws") {
        // Of callers with a cookie.
        add(found, &[status::CSRF_FAILED]);
    }
    if place.path.starts_with("/api/v1/auth/") {
        add(found, &[status::STORE_UNAVAILABLE]);
    }
}

fn of_parameters(place: &Place<'_>, operation: &Map<String, Value>, found: &mut Codes) {
    let api = place.path.starts_with("/api/v1/") && place.path != "/api/v1/openapi.json";
    if api && place.is_read() {
        add(found, &[status::INVALID_PARAMETER, status::INVALID_UTF8]);
    }
    if place.path.contains('{') {
        add(found, &[status::INVALID_UTF8]);
    }
    if has_parameter(operation, "cursor") {
        add(found, &[status::INVALID_CURSOR]);
    }
    if has_parameter(operation, "Everline-Min-Position") {
        add(found, &[status::INVALID_POSITION, status::INVALID_HEADER, status::READ_MODEL_BEHIND]);
    }
    if has_parameter(operation, "Last-Event-ID") {
        add(found, &[status::INVALID_HEADER]);
    }
}

fn add(found: &mut Codes, codes: &[ErrorCode]) {
    for code in codes {
        found.entry(code.status.as_u16()).or_default().insert(code.code.to_owned());
    }
}

/// A code as the table names it. One that is neither ours nor has a status is refused by a test.
fn named(found: &mut Codes, text: &str) {
    if let Some((status, code)) = parse(text) {
        found.entry(status.as_u16()).or_default().insert(code.to_owned());
    }
}

/// `409 code`, or a code of the gateway, whose status is known.
pub(super) fn parse(text: &str) -> Option<(StatusCode, &str)> {
    match text.split_once(' ') {
        Some((status, code)) => Some((status.parse().ok()?, code)),
        None => CODES.iter().find(|known| known.code == text).map(|known| (known.status, text)),
    }
}
