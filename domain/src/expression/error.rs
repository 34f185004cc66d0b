//! What can go wrong: at parse time, and at evaluation.
//!
//! Invariant: only [`Fault::Plain`] and [`Fault::Located`] may be absorbed by `&&`, `||`, `all` and `exists`;
//! running out of fuel and needing a blob always reach the caller.

use super::fuel::Budget;
use crate::blob::BlobRef;
use std::fmt;

/// Why a source text is not a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Stable code: `expression_syntax`, `expression_too_long`, `expression_too_deep`, `unknown_function`; from
    /// templates also `credentials_not_allowed`.
    pub code: &'static str,
    /// What is wrong, without the place.
    pub message: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl ParseError {
    /// The error at byte `offset` of `source`.
    pub(super) fn at(source: &str, offset: usize, code: &'static str, message: impl Into<String>) -> Self {
        let before = source.get(..offset.min(source.len())).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Self { code, message: message.into(), line: line as u32, column: column as u32 }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}", self.message, self.line, self.column)
    }
}

impl std::error::Error for ParseError {}

/// Why an evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The expression does not fit the data; the message names the part of the expression.
    #[error("{message}")]
    Failed {
        /// The reason.
        message: String,
    },
    /// The expression is too expensive for the data it was given.
    #[error("{}", match budget {
        Budget::Steps => "the expression takes too many steps; work on smaller lists or texts, or do it in a worker node",
        Budget::Bytes => "the expression builds too much data; make smaller texts and lists, or do it in a worker node",
    })]
    OutOfFuel {
        /// What ran out.
        budget: Budget,
    },
    /// A value lies beside the log; fetch it and evaluate again.
    #[error("the value in blob {} must be fetched first", .0.sha256)]
    NeedsBlob(BlobRef),
}

impl EvaluationError {
    /// Stable code of the failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "expression_error",
            Self::OutOfFuel { .. } => "expression_limit",
            Self::NeedsBlob(_) => "needs_blob",
        }
    }
}

/// The evaluator's own error: knows whether the place has been named yet.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A reason without a place.
    Plain(String),
    /// A reason that names the part of the expression.
    Located(String),
    OutOfFuel(Budget),
    NeedsBlob(Box<BlobRef>),
}

impl Fault {
    /// A failure whose place is not named yet.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self::Plain(message.into())
    }

    /// Whether `&&` and `||` may ignore it when the other side decides.
    pub(super) fn is_absorbable(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Located(_))
    }
}

impl From<Fault> for EvaluationError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Plain(message) | Fault::Located(message) => Self::Failed { message },
            Fault::OutOfFuel(budget) => Self::OutOfFuel { budget },
            Fault::NeedsBlob(reference) => Self::NeedsBlob(*reference),
        }
    }
}
