//! `http_request`: a call to an HTTP server, carried out by a worker. Here: its configuration.

use serde_json::Value;

use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::workflow::definition::{Reader, shown};

use super::{Step, StepError};

/// How long one attempt may take where the node does not say, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: u64 = 30_000;

/// The largest response that a node may ask for, in bytes.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024 * 1024;

/// The methods that a node may use.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// `method`, `url`, `query`, `headers`, `body`, `auth`, `follow_redirects`, `max_response_bytes`.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    config: Template,
}

impl HttpRequest {
    pub(super) fn parse(mut reader: Reader<'_, '_>, config: &Value) -> Option<Self> {
        if let Some(method) = reader.text("method")
            && !method.contains("{{")
            && !METHODS.contains(&method.to_ascii_uppercase().as_str())
        {
            reader.report("method", "invalid_value", format!("use one of {}", METHODS.join(", ")));
        }
        if let Some(url) = reader.required_text("url")
            && !url.starts_with("http://")
            && !url.starts_with("https://")
            && !url.trim_start().starts_with("{{")
        {
            reader.report(
                "url",
                "invalid_value",
                "a URL starts with http:// or https://, or with a template",
            );
        }
        for field in ["query", "headers"] {
            check_fields(&mut reader, field);
        }
        reader.optional("body");
        check_auth(&mut reader);
        reader.flag("follow_redirects");
        reader.number("max_response_bytes", 1, MAX_RESPONSE_BYTES);
        let template = reader.template("", config, Credentials::Allowed);
        reader.finish();
        Some(Self { config: template? })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        self.config.render(scope, fuel).map(Step::Schedule).map_err(|e| StepError::render("", e))
    }

    pub(super) fn references(&self) -> References {
        self.config.references()
    }
}

/// `query` and `headers` are objects of plain values, or a template that gives one.
fn check_fields(reader: &mut Reader<'_, '_>, field: &'static str) {
    match reader.optional(field) {
        None | Some(Value::String(_)) => {}
        Some(Value::Object(fields)) => {
            for (name, value) in fields {
                if value.is_object() || (value.is_array() && field == "headers") {
                    reader.report(
                        field,
                        "wrong_type",
                        format!("`{}` must be a string, number or boolean", shown(name)),
                    );
                }
            }
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            reader.report(field, "wrong_type", "expected an object of names and values");
        }
    }
}

/// `auth`: `{"type": "basic", "username", "password"}` or `{"type": "bearer", "token"}`.
fn check_auth(reader: &mut Reader<'_, '_>) {
    let Some(value) = reader.optional("auth") else { return };
    let pointer = reader.pointer_of("auth");
    let Some(mut auth) = Reader::open(value, &pointer, reader.problems()) else { return };
    match auth.required_text("type") {
        Some("basic") => {
            auth.required_text("username");
            auth.required_text("password");
        }
        Some("bearer") => {
            auth.required_text("token");
        }
        Some(_) => auth.report("type", "invalid_value", "use basic or bearer"),
        None => {}
    }
    auth.finish();
}
