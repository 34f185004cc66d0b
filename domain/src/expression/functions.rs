//! The functions an expression may call, and the conversions between types.
//!
//! [`TABLE`] is the whole list: what is not in it is refused when the program is parsed. Each function charges
//! fuel for the size of its arguments before it works on them.

use super::error::Fault;
use super::fuel::Fuel;
use super::strings;
use super::times::{Part, parse_duration, part};
use super::value::{Item, Key};
use super::{arithmetic, pattern, times};
use crate::time::Timestamp;
use std::rc::Rc;

/// Names that mean a type when the scope has no such name.
pub(super) const TYPE_NAMES: [&str; 11] =
    ["null_type", "bool", "int", "uint", "double", "string", "bytes", "list", "map", "timestamp", "duration"];

/// What writing a number or a time as text costs.
pub(super) const FORMAT_COST: u64 = 6;

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `f(a, b)`
    Global,
    /// `a.f(b)`
    Method,
}

/// A function of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Int,
    Uint,
    Double,
    String,
    Bool,
    Bytes,
    Type,
    Dyn,
    Timestamp,
    Duration,
    Now,
    Uuid,
    Matches,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Trim,
    Split,
    Join,
    Replace,
    Substring,
    IndexOf,
    LastIndexOf,
    CharAt,
    Part(Part),
    HasValue,
    OrValue,
    Value,
}

/// Name, style, fewest and most arguments (the receiver counts), function.
const TABLE: [(&str, Style, usize, usize, Function); 43] = [
    ("size", Style::Global, 1, 1, Function::Size),
    ("size", Style::Method, 1, 1, Function::Size),
    ("int", Style::Global, 1, 1, Function::Int),
    ("uint", Style::Global, 1, 1, Function::Uint),
    ("double", Style::Global, 1, 1, Function::Double),
    ("string", Style::Global, 1, 1, Function::String),
    ("bool", Style::Global, 1, 1, Function::Bool),
    ("bytes", Style::Global, 1, 1, Function::Bytes),
    ("type", Style::Global, 1, 1, Function::Type),
    ("dyn", Style::Global, 1, 1, Function::Dyn),
    ("timestamp", Style::Global, 1, 1, Function::Timestamp),
    ("duration", Style::Global, 1, 1, Function::Duration),
    ("now", Style::Global, 0, 0, Function::Now),
    ("uuid", Style::Global, 0, 0, Function::Uuid),
    ("matches", Style::Global, 2, 2, Function::Matches),
    ("matches", Style::Method, 2, 2, Function::Matches),
    ("contains", Style::Method, 2, 2, Function::Contains),
    ("startsWith", Style::Method, 2, 2, Function::StartsWith),
    ("endsWith", Style::Method, 2, 2, Function::EndsWith),
    ("lowerAscii", Style::Method, 1, 1, Function::LowerAscii),
    ("upperAscii", Style::Method, 1, 1, Function::UpperAscii),
    ("trim", Style::Method, 1, 1, Function::Trim),
    ("split", Style::Method, 2, 3, Function::Split),
    ("join", Style::Method, 1, 2, Function::Join),
    ("replace", Style::Method, 3, 4, Function::Replace),
    ("substring", Style::Method, 2, 3, Function::Substring),
    ("indexOf", Style::Method, 2, 3, Function::IndexOf),
    ("lastIndexOf", Style::Method, 2, 2, Function::LastIndexOf),
    ("charAt", Style::Method, 2, 2, Function::CharAt),
    ("getFullYear", Style::Method, 1, 1, Function::Part(Part::FullYear)),
    ("getMonth", Style::Method, 1, 1, Function::Part(Part::Month)),
    ("getDate", Style::Method, 1, 1, Function::Part(Part::Date)),
    ("getDayOfMonth", Style::Method, 1, 1, Function::Part(Part::DayOfMonth)),
    ("getDayOfWeek", Style::Method, 1, 1, Function::Part(Part::DayOfWeek)),
    ("getDayOfYear", Style::Method, 1, 1, Function::Part(Part::DayOfYear)),
    ("getHours", Style::Method, 1, 1, Function::Part(Part::Hours)),
    ("getMinutes", Style::Method, 1, 1, Function::Part(Part::Minutes)),
    ("getSeconds", Style::Method, 1, 1, Function::Part(Part::Seconds)),
    ("getMilliseconds", Style::Method, 1, 1, Function::Part(Part::Milliseconds)),
    ("hasValue", Style::Method, 1, 1, Function::HasValue),
    ("orValue", Style::Method, 2, 2, Function::OrValue),
    ("value", Style::Method, 1, 1, Function::Value),
    ("dyn", Style::Method, 1, 1, Function::Dyn),
];

