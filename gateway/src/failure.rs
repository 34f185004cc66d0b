//! Failures of requests, and how they are written: `application/problem+json` (RFC 9457).
//!
//! A handler answers a [`Failure`]; it travels in the response's extensions to the outermost middleware,
//! which alone knows the request's path and trace id and writes the body there. So every error has one shape.

use axum::response::{IntoResponse, Response};
use bus::CommandError;
use domain::rejection::{Problem, Rejection};
use event_store::log::StoreError;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;

use crate::limits::Standing;
use crate::status::{self, ErrorCode};

/// Why a request was not carried out.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) code: Cow<'static, str>,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    pub(crate) errors: Vec<Problem>,
    retry_after_s: Option<u64>,
    /// Behind a pointer: failures are returned everywhere.
    standing: Option<Box<Standing>>,
    /// The audit knows of it.
    noted: bool,
}

/// The body of a problem.
#[derive(Serialize)]
pub(crate) struct ProblemBody<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    code: &'a str,
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    errors: &'a [Problem],
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

impl Failure {
    /// A failure with a code of the gateway.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            status: code.status,
            code: Cow::Borrowed(code.code),
            title: code.title,
            detail: detail.into(),
            errors: Vec::new(),
            // Whoever is told to come back later is told when.
            retry_after_s: (code.status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
            standing: None,
            noted: false,
        }
    }

    /// With single defects of what was sent.
    pub(crate) fn with_errors(mut self, errors: Vec<Problem>) -> Self {
        self.errors = errors;
        self
    }

    /// With the seconds after which another try can help.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// With what is left of the limit that refused.
    pub(crate) fn with_standing(mut self, standing: Standing) -> Self {
        self.standing = Some(Box::new(standing));
        self
    }

    /// The audit has an entry for it already, so the gate writes none.
    #[must_use]
    pub(crate) fn noted(mut self) -> Self {
        self.noted = true;
        self
    }

    /// Whether the audit has an entry for it.
    pub(crate) fn is_noted(&self) -> bool {
        self.noted
    }

    /// A body that is JSON and not valid here.
    pub(crate) fn invalid_body(errors: Vec<Problem>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.detail.clone(),
            many => format!("the body has {} problems", many.len()),
        };
        Self::new(status::INVALID_BODY, detail).with_errors(errors)
    }

    /// A query parameter that is not valid.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let problem = Problem::new(format!("/query/{name}"), status::INVALID_PARAMETER.code, detail.clone());
        Self::new(status::INVALID_PARAMETER, detail).with_errors(vec![problem])
    }

    /// The problem as JSON for places that have no request of their own, such as WebSocket messages.
    pub(crate) fn body<'a>(
        &'a self,
        instance: Option<&'a str>,
        trace_id: Option<&'a str>,
    ) -> ProblemBody<'a> {
        ProblemBody {
            kind: format!("/docs/errors/{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            code: &self.code,
            errors: &self.errors,
            trace_id,
        }
    }

    /// The whole answer.
    pub(crate) fn render(&self, instance: &str, trace_id: &str) -> Response {
        let body = serde_json::to_vec(&self.body(Some(instance), Some(trace_id)))
            .expect("a problem has only strings and numbers");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Bearer realm=\"everline\", error=\"invalid_token\"";
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(standing) = &self.standing {
            standing.write(headers);
        }
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let (status, title) = status::of_rejection(&rejection);
        Self {
            status,
            code: rejection.code,
            title,
            detail: rejection.detail,
            errors: rejection.problems,
            retry_after_s: None,
            standing: None,
            noted: false,
        }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejection) => rejection.into(),
            CommandError::DigestMismatch => Self::new(status::IDEMPOTENCY_KEY_REUSED, error.to_string()),
            CommandError::Overloaded => Self::new(status::OVERLOADED, error.to_string()),
            CommandError::NotOwner => Self::new(
                status::COMMAND_UNDECIDED,
                "nobody owns the partition at the moment; send the request again",
            ),
            CommandError::Unknown(_) => Self::new(
                status::COMMAND_UNDECIDED,
                "whether the command took effect is not known; send it again with the same Idempotency-Key",
            ),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store did not answer a request");
        Self::new(status::STORE_UNAVAILABLE, "the store does not answer; try again shortly")
    }
}
