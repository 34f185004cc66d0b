//! Tokens to tree: a Pratt parser for CEL.
//!
//! Why not the parser of the `cel` crate: at 20 nested parentheses it overflows a 2 MiB stack in a debug build,
//! and an overflow aborts the process. This one recurses only at brackets, and those are counted.
//!
//! Invariants: time linear in the source; at most [`MAX_NESTING`] brackets are open at once; at most
//! [`MAX_DEPTH`] nodes lie on a path of the tree. Macros become comprehensions here, and their variables slots.
//!
//! Absent: message literals (`Type{…}`), names with a leading dot, type checking.

use super::References;
use super::ast::{
    Comprehension, ComprehensionKind, Expr, Literal, MAX_DEPTH, Node, Operator, Relation, Span, Step,
};
use super::error::ParseError;
use super::functions::{Function, Style, TYPE_NAMES};
use super::lexer::{Kind, Token, tokens};
use super::pattern::Pattern;

/// The longest source, in bytes.
pub const MAX_SOURCE_BYTES: usize = 16 * 1024;

/// The most brackets, of any kind, that may be open at once.
pub const MAX_NESTING: usize = 32;

/// The most `!` and `-` in a row.
const MAX_UNARY: usize = 16;

/// Words that CEL keeps for itself; they may be field names.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What parsing gives.
pub(super) struct Parsed {
    pub(super) root: Expr,
    pub(super) references: References,
    /// How many constant patterns the program has.
    pub(super) patterns: u16,
}

/// Parses a whole expression.
pub(super) fn parse(source: &str) -> Result<Parsed, ParseError> {
    if source.len() > MAX_SOURCE_BYTES {
        let message =
            format!("an expression has at most {MAX_SOURCE_BYTES} bytes, this one has {}", source.len());
        return Err(ParseError::at(source, 0, "expression_too_long", message));
    }
    let tokens = tokens(source)?;
    let mut parser = Parser {
        source,
        tokens,
        position: 0,
        nesting: 0,
        variables: Vec::new(),
        references: References::default(),
        patterns: 0,
    };
    if parser.peek() == &Kind::End {
        return parser.error("the expression is empty");
    }
    let root = parser.expression()?;
    if parser.peek() != &Kind::End {
        let found = parser.found();
        return parser.error(format!("expected an operator or the end, found {found}"));
    }
    Ok(Parsed { root, references: parser.references, patterns: parser.patterns })
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    position: usize,
    nesting: usize,
    /// Comprehension variables in scope; the index is the slot.
    variables: Vec<String>,
    references: References,
    patterns: u16,
}

