//! Expressions and templates: CEL over JSON, bounded and pure.
//!
//! ```text
//! source ─ lexer ─ parse ─▶ ast ─ evaluate ─▶ value ─▶ JSON
//!                             ▲      │ ▲
//!                 template ───┘      │ └── scope (names, now, uuid)
//!                    │               └──── fuel  (steps, bytes)
//!                    └─▶ parts (credentials, resolved by the worker)
//! ```
//!
//! In reading order: [`Program`], `scope`, `fuel`, `error`, `lexer`, `ast`, `parse`, `value`, `evaluate`,
//! `arithmetic`, `compare`, `functions`, `strings`, `times`, `pattern`, `template`, `scan`, `parts`.
//!
//! Invariants: no text and no data can make this module panic, overflow a 2 MiB stack, or run past its fuel;
//! the same program over the same scope always gives the same result; data is never parsed as an expression.
//!
//! Deliberately absent: the evaluator and the parser of the `cel` crate (neither can be bounded), clocks,
//! randomness, I/O, message types, time zones. Claim checks are not looked for inside data, because data may
//! come from outside and forge them: only a scope says that a value must be fetched.

mod arithmetic;
mod ast;
mod compare;
mod error;
mod evaluate;
mod fuel;
mod functions;
mod lexer;
mod parse;
mod parts;
mod pattern;
mod scan;
mod scope;
mod strings;
mod template;
mod times;
mod value;

#[cfg(test)]
mod tests;

pub use error::{EvaluationError, ParseError};
pub use fuel::{Budget, Fuel, STANDARD_BYTES, STANDARD_STEPS};
pub use parse::{MAX_NESTING, MAX_SOURCE_BYTES};
pub(crate) use parts::guard_data;
pub use parts::{has_credentials, resolve_parts};
pub use scope::{Binding, JsonScope, Object, Scope, derived_uuid};
pub(crate) use template::MAX_KEY_BYTES;
pub use template::{Credentials, RenderError, Template, TemplateProblem};

use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A parsed expression. Clones share the tree.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<str>,
    root: ast::Expr,
    references: References,
    patterns: u16,
}

impl Program {
    /// Parses `source`, which is one CEL expression of at most [`MAX_SOURCE_BYTES`].
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        let parse::Parsed { root, references, patterns } = parse::parse(source)?;
        Ok(Self { inner: Arc::new(Inner { source: source.into(), root, references, patterns }) })
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// The free names the expression uses.
    pub fn references(&self) -> &References {
        &self.inner.references
    }

    /// The value of the expression over `scope`.
    pub fn evaluate(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Value, EvaluationError> {
        self.evaluate_counting(scope, fuel, &mut 0)
    }

    /// Like [`Program::evaluate`], with calls of `uuid()` counted on from `uuids`.
    fn evaluate_counting(
        &self,
        scope: &dyn Scope,
        fuel: &mut Fuel,
        uuids: &mut u32,
    ) -> Result<Value, EvaluationError> {
        let mut evaluator = evaluate::Evaluator {
            source: &self.inner.source,
            scope,
            fuel,
            uuids,
            locals: Vec::new(),
            patterns: vec![None; usize::from(self.inner.patterns)],
        };
        let item = evaluator.evaluate(&self.inner.root)?;
        Ok(item.into_json(evaluator.fuel)?)
    }

    fn root(&self) -> &ast::Expr {
        &self.inner.root
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.source()).finish()
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Program {}

/// The free names an expression or a template uses. Comprehension variables are not free.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct References {
    /// Root names, for instance `input` and `nodes`. Names of types (`int`, `string`, …) do not count.
    pub roots: BTreeSet<String>,
    /// Every `x` used as `nodes.x` or `nodes['x']`.
    pub nodes: BTreeSet<String>,
    /// Whether `nodes` is also used as a whole or with a computed key, so that [`References::nodes`] is not all.
    pub dynamic_nodes: bool,
    /// Whether the root `credentials` is used.
    pub credentials: bool,
}

impl References {
    /// Adds what `other` has.
    pub fn extend(&mut self, other: &Self) {
        self.roots.extend(other.roots.iter().cloned());
        self.nodes.extend(other.nodes.iter().cloned());
        self.dynamic_nodes |= other.dynamic_nodes;
        self.credentials |= other.credentials;
    }
}
