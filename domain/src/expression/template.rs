//! JSON with `{{ … }}` in its texts, compiled once.
//!
//! Invariants: what rendering gives is never parsed again, so text that came from data stays text; credentials
//! are named by the author alone, and stand in the result as typed parts (see `parts`); in a template that may
//! use credentials, data that could be taken for parts is wrapped.
//!
//! Absent: templates in object keys, and a template language beside CEL.

use super::ast::{Node, Step};
use super::error::{EvaluationError, Fault, ParseError};
use super::parts::{Part, guard_data, parts_value};
use super::scan;
use super::scope::Scope;
use super::{Fuel, Program, References};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The deepest JSON a template may be.
const MAX_DEPTH: usize = 64;
/// The most problems that one template lists: the rest of a document that is wrong everywhere tells no more.
pub(crate) const MAX_PROBLEMS: usize = 100;
/// The most bytes of an object's key: it stands in the pointer of every problem below it.
pub(crate) const MAX_KEY_BYTES: usize = 1_024;
/// The most bytes of a pointer, so that long keys inside each other do not multiply with the problems.
const MAX_POINTER_BYTES: usize = 4_096;

/// The field of a credential that is meant when none is named.
const DEFAULT_FIELD: &str = "value";

/// Whether a template may use credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// The config of a worker node.
    Allowed,
    /// Anything the engine itself evaluates.
    Refused,
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    /// JSON pointer (RFC 6901) from the template's root; where it would be too long, to the innermost value around
    /// the problem whose pointer is not.
    pub pointer: String,
    /// Stable code: one of [`ParseError`]'s, `template_syntax`, `template_too_deep`, `reserved_key`, `key_too_long`
    /// or `credentials_not_allowed`.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a template gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}, at `{pointer}` in `{{{{ {expression} }}}}`")]
pub struct RenderError {
    /// JSON pointer (RFC 6901) from the template's root, shortened as a [`TemplateProblem`]'s.
    pub pointer: String,
    /// The source of the expression that failed.
    pub expression: String,
    /// Why.
    pub error: EvaluationError,
}

/// A JSON value with templates in its texts. Clones share the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq)]
struct Inner {
    root: Branch,
    credentials: Credentials,
}

#[derive(Debug, PartialEq)]
enum Branch {
    /// No template anywhere inside.
    Constant(Value),
    Text(Vec<Piece>),
    Array(Vec<Branch>),
    Object(Vec<(String, Branch)>),
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Expression(Program),
    Credential { name: String, field: String, source: Program },
}

impl Template {
    /// Compiles `value`; all problems are found at once, up to 100.
    pub fn parse(value: &Value, credentials: Credentials) -> Result<Self, Vec<TemplateProblem>> {
        let mut compiler = Compiler { credentials, problems: Vec::new() };
        let root = compiler.branch(value, &Place::Root, 0);
        if compiler.problems.is_empty() {
            Ok(Self { inner: Arc::new(Inner { root, credentials }) })
        } else {
            Err(compiler.problems)
        }
    }

    /// Compiles a single text, without credentials.
    pub fn parse_text(text: &str) -> Result<Self, ParseError> {
        let root = text_branch(text, Credentials::Refused)?;
        Ok(Self { inner: Arc::new(Inner { root, credentials: Credentials::Refused }) })
    }

    /// The value over `scope`. Fuel is shared by all the expressions inside, and so is the count of `uuid()`.
    pub fn render(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Value, RenderError> {
        let credentials = self.inner.credentials;
        Renderer { scope, fuel, uuids: 0, credentials }.branch(&self.inner.root, &Place::Root)
    }

    /// The free names of all the expressions inside.
    pub fn references(&self) -> References {
        let mut references = References::default();
        self.inner.root.each_piece(&mut |piece| match piece {
            Piece::Expression(program) | Piece::Credential { source: program, .. } => {
                references.extend(program.references());
            }
            Piece::Text(_) => {}
        });
        references
    }

    /// The names of the credentials used.
    pub fn credentials(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.inner.root.each_piece(&mut |piece| {
            if let Piece::Credential { name, .. } = piece {
                names.insert(name.clone());
            }
        });
        names
    }

    /// Whether there is nothing to evaluate: rendering gives the value it was parsed from.
    pub fn is_constant(&self) -> bool {
        matches!(self.inner.root, Branch::Constant(_))
    }
}

impl Branch {
    fn each_piece(&self, visit: &mut dyn FnMut(&Piece)) {
        match self {
            Self::Constant(_) => {}
            Self::Text(pieces) => pieces.iter().for_each(visit),
            Self::Array(items) => items.iter().for_each(|item| item.each_piece(visit)),
            Self::Object(fields) => fields.iter().for_each(|(_, item)| item.each_piece(visit)),
        }
    }

    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }
}