impl Function {
    /// The function called `name` with `count` arguments; the error says what is wrong with the call.
    pub(super) fn find(style: Style, name: &str, count: usize) -> Result<Self, String> {
        let mut named = TABLE.iter().filter(|row| row.0 == name).peekable();
        if named.peek().is_none() {
            return Err(format!("there is no function `{name}`"));
        }
        let Some((.., least, most, function)) = named.find(|row| row.1 == style) else {
            return Err(match style {
                Style::Global => format!("`{name}` is called on a value, as in `x.{name}(…)`"),
                Style::Method => format!("`{name}` is not called on a value; write `{name}(…)`"),
            });
        };
        if (*least..=*most).contains(&count) {
            return Ok(*function);
        }
        let receiver = usize::from(style == Style::Method);
        let (least, most, count) = (least - receiver, most - receiver, count - receiver);
        let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
        Err(format!("`{name}` takes {range} arguments, not {count}"))
    }
}

/// Calls a function that needs nothing but its arguments. Missing arguments are a fault, never a panic.
pub(super) fn call<'s>(
    function: Function,
    arguments: &[Item<'s>],
    fuel: &mut Fuel,
) -> Result<Item<'s>, Fault> {
    let Some(first) = arguments.first() else {
        return Err(Fault::new("the function needs an argument"));
    };
    if let Item::Text(text) = first {
        fuel.read(text.len())?;
    }
    match function {
        Function::Size => size(first, fuel),
        Function::Int => to_int(first),
        Function::Uint => to_uint(first),
        Function::Double => to_double(first),
        Function::String => to_text(first, fuel),
        Function::Bool => to_bool(first),
        Function::Bytes => to_bytes(first, fuel),
        Function::Type => Ok(Item::Type(first.type_name())),
        Function::Dyn => Ok(first.clone()),
        Function::Timestamp => to_timestamp(first),
        Function::Duration => match first {
            Item::Text(text) => parse_duration(text).map(Item::Duration),
            Item::Duration(_) => Ok(first.clone()),
            other => Err(no_conversion(other, "duration")),
        },
        Function::Matches => {
            let (text, pattern) = (strings::text(arguments, 0)?, strings::text(arguments, 1)?);
            pattern::matches_dynamic(text, pattern, fuel).map(Item::Bool)
        }
        Function::Part(which) => part(which, first),
        Function::HasValue => optional(first).map(|value| Item::Bool(value.is_some())),
        Function::Value => {
            let value = optional(first)?.map(|value| (**value).clone());
            value.ok_or_else(|| Fault::new("the optional has no value"))
        }
        Function::OrValue => {
            let value = optional(first)?.map(|value| (**value).clone());
            value.or_else(|| arguments.get(1).cloned()).ok_or_else(|| Fault::new("orValue needs an argument"))
        }
        // Need the scope, so the evaluator calls them itself.
        Function::Now | Function::Uuid => Err(Fault::new("the function takes no argument")),
        Function::Contains
        | Function::StartsWith
        | Function::EndsWith
        | Function::LowerAscii
        | Function::UpperAscii
        | Function::Trim
        | Function::Split
        | Function::Join
        | Function::Replace
        | Function::Substring
        | Function::IndexOf
        | Function::LastIndexOf
        | Function::CharAt => strings::call(function, arguments, fuel),
    }
}

fn optional<'a, 's>(item: &'a Item<'s>) -> Result<Option<&'a Rc<Item<'s>>>, Fault> {
    match item {
        Item::Optional(value) => Ok(value.as_ref()),
        other => {
            Err(Fault::new(format!("a {} is not optional; write `.?field` or `[?key]`", other.type_name())))
        }
    }
}

fn size<'s>(item: &Item<'s>, fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    let size = match item {
        Item::Text(text) => text.chars().count(),
        Item::Bytes(bytes) => bytes.len(),
        Item::List(list) => list.len(),
        Item::Map(map) => map.len(fuel)?,
        other => return Err(Fault::new(format!("a {} has no size", other.type_name()))),
    };
    Ok(Item::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn no_conversion(item: &Item<'_>, to: &str) -> Fault {
    Fault::new(format!("a {} does not convert to {to}", item.type_name()))
}

fn unreadable(text: &str, kind: &str) -> Fault {
    let text: String = text.chars().take(40).collect();
    Fault::new(format!("`{text}` is not {kind}"))
}

fn to_int<'s>(item: &Item<'s>) -> Result<Item<'s>, Fault> {
    let number = match item {
        Item::Int(number) => Some(*number),
        Item::Uint(number) => i64::try_from(*number).ok(),
        // The range is exclusive at both ends, as the language's definition says.
        Item::Double(number) if *number > i64::MIN as f64 && *number < i64::MAX as f64 => {
            Some(*number as i64)
        }
        Item::Double(_) => None,
        Item::Text(text) => return text.parse().map(Item::Int).map_err(|_| unreadable(text, "an int")),
        Item::Timestamp(at) => Some(at.unix_ms().div_euclid(1_000)),
        other => return Err(no_conversion(other, "int")),
    };
    number.map(Item::Int).ok_or_else(|| Fault::new("the number does not fit int"))
}

