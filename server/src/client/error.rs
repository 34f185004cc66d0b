//! Refusals and failures of a request, in words for the terminal.

use reqwest::StatusCode;
use serde::Deserialize;
use std::fmt::{self, Write};

use crate::output::printable;

/// A request did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's URL cannot be used.
    #[error("`{url}` is not the URL of a server: {detail}; write for instance http://127.0.0.1:7070")]
    BadServer {
        /// As given.
        url: String,
        /// Why not.
        detail: String,
    },
    /// Nobody answers there.
    #[error("cannot reach {url} ({detail}); start it with `everline dev`, or name another with --server")]
    Unreachable {
        /// The server.
        url: String,
        /// What the connection said.
        detail: String,
    },
    /// Something answers that is not Everline.
    #[error("{url} does not answer like an Everline server; is another program on this port?")]
    NotEverline {
        /// The server.
        url: String,
    },
    /// No key, and one is needed.
    #[error(
        "no API key and no session; log in with `everline login`, pass --api-key, set EVERLINE_API_KEY, or use the --data-dir in which `everline dev` saved admin.key"
    )]
    NoKey,
    /// The stored session has ended.
    #[error("the session on {url} is over; log in again with `everline login --server {url}`")]
    LoggedOut {
        /// The server.
        url: String,
    },
    /// The file of stored sessions cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// A name that no workflow has.
    #[error(
        "there is no workflow `{name}`; `everline workflow list` shows them, `everline workflow apply FILE` creates one"
    )]
    NoSuchWorkflow {
        /// As given.
        name: String,
    },
    /// The server said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// A stream ended and could not be taken up again.
    #[error("the stream of events was lost and did not come back: {0}")]
    StreamLost(String),
}

/// A problem document (RFC 9457) with our members.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable code.
    #[serde(default)]
    pub code: String,
    /// A few words.
    #[serde(default)]
    pub title: String,
    /// What is wrong and what to do.
    #[serde(default)]
    pub detail: String,
    /// Single defects.
    #[serde(default)]
    pub errors: Vec<ProblemItem>,
    /// For the server's logs.
    #[serde(default)]
    pub trace_id: Option<String>,
}

/// One defect of what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProblemItem {
    /// JSON pointer into what was sent.
    pub pointer: String,
    /// Stable code.
    pub code: String,
    /// What is wrong.
    #[serde(default)]
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = if self.detail.is_empty() { &self.title } else { &self.detail };
        write!(f, "{} ({}, status {})", printable(words), printable(&self.code), self.status)?;
        for item in &self.errors {
            write!(f, "\n  {item}")?;
        }
        match &self.trace_id {
            Some(trace) if self.status >= 500 => {
                write!(f, "\n  trace id for the server's logs: {}", printable(trace))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ProblemItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "(the whole)" } else { &self.pointer };
        write!(f, "{}  {}: {}", printable(pointer), printable(&self.code), printable(&self.detail))
    }
}

impl ClientError {
    /// From an answer that is not a success.
    pub(super) fn refused(status: StatusCode, body: &[u8], had_key: bool) -> Self {
        let problem = serde_json::from_slice::<Problem>(body);
        // A login that is refused says itself why.
        let nobody = problem.as_ref().map_or(true, |problem| problem.code == "unauthenticated");
        if status == StatusCode::UNAUTHORIZED && !had_key && nobody {
            return Self::NoKey;
        }
        let problem = problem.unwrap_or_else(|_| Problem {
            status: status.as_u16(),
            code: "unknown".to_owned(),
            title: String::new(),
            detail: format!("the server answered {status}"),
            errors: Vec::new(),
            trace_id: None,
        });
        Self::Refused(Box::new(problem))
    }

    /// The problem document, if the server sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

/// An error and its causes on one line, without the URL, which the message names already.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "{innermost}");
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_printed_with_its_pointers() {
        let body = br#"{"type":"t","title":"Invalid","status":422,"code":"definition_invalid","detail":"the definition has 1 problem",
            "errors":[{"pointer":"/nodes/1/type","code":"unknown_node_type","detail":"`x` is not a type"}],"trace_id":"t1"}"#;
        let error = ClientError::refused(StatusCode::UNPROCESSABLE_ENTITY, body, true);
        assert_eq!(
            error.to_string(),
            "the definition has 1 problem (definition_invalid, status 422)\n  /nodes/1/type  unknown_node_type: `x` is not a type"
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_document_still_gives_words() {
        let error = ClientError::refused(StatusCode::BAD_GATEWAY, b"<html>", true);
        assert!(error.to_string().contains("502"), "{error}");
        assert!(matches!(ClientError::refused(StatusCode::UNAUTHORIZED, b"", false), ClientError::NoKey));
    }
}