/// Where a walk through the JSON is, linked to where it came from: a pointer is written for a failure only.
enum Place<'p> {
    Root,
    Key(&'p Place<'p>, &'p str),
    Index(&'p Place<'p>, usize),
}

impl Place<'_> {
    /// As RFC 6901 writes it; cut at a whole token, so that it still leads to a value around this one.
    fn pointer(&self) -> String {
        let mut tokens = Vec::new();
        let mut place = self;
        loop {
            match place {
                Place::Root => break,
                Place::Key(parent, key) => {
                    tokens.push(key.replace('~', "~0").replace('/', "~1"));
                    place = parent;
                }
                Place::Index(parent, index) => {
                    tokens.push(index.to_string());
                    place = parent;
                }
            }
        }
        let mut pointer = String::new();
        for token in tokens.iter().rev() {
            if pointer.len() + 1 + token.len() > MAX_POINTER_BYTES {
                break;
            }
            pointer.push('/');
            pointer.push_str(token);
        }
        pointer
    }
}

struct Compiler {
    credentials: Credentials,
    problems: Vec<TemplateProblem>,
}

impl Compiler {
    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    fn problem(&mut self, place: &Place<'_>, code: &'static str, message: impl Into<String>) {
        if !self.is_full() {
            self.problems.push(TemplateProblem { pointer: place.pointer(), code, message: message.into() });
        }
    }

    /// Where there is a problem, the branch is a null that nobody sees.
    fn branch(&mut self, value: &Value, place: &Place<'_>, depth: usize) -> Branch {
        if self.is_full() {
            return Branch::Constant(Value::Null);
        }
        if depth > MAX_DEPTH {
            self.problem(
                place,
                "template_too_deep",
                format!("the JSON is nested more than {MAX_DEPTH} deep"),
            );
            return Branch::Constant(Value::Null);
        }
        match value {
            Value::String(text) => text_branch(text, self.credentials).unwrap_or_else(|error| {
                self.problem(place, error.code, error.to_string());
                Branch::Constant(Value::Null)
            }),
            Value::Array(items) => {
                let children = items.iter().enumerate();
                let branches: Vec<_> = children
                    .map(|(index, item)| self.branch(item, &Place::Index(place, index), depth + 1))
                    .collect();
                if branches.iter().all(Branch::is_constant) {
                    return Branch::Constant(value.clone());
                }
                Branch::Array(branches)
            }
            Value::Object(fields) => {
                let mut branches = Vec::with_capacity(fields.len());
                let is_long = |key: &&String| key.len() > MAX_KEY_BYTES;
                if let Some(key) = fields.keys().find(is_long) {
                    // Named by its length: a pointer that led to it would be as long as the key.
                    let message = format!(
                        "a key has {} bytes; at most {MAX_KEY_BYTES} are allowed; write the object as an expression or as a list of names and values",
                        key.len()
                    );
                    self.problem(place, "key_too_long", message);
                }
                for (key, item) in fields.iter().filter(|(key, _)| !is_long(key)) {
                    let place = Place::Key(place, key);
                    if key.starts_with('$') && !self.is_full() {
                        let message = format!(
                            "a key must not start with `$`; if `{key}` is meant, write the object as an expression"
                        );
                        self.problem(&place, "reserved_key", message);
                    }
                    branches.push((key.clone(), self.branch(item, &place, depth + 1)));
                }
                if branches.iter().all(|(_, branch)| branch.is_constant()) {
                    return Branch::Constant(value.clone());
                }
                Branch::Object(branches)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Branch::Constant(value.clone()),
        }
    }
}

fn text_branch(text: &str, credentials: Credentials) -> Result<Branch, ParseError> {
    let pieces = scan::pieces(text)
        .map_err(|offset| ParseError::at(text, offset, "template_syntax", "the `{{` has no closing `}}`"))?;
    if !pieces.iter().any(|piece| matches!(piece, scan::Piece::Expression(_))) {
        return Ok(Branch::Constant(Value::String(text.to_owned())));
    }
    let pieces: Result<_, _> = pieces.into_iter().map(|piece| compile_piece(piece, credentials)).collect();
    Ok(Branch::Text(pieces?))
}

fn compile_piece(piece: scan::Piece<'_>, credentials: Credentials) -> Result<Piece, ParseError> {
    let source = match piece {
        scan::Piece::Text(text) => return Ok(Piece::Text(text.to_owned())),
        scan::Piece::Expression(source) => source,
    };
    let program = Program::parse(source)?;
    if !program.references().credentials {
        return Ok(Piece::Expression(program));
    }
    let refuse = |message| Err(ParseError::at(source, 0, "credentials_not_allowed", message));
    if credentials == Credentials::Refused {
        return refuse("credentials can only be used in the config of a worker node");
    }
    match credential(&program) {
        Some((name, field)) => Ok(Piece::Credential { name, field, source: program }),
        None => refuse("a credential must be the whole of a `{{ }}`, as in `{{ credentials.name.field }}`"),
    }
}

/// Name and field, if the program is `credentials.name` or `credentials.name.field` and nothing else.
fn credential(program: &Program) -> Option<(String, String)> {
    let Node::Path(root, steps) = &program.root().node else {
        return None;
    };
    let is_plain = |step: &Step| {
        matches!(step, Step::Field { optional: false, .. } | Step::Index { optional: false, .. })
    };
    if !matches!(&root.node, Node::Name(name) if &**name == "credentials") || !steps.iter().all(is_plain) {
        return None;
    }
    let name = steps.first()?.constant_key()?;
    let field = match steps.get(1) {
        Some(step) => step.constant_key()?,
        None => DEFAULT_FIELD,
    };
    (steps.len() <= 2).then(|| (name.to_owned(), field.to_owned()))
}

struct Renderer<'s, 'f> {
    scope: &'s dyn Scope,
    fuel: &'f mut Fuel,
    uuids: u32,
    credentials: Credentials,
}

impl Renderer<'_, '_> {
    fn branch(&mut self, branch: &Branch, place: &Place<'_>) -> Result<Value, RenderError> {
        match branch {
            // The author's own JSON is bounded by the size of the definition.
            Branch::Constant(value) => Ok(value.clone()),
            Branch::Text(pieces) => self.text(pieces, place),
            Branch::Array(branches) => {
                let mut items = Vec::with_capacity(branches.len());
                for (index, branch) in branches.iter().enumerate() {
                    items.push(self.branch(branch, &Place::Index(place, index))?);
                }
                Ok(Value::Array(items))
            }
            Branch::Object(branches) => {
                let mut fields = serde_json::Map::new();
                for (key, branch) in branches {
                    fields.insert(key.clone(), self.branch(branch, &Place::Key(place, key))?);
                }
                Ok(Value::Object(fields))
            }
        }
    }

