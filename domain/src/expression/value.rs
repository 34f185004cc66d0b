//! Values during an evaluation, and their way from and to JSON.
//!
//! JSON is borrowed where it lies; what an expression builds is shared by reference count. Only the result
//! becomes a `serde_json::Value`, and only its size is paid for. Integers that fit 64 bits with a sign are
//! `int`; larger ones are `uint`; everything else is `double`.
//!
//! Invariant: walking a value is charged by its nodes and stops at [`MAX_VALUE_DEPTH`].

use super::error::Fault;
use super::fuel::Fuel;
use super::scope::{Binding, Object};
use crate::time::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

/// How deeply a value may be nested to be compared, converted or returned.
pub(super) const MAX_VALUE_DEPTH: u16 = 192;

/// What a text, list or map costs beside its content.
const OVERHEAD: usize = 32;

/// A value; `'s` is how long the program and the scope live.
#[derive(Clone)]
pub(super) enum Item<'s> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'s>),
    Bytes(Rc<[u8]>),
    List(List<'s>),
    Map(Map<'s>),
    Timestamp(Timestamp),
    /// Milliseconds.
    Duration(i64),
    Type(&'static str),
    Optional(Option<Rc<Item<'s>>>),
}

/// A text that lies in the program or the scope, or was made.
#[derive(Clone)]
pub(super) enum Text<'s> {
    Borrowed(&'s str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A list.
#[derive(Clone)]
pub(super) enum List<'s> {
    Borrowed(&'s [Value]),
    Made(Rc<Vec<Item<'s>>>),
}

impl<'s> List<'s> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Borrowed(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Item<'s>> {
        match self {
            Self::Borrowed(items) => items.get(index).map(Item::from_json),
            Self::Made(items) => items.get(index).cloned(),
        }
    }
}

/// A map.
#[derive(Clone)]
pub(super) enum Map<'s> {
    Borrowed(&'s serde_json::Map<String, Value>),
    Made(Rc<BTreeMap<Key<'s>, Item<'s>>>),
    Object(Rc<dyn Object<'s> + 's>),
}

impl<'s> Map<'s> {
    pub(super) fn len(&self, fuel: &mut Fuel) -> Result<usize, Fault> {
        Ok(match self {
            Self::Borrowed(map) => map.len(),
            Self::Made(map) => map.len(),
            Self::Object(_) => self.keys(fuel)?.len(),
        })
    }

    /// The value at `key`; also a value that must be fetched first is an error here.
    pub(super) fn get(&self, key: &Key<'s>, fuel: &mut Fuel) -> Result<Option<Item<'s>>, Fault> {
        match (self, key) {
            (Self::Made(map), key) => Ok(map.get(key).cloned()),
            (Self::Borrowed(map), Key::Text(name)) => Ok(map.get(&**name).map(Item::from_json)),
            (Self::Object(object), Key::Text(name)) => Item::from_binding(object.get(name), fuel),
            _ => Ok(None),
        }
    }

    /// Whether `key` is there; a value that must be fetched first is.
    pub(super) fn contains(&self, key: &Key<'s>) -> bool {
        match (self, key) {
            (Self::Made(map), key) => map.contains_key(key),
            (Self::Borrowed(map), Key::Text(name)) => map.contains_key(&**name),
            (Self::Object(object), Key::Text(name)) => !matches!(object.get(name), Binding::Missing),
            _ => false,
        }
    }

    /// Every key in order, so that iteration does not depend on how the JSON was built.
    pub(super) fn keys(&self, fuel: &mut Fuel) -> Result<Vec<Key<'s>>, Fault> {
        let mut keys: Vec<Key<'s>> = match self {
            Self::Borrowed(map) => {
                fuel.build(map.len() * size_of::<Key<'_>>())?;
                map.keys().map(|key| Key::Text(Text::Borrowed(key))).collect()
            }
            Self::Made(map) => {
                fuel.build(map.len() * size_of::<Key<'_>>())?;
                map.keys().cloned().collect()
            }
            Self::Object(object) => {
                let names = object.keys();
                fuel.build(names.iter().map(|name| name.len() + OVERHEAD).sum())?;
                names.into_iter().map(|name| Key::Text(Text::Made(name.into()))).collect()
            }
        };
        // Sorting compares each key a few times.
        fuel.charge(4 * keys.len() as u64)?;
        fuel.read(keys.iter().map(|key| key.text_length().saturating_mul(4)).sum())?;
        keys.sort();
        Ok(keys)
    }
}

/// A key of a map. Equal numbers are equal keys, whatever their type.
#[derive(Clone)]
pub(super) enum Key<'s> {
    Bool(bool),
    Int(i64),
    /// Only above the range of [`Key::Int`].
    Uint(u64),
    Text(Text<'s>),
}

impl<'s> Key<'s> {
    /// The key `item` stands for, if it can be one.
    pub(super) fn from_item(item: &Item<'s>) -> Option<Self> {
        Some(match item {
            Item::Bool(value) => Self::Bool(*value),
            Item::Int(number) => Self::Int(*number),
            Item::Uint(number) => i64::try_from(*number).map_or(Self::Uint(*number), Self::Int),
            Item::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => Self::Int(*number as i64),
            Item::Text(text) => Self::Text(text.clone()),
            _ => return None,
        })
    }

    pub(super) fn into_item(self) -> Item<'s> {
        match self {
            Self::Bool(value) => Item::Bool(value),
            Self::Int(number) => Item::Int(number),
            Self::Uint(number) => Item::Uint(number),
            Self::Text(text) => Item::Text(text),
        }
    }

    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Uint(number) => number.to_string(),
            Self::Text(text) => text.to_string(),
        }
    }

    /// The first characters, for messages.
    pub(super) fn short_text(&self) -> String {
        match self {
            Self::Text(text) => text.chars().take(64).collect(),
            other => other.to_text(),
        }
    }

    /// How much text is compared when this key is looked up.
    pub(super) fn text_length(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { 0 }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) => 1,
            Self::Uint(_) => 2,
            Self::Text(_) => 3,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Uint(a), Self::Uint(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => (**a).cmp(&**b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}

impl<'s> Item<'s> {
    /// Borrows `value`; costs nothing.
    pub(super) fn from_json(value: &'s Value) -> Self {
        match value {
            Value::String(text) => Self::Text(Text::Borrowed(text)),
            Value::Array(items) => Self::List(List::Borrowed(items)),
            Value::Object(map) => Self::Map(Map::Borrowed(map)),
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::from_number(number),
        }
    }

    fn from_number(number: &serde_json::Number) -> Self {
        if let Some(number) = number.as_i64() {
            Self::Int(number)
        } else if let Some(number) = number.as_u64() {
            Self::Uint(number)
        } else {
            Self::Double(number.as_f64().unwrap_or(f64::NAN))
        }
    }

    /// What a scope answered; `None` if there is nothing.
    pub(super) fn from_binding(binding: Binding<'s>, fuel: &mut Fuel) -> Result<Option<Self>, Fault> {
        Ok(Some(match binding {
            Binding::Value(value) => Self::from_json(value),
            Binding::Owned(value) => Self::from_owned(value, fuel, 0)?,
            Binding::Object(object) => Self::Map(Map::Object(Rc::from(object))),
            Binding::NeedsBlob(reference) => return Err(Fault::NeedsBlob(Box::new(reference))),
            Binding::Missing => return Ok(None),
        }))
    }

    fn from_owned(value: Value, fuel: &mut Fuel, depth: u16) -> Result<Self, Fault> {
        fuel.charge(1)?;
        check_depth(depth)?;
        match value {
            Value::String(text) => Self::made_text(text, fuel),
            Value::Array(items) => {
                let items: Result<Vec<_>, _> =
                    items.into_iter().map(|item| Self::from_owned(item, fuel, depth + 1)).collect();
                Self::made_list(items?, fuel)
            }
            Value::Object(fields) => {
                let mut map = BTreeMap::new();
                for (key, item) in fields {
                    fuel.build(key.len() + OVERHEAD)?;
                    map.insert(Key::Text(Text::Made(key.into())), Self::from_owned(item, fuel, depth + 1)?);
                }
                Ok(Self::Map(Map::Made(Rc::new(map))))
            }
            Value::Null => Ok(Self::Null),
            Value::Bool(value) => Ok(Self::Bool(value)),
            Value::Number(number) => Ok(Self::from_number(&number)),
        }
    }

    /// A text that was made; pays for it. Texts whose size is not bounded by what was already paid for must be
    /// paid before they are made: see [`Item::paid_text`].
    pub(super) fn made_text(text: String, fuel: &mut Fuel) -> Result<Self, Fault> {
        fuel.build(text.len() + OVERHEAD)?;
        Ok(Self::paid_text(text))
    }

    /// A text that is paid for.
    pub(super) fn paid_text(text: String) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    /// A list that was made; pays for it.
    pub(super) fn made_list(items: Vec<Self>, fuel: &mut Fuel) -> Result<Self, Fault> {
        fuel.build(items.len() * size_of::<Self>() + OVERHEAD)?;
        Ok(Self::List(List::Made(Rc::new(items))))
    }

    /// The name of the value's type, as `type()` gives it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
        }
    }

    /// The value as JSON. Timestamps and durations become text, an absent optional becomes null.
    pub(super) fn into_json(self, fuel: &mut Fuel) -> Result<Value, Fault> {
        self.to_json(fuel, 0)
    }

    fn to_json(&self, fuel: &mut Fuel, depth: u16) -> Result<Value, Fault> {
        check_depth(depth)?;
        fuel.build(OVERHEAD)?;
        // Containers are allocated, times are formatted.
        let is_plain = matches!(self, Self::Null | Self::Bool(_) | Self::Int(_) | Self::Text(_));
        fuel.charge(if is_plain { 0 } else { 4 })?;
        Ok(match self {
            Self::Null | Self::Optional(None) => Value::Null,
            Self::Optional(Some(item)) => item.to_json(fuel, depth + 1)?,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(number) => Value::from(*number),
            Self::Uint(number) => Value::from(*number),
            Self::Double(number) => {
                serde_json::Number::from_f64(*number).map(Value::Number).ok_or_else(|| {
                    Fault::new(format!("the result has the number {number}, which JSON cannot write"))
                })?
            }
            Self::Text(text) => {
                fuel.build(text.len())?;
                Value::String(text.to_string())
            }
            Self::List(List::Borrowed(items)) => {
                items.iter().try_for_each(|item| pay_for_clone(item, fuel, depth))?;
                Value::Array(items.to_vec())
            }
            Self::List(List::Made(items)) => {
                let items: Result<_, _> = items.iter().map(|item| item.to_json(fuel, depth + 1)).collect();
                Value::Array(items?)
            }
            Self::Map(map) => Value::Object(map.to_json(fuel, depth)?),
            Self::Timestamp(at) => Value::String(at.to_string()),
            Self::Duration(ms) => Value::String(super::times::duration_text(*ms)),
            Self::Bytes(_) => {
                return Err(Fault::new("the result has bytes, which JSON cannot hold; use string() on them"));
            }
            Self::Type(name) => Value::String((*name).to_owned()),
        })
    }
}

impl<'s> Map<'s> {
    fn to_json(&self, fuel: &mut Fuel, depth: u16) -> Result<serde_json::Map<String, Value>, Fault> {
        if let Self::Borrowed(map) = self {
            for (key, item) in *map {
                fuel.build(key.len() + OVERHEAD)?;
                pay_for_clone(item, fuel, depth)?;
            }
            return Ok((*map).clone());
        }
        let mut out = serde_json::Map::new();
        for key in self.keys(fuel)? {
            if let Some(item) = self.get(&key, fuel)? {
                let name = key.to_text();
                fuel.charge(2)?;
                fuel.build(name.len() + OVERHEAD)?;
                out.insert(name, item.to_json(fuel, depth + 1)?);
            }
        }
        Ok(out)
    }
}

/// Pays for a clone of `value` before it is made.
fn pay_for_clone(value: &Value, fuel: &mut Fuel, depth: u16) -> Result<(), Fault> {
    check_depth(depth)?;
    fuel.build(OVERHEAD)?;
    match value {
        Value::String(text) => fuel.build(text.len()),
        Value::Array(items) => items.iter().try_for_each(|item| pay_for_clone(item, fuel, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, item)| {
            fuel.build(key.len() + OVERHEAD)?;
            pay_for_clone(item, fuel, depth + 1)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Refuses values nested deeper than recursion may go.
pub(super) fn check_depth(depth: u16) -> Result<(), Fault> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Fault::new(format!("the value is nested more than {MAX_VALUE_DEPTH} deep")));
    }
    Ok(())
}
