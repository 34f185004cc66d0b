//! The tree that is evaluated.
//!
//! Invariant: no path from the root is longer than [`MAX_DEPTH`] nodes, so that walking and dropping a tree
//! recurse within a 2 MiB stack, in debug builds too. Chains (`a + b + c`, `a && b`, `c ? x : d ? y : z`,
//! `a.b[0].c`) are lists, not nests. Names of comprehension variables are already slots.
//!
//! Absent: parentheses, macros by name, positions other than a span per node.

use super::functions::Function;
use super::pattern::Pattern;

/// The longest path from the root to a leaf.
pub(super) const MAX_DEPTH: u16 = 96;

/// A node with its place in the source.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) node: Node,
    /// Byte range in the source.
    pub(super) span: Span,
    /// Nodes on the longest path from here to a leaf.
    pub(super) depth: u16,
}

/// A byte range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What an expression can be.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Literal),
    /// A name of the scope.
    Name(Box<str>),
    /// A comprehension variable, by its slot.
    Local(u16),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    /// `root.a[1].?b`
    Path(Box<Expr>, Vec<Step>),
    /// `has(root.a.b)`: the last step is a field.
    Has(Box<Expr>, Vec<Step>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `a + b - c`, from the left.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    Relation(Relation, Box<(Expr, Expr)>),
    /// `c ? x : d ? y : z`
    Conditional(Vec<(Expr, Expr)>, Box<Expr>),
    /// Receiver first, if there is one.
    Call(Function, Vec<Expr>),
    /// `matches` with a pattern that is known; the number is its place among the program's patterns.
    Matches(Box<Expr>, Box<Pattern>, u16),
    Comprehension(Box<Comprehension>),
}

/// One step of a path.
#[derive(Debug)]
pub(super) enum Step {
    Field { name: Box<str>, optional: bool, end: u32 },
    Index { index: Expr, optional: bool, end: u32 },
}

impl Step {
    /// Where the path ends that has this step as its last.
    pub(super) fn end(&self) -> u32 {
        match self {
            Self::Field { end, .. } | Self::Index { end, .. } => *end,
        }
    }

    /// The key, if it is written out: `.a` or `['a']`.
    pub(super) fn constant_key(&self) -> Option<&str> {
        match self {
            Self::Field { name, .. } => Some(name),
            Self::Index { index: Expr { node: Node::Literal(Literal::Text(text)), .. }, .. } => Some(text),
            Self::Index { .. } => None,
        }
    }
}

/// A constant.
#[derive(Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
}

/// Arithmetic between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

/// `range.kind(variable, filter, body)`
#[derive(Debug)]
pub(super) struct Comprehension {
    pub(super) kind: ComprehensionKind,
    pub(super) range: Expr,
    /// The first of `map`'s three arguments' expressions.
    pub(super) filter: Option<Expr>,
    pub(super) body: Expr,
}

/// Which macro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComprehensionKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl ComprehensionKind {
    /// The macro called `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "exists" => Self::Exists,
            "exists_one" | "existsOne" => Self::ExistsOne,
            "map" => Self::Map,
            "filter" => Self::Filter,
            _ => return None,
        })
    }
}