fn to_uint<'s>(item: &Item<'s>) -> Result<Item<'s>, Fault> {
    let number = match item {
        Item::Int(number) => u64::try_from(*number).ok(),
        Item::Uint(number) => Some(*number),
        Item::Double(number) if *number >= 0.0 && *number < u64::MAX as f64 => Some(*number as u64),
        Item::Double(_) => None,
        Item::Text(text) => return text.parse().map(Item::Uint).map_err(|_| unreadable(text, "a uint")),
        other => return Err(no_conversion(other, "uint")),
    };
    number.map(Item::Uint).ok_or_else(|| Fault::new("the number does not fit uint"))
}

fn to_double<'s>(item: &Item<'s>) -> Result<Item<'s>, Fault> {
    match item {
        Item::Int(number) => Ok(Item::Double(*number as f64)),
        Item::Uint(number) => Ok(Item::Double(*number as f64)),
        Item::Double(number) => Ok(Item::Double(*number)),
        // Longer texts are not numbers anyone wrote, and parsing them takes time.
        Item::Text(text) if text.len() <= 400 => {
            text.parse().map(Item::Double).map_err(|_| unreadable(text, "a double"))
        }
        Item::Text(text) => Err(unreadable(text, "a double")),
        other => Err(no_conversion(other, "double")),
    }
}

fn to_bool<'s>(item: &Item<'s>) -> Result<Item<'s>, Fault> {
    match item {
        Item::Bool(value) => Ok(Item::Bool(*value)),
        Item::Text(text) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Item::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Item::Bool(false)),
            _ => Err(unreadable(text, "a bool")),
        },
        other => Err(no_conversion(other, "bool")),
    }
}

fn to_text<'s>(item: &Item<'s>, fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    if !matches!(item, Item::Text(_)) {
        fuel.charge(FORMAT_COST)?;
    }
    let text = match item {
        Item::Text(_) => return Ok(item.clone()),
        Item::Bool(value) => value.to_string(),
        Item::Int(number) => number.to_string(),
        Item::Uint(number) => number.to_string(),
        Item::Double(number) => number.to_string(),
        Item::Timestamp(at) => at.to_string(),
        Item::Duration(ms) => times::duration_text(*ms),
        Item::Bytes(bytes) => {
            fuel.build(bytes.len())?;
            std::str::from_utf8(bytes).map_err(|_| Fault::new("the bytes are not UTF-8"))?.to_owned()
        }
        other => return Err(no_conversion(other, "string")),
    };
    Item::made_text(text, fuel)
}

fn to_bytes<'s>(item: &Item<'s>, fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    match item {
        Item::Bytes(_) => Ok(item.clone()),
        Item::Text(text) => {
            fuel.build(text.len())?;
            Ok(Item::Bytes(Rc::from(text.as_bytes())))
        }
        other => Err(no_conversion(other, "bytes")),
    }
}

fn to_timestamp<'s>(item: &Item<'s>) -> Result<Item<'s>, Fault> {
    match item {
        Item::Timestamp(_) => Ok(item.clone()),
        Item::Text(text) if text.len() <= 64 => {
            text.parse::<Timestamp>().map(Item::Timestamp).map_err(|error| Fault::new(error.to_string()))
        }
        Item::Text(text) => Err(unreadable(text, "an RFC 3339 time")),
        Item::Int(seconds) => {
            seconds.checked_mul(1_000).map_or_else(|| arithmetic::timestamp(i64::MAX), arithmetic::timestamp)
        }
        other => Err(no_conversion(other, "timestamp")),
    }
}

/// The value at `key` of a list or map; `None` if there is none.
pub(super) fn index<'s>(of: &Item<'s>, key: &Item<'s>, fuel: &mut Fuel) -> Result<Option<Item<'s>>, Fault> {
    match of {
        Item::List(list) => match Key::from_item(key) {
            Some(Key::Int(index)) => Ok(usize::try_from(index).ok().and_then(|index| list.get(index))),
            Some(Key::Uint(_)) => Ok(None),
            _ => Err(Fault::new(format!("a list has no index of type {}", key.type_name()))),
        },
        Item::Map(map) => match Key::from_item(key) {
            Some(key) => {
                fuel.read(key.text_length())?;
                map.get(&key, fuel)
            }
            None => Err(Fault::new(format!("a map has no key of type {}", key.type_name()))),
        },
        other => Err(Fault::new(format!("a {} has no index", other.type_name()))),
    }
}
