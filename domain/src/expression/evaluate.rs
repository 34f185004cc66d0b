//! Walks the tree over a scope.
//!
//! Invariants: every node costs a step; recursion is bounded by the depth of the tree; nothing panics; the same
//! program over the same scope always gives the same result and spends the same fuel. `&&`, `||`, `all` and
//! `exists` absorb failures as CEL says, but never [`Fault::OutOfFuel`] or [`Fault::NeedsBlob`].
//!
//! Each kind of node has a function of its own, to keep the frames of the recursion small in debug builds.

use super::arithmetic::{calculate, negate};
use super::ast::{Comprehension, ComprehensionKind, Expr, Literal, Node, Operator, Relation, Span, Step};
use super::compare::{equal, order};
use super::error::Fault;
use super::fuel::Fuel;
use super::functions::{Function, TYPE_NAMES, call, index};
use super::pattern::Pattern;
use super::scope::Scope;
use super::value::{Item, Key, List, Map, Text};
use regex::Regex;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What a failure costs beside its node, since its message has to be written.
const FAILURE_COST: u64 = 20;

/// How many keys a message lists.
const KEYS_NAMED: usize = 8;

/// One evaluation.
pub(super) struct Evaluator<'s, 'f> {
    pub(super) source: &'s str,
    pub(super) scope: &'s dyn Scope,
    pub(super) fuel: &'f mut Fuel,
    /// How many times `uuid()` was called.
    pub(super) uuids: &'f mut u32,
    /// Values of the comprehension variables, by slot.
    pub(super) locals: Vec<Item<'s>>,
    /// The program's patterns, once compiled.
    pub(super) patterns: Vec<Option<Regex>>,
}

type Outcome<'s> = Result<Item<'s>, Fault>;