    fn text(&mut self, pieces: &[Piece], place: &Place<'_>) -> Result<Value, RenderError> {
        if let [Piece::Expression(program)] = pieces {
            let value = self.evaluate(program, place)?;
            return Ok(if self.credentials == Credentials::Allowed { guard_data(value) } else { value });
        }
        let mut parts = Vec::with_capacity(pieces.len());
        let mut has_credential = false;
        for piece in pieces {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text.clone()),
                Piece::Credential { name, field, .. } => {
                    has_credential = true;
                    Part::Credential { name: name.clone(), field: field.clone() }
                }
                Piece::Expression(program) => {
                    let text = match self.evaluate(program, place)? {
                        Value::String(text) => text,
                        value => {
                            let text = value.to_string();
                            let paid = self.fuel.build(text.len());
                            paid.map_err(|fault| render_error(program, place, fault))?;
                            text
                        }
                    };
                    Part::Text(text)
                }
            });
        }
        if has_credential {
            return Ok(parts_value(parts));
        }
        let texts = parts.into_iter().filter_map(|part| match part {
            Part::Text(text) => Some(text),
            Part::Credential { .. } => None,
        });
        Ok(Value::String(texts.collect()))
    }

    fn evaluate(&mut self, program: &Program, place: &Place<'_>) -> Result<Value, RenderError> {
        program.evaluate_counting(self.scope, self.fuel, &mut self.uuids).map_err(|error| RenderError {
            pointer: place.pointer(),
            expression: program.source().to_owned(),
            error,
        })
    }
}

fn render_error(program: &Program, place: &Place<'_>, fault: Fault) -> RenderError {
    RenderError { pointer: place.pointer(), expression: program.source().to_owned(), error: fault.into() }
}