impl Parser<'_> {
    fn peek(&self) -> &Kind {
        self.tokens.get(self.position).map_or(&Kind::End, |token| &token.kind)
    }

    fn start(&self) -> usize {
        self.tokens.get(self.position).map_or(self.source.len(), |token| token.start)
    }

    /// Where the last token taken ends.
    fn end(&self) -> usize {
        self.position.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0, |token| token.end)
    }

    fn take(&mut self) -> Kind {
        let kind = self.tokens.get_mut(self.position).map_or(Kind::End, |token| {
            // Each token is taken once, except the end, which must stay.
            if token.kind == Kind::End {
                Kind::End
            } else {
                std::mem::replace(&mut token.kind, Kind::Symbol(""))
            }
        });
        if kind != Kind::End {
            self.position += 1;
        }
        kind
    }

    fn accept(&mut self, symbol: &'static str) -> bool {
        let found = self.peek() == &Kind::Symbol(symbol);
        if found {
            self.position += 1;
        }
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), ParseError> {
        if self.accept(symbol) {
            return Ok(());
        }
        let found = self.found();
        self.error(format!("expected `{symbol}`, found {found}"))
    }

    fn found(&self) -> String {
        match self.tokens.get(self.position) {
            Some(token) if token.kind != Kind::End => {
                let text: String = self.source[token.start..token.end].chars().take(40).collect();
                format!("`{text}`")
            }
            _ => "the end".to_owned(),
        }
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        self.error_at(self.start(), "expression_syntax", message)
    }

    fn error_at<T>(
        &self,
        at: usize,
        code: &'static str,
        message: impl Into<String>,
    ) -> Result<T, ParseError> {
        Err(ParseError::at(self.source, at, code, message))
    }

    /// A node from `start` to the last token taken, whose deepest child is `below` deep.
    fn node(&self, node: Node, start: usize, below: u16) -> Result<Expr, ParseError> {
        if below >= MAX_DEPTH {
            let message = format!("the expression is nested more than {MAX_DEPTH} deep");
            return self.error_at(start, "expression_too_deep", message);
        }
        // Offsets fit: the source has at most MAX_SOURCE_BYTES.
        let span = Span { start: start as u32, end: self.end() as u32 };
        Ok(Expr { node, span, depth: below + 1 })
    }

    fn leaf(&self, literal: Literal, start: usize) -> Result<Expr, ParseError> {
        self.node(Node::Literal(literal), start, 0)
    }

    /// `condition ? then : otherwise`; the chain of `otherwise` is a loop.
    fn expression(&mut self) -> Result<Expr, ParseError> {
        let start = self.start();
        let mut arms = Vec::new();
        let mut below = 0;
        loop {
            let condition = self.or()?;
            below = below.max(condition.depth);
            if !self.accept("?") {
                if arms.is_empty() {
                    return Ok(condition);
                }
                return self.node(Node::Conditional(arms, Box::new(condition)), start, below);
            }
            let then = self.or()?;
            below = below.max(then.depth);
            self.expect(":")?;
            arms.push((condition, then));
        }
    }

    /// An expression inside brackets.
    fn nested(&mut self) -> Result<Expr, ParseError> {
        if self.nesting >= MAX_NESTING {
            let message = format!("more than {MAX_NESTING} brackets are open");
            return self.error_at(self.start(), "expression_too_deep", message);
        }
        self.nesting += 1;
        let expr = self.expression();
        self.nesting -= 1;
        expr
    }

    fn or(&mut self) -> Result<Expr, ParseError> {
        self.chain("||", Self::and, Node::Or)
    }

    fn and(&mut self) -> Result<Expr, ParseError> {
        self.chain("&&", Self::relation, Node::And)
    }

    fn chain(
        &mut self,
        symbol: &'static str,
        operand: fn(&mut Self) -> Result<Expr, ParseError>,
        node: fn(Vec<Expr>) -> Node,
    ) -> Result<Expr, ParseError> {
        let start = self.start();
        let first = operand(self)?;
        if self.peek() != &Kind::Symbol(symbol) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.accept(symbol) {
            operands.push(operand(self)?);
        }
        let below = operands.iter().map(|expr| expr.depth).max().unwrap_or(0);
        self.node(node(operands), start, below)
    }

    fn relation(&mut self) -> Result<Expr, ParseError> {
        let start = self.start();
        let mut left = self.sum()?;
        while let Some(relation) = self.relation_sign() {
            self.position += 1;
            let right = self.sum()?;
            let below = left.depth.max(right.depth);
            left = self.node(Node::Relation(relation, Box::new((left, right))), start, below)?;
        }
        Ok(left)
    }

    fn relation_sign(&self) -> Option<Relation> {
        Some(match self.peek() {
            Kind::Symbol("==") => Relation::Equal,
            Kind::Symbol("!=") => Relation::NotEqual,
            Kind::Symbol("<") => Relation::Less,
            Kind::Symbol("<=") => Relation::LessOrEqual,
            Kind::Symbol(">") => Relation::Greater,
            Kind::Symbol(">=") => Relation::GreaterOrEqual,
            Kind::Word(word) if word == "in" => Relation::In,
            _ => return None,
        })
    }

    fn sum(&mut self) -> Result<Expr, ParseError> {
        self.arithmetic(Self::product, |kind| match kind {
            Kind::Symbol("+") => Some(Operator::Add),
            Kind::Symbol("-") => Some(Operator::Subtract),
            _ => None,
        })
    }

    fn product(&mut self) -> Result<Expr, ParseError> {
        self.arithmetic(Self::unary, |kind| match kind {
            Kind::Symbol("*") => Some(Operator::Multiply),
            Kind::Symbol("/") => Some(Operator::Divide),
            Kind::Symbol("%") => Some(Operator::Remainder),
            _ => None,
        })
    }

    fn arithmetic(
        &mut self,
        operand: fn(&mut Self) -> Result<Expr, ParseError>,
        operator: fn(&Kind) -> Option<Operator>,
    ) -> Result<Expr, ParseError> {
        let start = self.start();
        let first = operand(self)?;
        let mut below = first.depth;
        let mut rest = Vec::new();
        while let Some(sign) = operator(self.peek()) {
            self.position += 1;
            let next = operand(self)?;
            below = below.max(next.depth);
            rest.push((sign, next));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        self.node(Node::Arithmetic(Box::new(first), rest), start, below)
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        let mut signs = Vec::new();
        loop {
            let start = self.start();
            if self.accept("!") {
                signs.push((start, '!'));
            } else if self.accept("-") {
                signs.push((start, '-'));
            } else {
                break;
            }
            if signs.len() > MAX_UNARY {
                let message = format!("more than {MAX_UNARY} signs stand in a row");
                return self.error_at(start, "expression_too_deep", message);
            }
        }
        let mut expr = match (signs.last(), self.peek()) {
            // The smallest integer has no positive twin, so the sign belongs to the literal.
            (Some((start, '-')), Kind::Int(_) | Kind::Double(_)) => {
                let start = *start;
                signs.pop();
                self.negative(start)?
            }
            _ => self.path()?,
        };
        while let Some((start, sign)) = signs.pop() {
            let below = expr.depth;
            let inner = Box::new(expr);
            let node = if sign == '!' { Node::Not(inner) } else { Node::Negate(inner) };
            expr = self.node(node, start, below)?;
        }
        Ok(expr)
    }

    fn negative(&mut self, start: usize) -> Result<Expr, ParseError> {
        let literal = match self.take() {
            Kind::Int(magnitude) if magnitude <= 1 << 63 => {
                Literal::Int(0_i64.wrapping_sub_unsigned(magnitude))
            }
            Kind::Double(number) => Literal::Double(-number),
            _ => return self.error_at(start, "expression_syntax", "the integer does not fit 64 bits"),
        };
        let root = self.leaf(literal, start)?;
        self.steps(root, start)
    }

    /// A primary followed by `.field`, `[index]`, `.method(…)`.
    fn path(&mut self) -> Result<Expr, ParseError> {
        let start = self.start();
        let root = self.primary()?;
        self.steps(root, start)
    }

    fn steps(&mut self, mut root: Expr, start: usize) -> Result<Expr, ParseError> {
        let mut steps = Vec::new();
        loop {
            if self.accept(".") {
                let optional = self.accept("?");
                let name_at = self.start();
                let (name, quoted) = match self.take() {
                    Kind::Word(name) => (name, false),
                    Kind::Quoted(name) => (name, true),
                    _ => {
                        return self.error_at(
                            name_at,
                            "expression_syntax",
                            "expected a field name after `.`",
                        );
                    }
                };
                if !optional && !quoted && self.peek() == &Kind::Symbol("(") {
                    let receiver = self.finish_path(root, std::mem::take(&mut steps), start)?;
                    root = self.method(receiver, &name, name_at, start)?;
                    continue;
                }
                steps.push(Step::Field { name: name.into(), optional, end: self.end() as u32 });
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = self.nested()?;
                self.expect("]")?;
                steps.push(Step::Index { index, optional, end: self.end() as u32 });
            } else {
                return self.finish_path(root, steps, start);
            }
        }
    }

    fn finish_path(&mut self, root: Expr, steps: Vec<Step>, start: usize) -> Result<Expr, ParseError> {
        if let Node::Name(name) = &root.node {
            self.references.note(name, &steps);
        }
        if steps.is_empty() {
            return Ok(root);
        }
        let below = steps.iter().map(|step| match step {
            Step::Field { .. } => 0,
            Step::Index { index, .. } => index.depth,
        });
        let below = below.max().unwrap_or(0).max(root.depth);
        self.node(Node::Path(Box::new(root), steps), start, below)
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let start = self.start();
        let found = self.found();
        match self.take() {
            Kind::Int(magnitude) => match i64::try_from(magnitude) {
                Ok(number) => self.leaf(Literal::Int(number), start),
                Err(_) => {
                    let message = format!("the integer does not fit 64 bits with a sign; write {magnitude}u");
                    self.error_at(start, "expression_syntax", message)
                }
            },
            Kind::Uint(number) => self.leaf(Literal::Uint(number), start),
            Kind::Double(number) => self.leaf(Literal::Double(number), start),
            Kind::Text(text) => self.leaf(Literal::Text(text.into()), start),
            Kind::Bytes(bytes) => self.leaf(Literal::Bytes(bytes.into()), start),
            Kind::Word(word) => self.word(word, start),
            Kind::Symbol("(") => {
                let inner = self.nested()?;
                self.expect(")")?;
                Ok(inner)
            }
            Kind::Symbol("[") => self.list(start),
            Kind::Symbol("{") => self.map(start),
            _ => self.error_at(start, "expression_syntax", format!("expected a value, found {found}")),
        }
    }

    fn word(&mut self, word: String, start: usize) -> Result<Expr, ParseError> {
        match word.as_str() {
            "true" => return self.leaf(Literal::Bool(true), start),
            "false" => return self.leaf(Literal::Bool(false), start),
            "null" => return self.leaf(Literal::Null, start),
            "in" => return self.error_at(start, "expression_syntax", "expected a value, found `in`"),
            _ => {}
        }
        if RESERVED.contains(&word.as_str()) {
            return self.error_at(start, "expression_syntax", format!("`{word}` is a reserved word"));
        }
        if self.peek() == &Kind::Symbol("(") {
            return self.function(&word, start);
        }
        // An inner variable hides an outer one.
        if let Some(slot) = self.variables.iter().rposition(|variable| *variable == word) {
            return self.node(Node::Local(slot as u16), start, 0);
        }
        self.node(Node::Name(word.into()), start, 0)
    }

    fn list(&mut self, start: usize) -> Result<Expr, ParseError> {
        let items = self.items("]")?;
        let below = items.iter().map(|expr| expr.depth).max().unwrap_or(0);
        self.node(Node::List(items), start, below)
    }

    /// Expressions with commas between them, up to and with `close`.
    fn items(&mut self, close: &'static str) -> Result<Vec<Expr>, ParseError> {
        let mut items = Vec::new();
        loop {
            if self.accept(close) {
                return Ok(items);
            }
            items.push(self.nested()?);
            if !self.accept(",") {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }

    fn map(&mut self, start: usize) -> Result<Expr, ParseError> {
        let mut entries = Vec::new();
        let mut below = 0;
        loop {
            if self.accept("}") {
                break;
            }
            let key = self.nested()?;
            self.expect(":")?;
            let value = self.nested()?;
            below = below.max(key.depth).max(value.depth);
            entries.push((key, value));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.node(Node::Map(entries), start, below)
    }

    fn function(&mut self, name: &str, start: usize) -> Result<Expr, ParseError> {
        self.expect("(")?;
        if name == "has" {
            return self.has(start);
        }
        let arguments = self.items(")")?;
        self.call(Style::Global, name, arguments, start, start)
    }

    fn has(&mut self, start: usize) -> Result<Expr, ParseError> {
        let operand = self.nested()?;
        self.accept(",");
        self.expect(")")?;
        let below = operand.depth;
        match operand.node {
            Node::Path(root, steps) if matches!(steps.last(), Some(Step::Field { optional: false, .. })) => {
                self.node(Node::Has(root, steps), start, below)
            }
            _ => self.error_at(start, "expression_syntax", "`has` takes a field, as in `has(input.name)`"),
        }
    }

    fn method(
        &mut self,
        receiver: Expr,
        name: &str,
        name_at: usize,
        start: usize,
    ) -> Result<Expr, ParseError> {
        self.expect("(")?;
        if let Some(kind) = ComprehensionKind::named(name) {
            return self.comprehension(kind, name, receiver, start);
        }
        let mut arguments = vec![receiver];
        arguments.extend(self.items(")")?);
        self.call(Style::Method, name, arguments, name_at, start)
    }

    fn call(
        &mut self,
        style: Style,
        name: &str,
        arguments: Vec<Expr>,
        name_at: usize,
        start: usize,
    ) -> Result<Expr, ParseError> {
        let function = Function::find(style, name, arguments.len())
            .or_else(|message| self.error_at(name_at, "unknown_function", message))?;
        let below = arguments.iter().map(|expr| expr.depth).max().unwrap_or(0);
        if function == Function::Matches {
            return self.matches(arguments, start, below);
        }
        self.node(Node::Call(function, arguments), start, below)
    }

    /// `matches`, whose pattern is compiled once if it is written out.
    fn matches(&mut self, mut arguments: Vec<Expr>, start: usize, below: u16) -> Result<Expr, ParseError> {
        let pattern = match arguments.last() {
            Some(Expr { node: Node::Literal(Literal::Text(text)), span, .. }) => {
                let check = self.patterns < Pattern::CHECKED_PER_PROGRAM;
                match Pattern::literal(text, check) {
                    Ok(pattern) => pattern,
                    Err(message) => return self.error_at(span.start as usize, "expression_syntax", message),
                }
            }
            _ => return self.node(Node::Call(Function::Matches, arguments), start, below),
        };
        let number = self.patterns;
        self.patterns = self.patterns.saturating_add(1);
        arguments.truncate(1);
        match arguments.pop() {
            Some(text) => self.node(Node::Matches(Box::new(text), Box::new(pattern), number), start, below),
            None => self.error("`matches` takes a text and a pattern"),
        }
    }

    fn comprehension(
        &mut self,
        kind: ComprehensionKind,
        name: &str,
        range: Expr,
        start: usize,
    ) -> Result<Expr, ParseError> {
        let at = self.start();
        let variable = match self.take() {
            Kind::Word(word) if !RESERVED.contains(&word.as_str()) && self.peek() == &Kind::Symbol(",") => {
                word
            }
            _ => {
                let message =
                    format!("`{name}` takes a variable and an expression, as in `list.{name}(x, …)`");
                return self.error_at(at, "expression_syntax", message);
            }
        };
        self.expect(",")?;
        self.variables.push(variable);
        let bodies = self.bodies(kind);
        self.variables.pop();
        let (filter, body) = bodies?;
        let below = range.depth.max(body.depth).max(filter.as_ref().map_or(0, |filter| filter.depth));
        let comprehension = Comprehension { kind, range, filter, body };
        self.node(Node::Comprehension(Box::new(comprehension)), start, below)
    }

    fn bodies(&mut self, kind: ComprehensionKind) -> Result<(Option<Expr>, Expr), ParseError> {
        let first = self.nested()?;
        if kind == ComprehensionKind::Map && self.accept(",") {
            let body = self.nested()?;
            self.expect(")")?;
            return Ok((Some(first), body));
        }
        self.expect(")")?;
        Ok((None, first))
    }
}

impl References {
    /// Notes the free name `name`, followed by `steps`.
    fn note(&mut self, name: &str, steps: &[Step]) {
        if steps.is_empty() && TYPE_NAMES.contains(&name) {
            return;
        }
        self.roots.insert(name.to_owned());
        if name == "credentials" {
            self.credentials = true;
        }
        if name == "nodes" {
            match steps.first().and_then(Step::constant_key) {
                Some(id) => {
                    self.nodes.insert(id.to_owned());
                }
                None => self.dynamic_nodes = true,
            }
        }
    }
}
