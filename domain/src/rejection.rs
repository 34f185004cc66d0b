//! Why a command was not carried out: the caller's fault, in words that name the thing and the remedy.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What kind of refusal it is; the gateway alone turns it into an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionKind {
    /// The thing does not exist (or is another tenant's, which looks the same).
    NotFound,
    /// The thing exists in a state that does not allow this.
    Conflict,
    /// The caller may not do this.
    Forbidden,
    /// The expected version is stale.
    PreconditionFailed,
    /// The content of the command is not valid.
    Invalid,
    /// A limit is reached.
    TooLarge,
}

/// One defect of a document, at a JSON pointer (RFC 6901) into what the caller sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// JSON pointer; empty for the whole document.
    pub pointer: String,
    /// Stable snake_case code.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem at a pointer.
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: Cow::Borrowed(code), detail: detail.into() }
    }
}

/// A command refused by a decider. Nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Rejection {
    /// The kind of refusal.
    pub kind: RejectionKind,
    /// Stable snake_case code with a page under `docs/errors/`.
    pub code: Cow<'static, str>,
    /// What is wrong and what to do, naming the kind and id of the thing.
    pub detail: String,
    /// The single defects, for invalid documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

impl Rejection {
    /// A refusal without single defects.
    pub fn new(kind: RejectionKind, code: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, code: Cow::Borrowed(code), detail: detail.into(), problems: Vec::new() }
    }

    /// A document with defects, all of them at once.
    pub fn invalid(code: &'static str, detail: impl Into<String>, problems: Vec<Problem>) -> Self {
        Self { problems, ..Self::new(RejectionKind::Invalid, code, detail) }
    }
}