impl<'s> Evaluator<'s, '_> {
    /// The value of `expr`.
    pub(super) fn evaluate(&mut self, expr: &'s Expr) -> Outcome<'s> {
        self.fuel.charge(1)?;
        match &expr.node {
            Node::Literal(literal) => self.literal(literal),
            Node::Name(name) => self.name(name, expr.span),
            Node::Local(slot) => self.local(*slot),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Path(root, steps) => self.path(root, steps),
            Node::Has(root, steps) => self.has(root, steps),
            Node::Not(inner) => self.not(inner, expr.span),
            Node::Negate(inner) => self.negate(inner, expr.span),
            Node::And(operands) => self.logic(operands, false),
            Node::Or(operands) => self.logic(operands, true),
            Node::Arithmetic(first, rest) => self.arithmetic(first, rest),
            Node::Relation(relation, sides) => self.relation(*relation, &sides.0, &sides.1, expr.span),
            Node::Conditional(arms, otherwise) => self.conditional(arms, otherwise),
            Node::Call(function, arguments) => self.call(*function, arguments, expr.span),
            Node::Matches(text, pattern, number) => self.matches(text, pattern, *number, expr.span),
            Node::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    /// Adds the place to a failure that has none.
    #[cold]
    fn locate(&mut self, fault: Fault, start: u32, end: u32) -> Fault {
        let Fault::Plain(message) = fault else {
            return fault;
        };
        if let Err(empty) = self.fuel.charge(FAILURE_COST) {
            return empty;
        }
        let part = self.source.get(start as usize..end as usize).unwrap_or_default();
        let mut shown: String = part.chars().take(120).collect();
        if shown.len() < part.len() {
            shown.push('…');
        }
        Fault::Located(format!("{message}, in `{shown}`"))
    }

    fn at<T>(&mut self, result: Result<T, Fault>, span: Span) -> Result<T, Fault> {
        result.map_err(|fault| self.locate(fault, span.start, span.end))
    }

    fn literal(&mut self, literal: &'s Literal) -> Outcome<'s> {
        Ok(match literal {
            Literal::Null => Item::Null,
            Literal::Bool(value) => Item::Bool(*value),
            Literal::Int(number) => Item::Int(*number),
            Literal::Uint(number) => Item::Uint(*number),
            Literal::Double(number) => Item::Double(*number),
            Literal::Text(text) => Item::Text(Text::Borrowed(text)),
            Literal::Bytes(bytes) => {
                self.fuel.build(bytes.len())?;
                Item::Bytes(Rc::from(&**bytes))
            }
        })
    }

    fn name(&mut self, name: &'s str, span: Span) -> Outcome<'s> {
        let found = Item::from_binding(self.scope.name(name), self.fuel);
        if let Some(item) = self.at(found, span)? {
            return Ok(item);
        }
        if let Some(type_name) = TYPE_NAMES.into_iter().find(|type_name| *type_name == name) {
            return Ok(Item::Type(type_name));
        }
        Err(self.locate(Fault::new(format!("there is no name `{name}` here")), span.start, span.end))
    }

    fn local(&mut self, slot: u16) -> Outcome<'s> {
        self.locals.get(usize::from(slot)).cloned().ok_or_else(|| Fault::new("the variable is not bound"))
    }

    fn list(&mut self, items: &'s [Expr]) -> Outcome<'s> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(self.evaluate(item)?);
        }
        Item::made_list(values, self.fuel)
    }

    fn map(&mut self, entries: &'s [(Expr, Expr)]) -> Outcome<'s> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let item = self.evaluate(key)?;
            let Some(name) = Key::from_item(&item) else {
                let fault = Fault::new(format!("a {} cannot be a key", item.type_name()));
                return Err(self.locate(fault, key.span.start, key.span.end));
            };
            let value = self.evaluate(value)?;
            self.fuel.read(name.text_length().saturating_add(64))?;
            self.fuel.build(size_of::<Item<'_>>() + size_of::<Key<'_>>())?;
            if let Some(_earlier) = map.insert(name, value) {
                return Err(self.locate(Fault::new("the key occurs twice"), key.span.start, key.span.end));
            }
        }
        Ok(Item::Map(Map::Made(Rc::new(map))))
    }

    fn not(&mut self, inner: &'s Expr, span: Span) -> Outcome<'s> {
        match self.evaluate(inner)? {
            Item::Bool(value) => Ok(Item::Bool(!value)),
            other => {
                let fault = Fault::new(format!("`!` does not apply to {}", other.type_name()));
                Err(self.locate(fault, span.start, span.end))
            }
        }
    }

    fn negate(&mut self, inner: &'s Expr, span: Span) -> Outcome<'s> {
        let value = self.evaluate(inner)?;
        let result = negate(&value);
        self.at(result, span)
    }

    fn arithmetic(&mut self, first: &'s Expr, rest: &'s [(Operator, Expr)]) -> Outcome<'s> {
        let mut value = self.evaluate(first)?;
        for (operator, operand) in rest {
            let right = self.evaluate(operand)?;
            self.fuel.charge(1)?;
            let result = calculate(*operator, value, right, self.fuel);
            value = result.map_err(|fault| self.locate(fault, first.span.start, operand.span.end))?;
        }
        Ok(value)
    }

    fn condition(&mut self, expr: &'s Expr) -> Result<bool, Fault> {
        match self.evaluate(expr)? {
            Item::Bool(value) => Ok(value),
            other => {
                let fault = Fault::new(format!("expected a bool, found {}", other.type_name()));
                Err(self.locate(fault, expr.span.start, expr.span.end))
            }
        }
    }

    /// `&&` (decided by false) or `||` (decided by true).
    fn logic(&mut self, operands: &'s [Expr], decisive: bool) -> Outcome<'s> {
        let mut failure = None;
        for operand in operands {
            match self.condition(operand) {
                Ok(value) if value == decisive => return Ok(Item::Bool(decisive)),
                Ok(_) => {}
                Err(fault) if fault.is_absorbable() => failure = failure.or(Some(fault)),
                Err(fault) => return Err(fault),
            }
        }
        failure.map_or(Ok(Item::Bool(!decisive)), Err)
    }

    fn conditional(&mut self, arms: &'s [(Expr, Expr)], otherwise: &'s Expr) -> Outcome<'s> {
        for (condition, then) in arms {
            if self.condition(condition)? {
                return self.evaluate(then);
            }
        }
        self.evaluate(otherwise)
    }

    fn relation(&mut self, relation: Relation, left: &'s Expr, right: &'s Expr, span: Span) -> Outcome<'s> {
        let left = self.evaluate(left)?;
        let right = self.evaluate(right)?;
        let result = relate(relation, &left, &right, self.fuel);
        self.at(result, span).map(Item::Bool)
    }

    fn call(&mut self, function: Function, arguments: &'s [Expr], span: Span) -> Outcome<'s> {
        match function {
            Function::Now => return Ok(Item::Timestamp(self.scope.now())),
            Function::Uuid => {
                self.fuel.charge(10)?;
                let id = self.scope.uuid(*self.uuids);
                *self.uuids = self.uuids.saturating_add(1);
                return Item::made_text(id.to_string(), self.fuel);
            }
            _ => {}
        }
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.evaluate(argument)?);
        }
        self.fuel.charge(1)?;
        let result = call(function, &values, self.fuel);
        self.at(result, span)
    }

    fn matches(&mut self, text: &'s Expr, pattern: &'s Pattern, number: u16, span: Span) -> Outcome<'s> {
        let value = self.evaluate(text)?;
        let mut unkept = None;
        let compiled = self.patterns.get_mut(usize::from(number)).unwrap_or(&mut unkept);
        let result = match &value {
            Item::Text(text) => pattern.is_match(text, compiled, self.fuel),
            other => Err(Fault::new(format!("`matches` applies to a string, not to {}", other.type_name()))),
        };
        self.at(result, span).map(Item::Bool)
    }

    fn path(&mut self, root: &'s Expr, steps: &'s [Step]) -> Outcome<'s> {
        let mut value = self.evaluate(root)?;
        for step in steps {
            self.fuel.charge(1)?;
            value = self.step(value, step, root.span.start)?;
        }
        Ok(value)
    }

    fn step(&mut self, value: Item<'s>, step: &'s Step, start: u32) -> Outcome<'s> {
        // Selecting from an optional gives an optional again.
        let (value, was_optional) = match value {
            Item::Optional(None) => return Ok(Item::Optional(None)),
            Item::Optional(Some(inner)) => ((*inner).clone(), true),
            value => (value, false),
        };
        let (key, optional) = match step {
            Step::Field { name, optional, .. } => (Item::Text(Text::Borrowed(name)), *optional),
            Step::Index { index, optional, .. } => (self.evaluate(index)?, *optional),
        };
        let found = match (step, &value) {
            (Step::Index { .. }, _) | (_, Item::Map(_)) => index(&value, &key, self.fuel),
            (Step::Field { name, .. }, other) => {
                Err(Fault::new(format!("a {} has no field `{name}`", other.type_name())))
            }
        };
        let found = found.map_err(|fault| self.locate(fault, start, step.end()))?;
        match found {
            found if optional || was_optional => Ok(Item::Optional(found.map(Rc::new))),
            Some(found) => Ok(found),
            None => {
                let fault = missing(&value, &key, self.fuel).unwrap_or_else(|fault| fault);
                Err(self.locate(fault, start, step.end()))
            }
        }
    }

    /// False as soon as something on the path is missing or null, true without fetching what the path leads to.
    fn has(&mut self, root: &'s Expr, steps: &'s [Step]) -> Outcome<'s> {
        let Some((last, before)) = steps.split_last() else {
            return Ok(Item::Bool(true));
        };
        let mut value = self.evaluate(root)?;
        for step in before {
            self.fuel.charge(1)?;
            let key = match step {
                Step::Field { name, .. } => Item::Text(Text::Borrowed(name)),
                Step::Index { index, .. } => self.evaluate(index)?,
            };
            let holder = present(value);
            let found = match &holder {
                Item::Null => return Ok(Item::Bool(false)),
                holder => index(holder, &key, self.fuel),
            };
            match found.map_err(|fault| self.locate(fault, root.span.start, step.end()))? {
                Some(found) => value = found,
                None => return Ok(Item::Bool(false)),
            }
        }
        self.fuel.charge(1)?;
        match (last, present(value)) {
            (Step::Field { name, .. }, Item::Map(map)) => {
                Ok(Item::Bool(map.contains(&Key::Text(Text::Borrowed(name)))))
            }
            (_, Item::Null) => Ok(Item::Bool(false)),
            (_, other) => {
                let fault = Fault::new(format!("a {} has no fields", other.type_name()));
                Err(self.locate(fault, root.span.start, last.end()))
            }
        }
    }

    fn comprehension(&mut self, comprehension: &'s Comprehension) -> Outcome<'s> {
        let list = match self.evaluate(&comprehension.range)? {
            Item::List(list) => list,
            Item::Map(map) => {
                let keys = map.keys(self.fuel)?.into_iter().map(Key::into_item).collect();
                List::Made(Rc::new(keys))
            }
            other => {
                let span = comprehension.range.span;
                let fault =
                    Fault::new(format!("a {} cannot be walked; use a list or map", other.type_name()));
                return Err(self.locate(fault, span.start, span.end));
            }
        };
        let slot = self.locals.len();
        let result = self.walk(comprehension, &list, slot);
        self.locals.truncate(slot);
        result
    }

    fn walk(&mut self, comprehension: &'s Comprehension, list: &List<'s>, slot: usize) -> Outcome<'s> {
        let mut gathered = Vec::new();
        let mut failure = None;
        let mut count = 0_u64;
        for position in 0..list.len() {
            self.fuel.charge(1)?;
            let Some(item) = list.get(position) else {
                break;
            };
            self.locals.truncate(slot);
            self.locals.push(item.clone());
            if comprehension.kind == ComprehensionKind::Map {
                if let Some(filter) = &comprehension.filter
                    && !self.condition(filter)?
                {
                    continue;
                }
                self.fuel.build(size_of::<Item<'_>>())?;
                gathered.push(self.evaluate(&comprehension.body)?);
                continue;
            }
            match (comprehension.kind, self.condition(&comprehension.body)) {
                (ComprehensionKind::All, Ok(false)) => return Ok(Item::Bool(false)),
                (ComprehensionKind::Exists, Ok(true)) => return Ok(Item::Bool(true)),
                (ComprehensionKind::All | ComprehensionKind::Exists, Err(fault)) if fault.is_absorbable() => {
                    failure = failure.or(Some(fault));
                }
                (_, Err(fault)) => return Err(fault),
                (ComprehensionKind::Filter, Ok(true)) => {
                    self.fuel.build(size_of::<Item<'_>>())?;
                    gathered.push(item);
                }
                (_, Ok(true)) => count += 1,
                (_, Ok(false)) => {}
            }
        }
        if let Some(fault) = failure {
            return Err(fault);
        }
        Ok(match comprehension.kind {
            ComprehensionKind::All => Item::Bool(true),
            ComprehensionKind::Exists => Item::Bool(false),
            ComprehensionKind::ExistsOne => Item::Bool(count == 1),
            // Paid for item by item.
            ComprehensionKind::Map | ComprehensionKind::Filter => Item::List(List::Made(Rc::new(gathered))),
        })
    }
}

/// What an optional holds; null for an absent one.
fn present(item: Item<'_>) -> Item<'_> {
    match item {
        Item::Optional(None) => Item::Null,
        Item::Optional(Some(inner)) => (*inner).clone(),
        item => item,
    }
}

fn relate<'s>(relation: Relation, a: &Item<'s>, b: &Item<'s>, fuel: &mut Fuel) -> Result<bool, Fault> {
    Ok(match relation {
        Relation::Equal => equal(a, b, fuel)?,
        Relation::NotEqual => !equal(a, b, fuel)?,
        Relation::In => return contains(a, b, fuel),
        Relation::Less => order(a, b, fuel)? == Some(Ordering::Less),
        Relation::Greater => order(a, b, fuel)? == Some(Ordering::Greater),
        Relation::LessOrEqual => matches!(order(a, b, fuel)?, Some(Ordering::Less | Ordering::Equal)),
        Relation::GreaterOrEqual => matches!(order(a, b, fuel)?, Some(Ordering::Greater | Ordering::Equal)),
    })
}

/// `item in holder`
fn contains<'s>(item: &Item<'s>, holder: &Item<'s>, fuel: &mut Fuel) -> Result<bool, Fault> {
    match holder {
        Item::List(list) => {
            for position in 0..list.len() {
                fuel.charge(1)?;
                if let Some(other) = list.get(position)
                    && equal(item, &other, fuel)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Item::Map(map) => match Key::from_item(item) {
            Some(key) => {
                fuel.read(key.text_length())?;
                Ok(map.contains(&key))
            }
            None => Ok(false),
        },
        other => Err(Fault::new(format!("`in` needs a list or a map, not {}", other.type_name()))),
    }
}

/// Why `key` is not in `holder`, with the keys that are.
#[cold]
fn missing<'s>(holder: &Item<'s>, key: &Item<'s>, fuel: &mut Fuel) -> Result<Fault, Fault> {
    let shown = Key::from_item(key).map(|key| key.short_text()).unwrap_or_default();
    let map = match holder {
        Item::Map(map) => map,
        Item::List(list) => {
            return Ok(Fault::new(format!("index {shown} is outside the list of {}", list.len())));
        }
        other => return Ok(Fault::new(format!("a {} has no key `{shown}`", other.type_name()))),
    };
    let keys = map.keys(fuel)?;
    if keys.is_empty() {
        return Ok(Fault::new(format!("there is no key `{shown}`; the map is empty")));
    }
    let names: Vec<String> = keys.iter().take(KEYS_NAMED).map(Key::short_text).collect();
    let more = match keys.len().saturating_sub(KEYS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(Fault::new(format!("there is no key `{shown}`; there is {}{more}", names.join(", "))))
}
