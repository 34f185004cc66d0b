//! `+ - * / %` and negation.
//!
//! As in CEL, numbers of different types do not mix; the message says which conversion helps. Integer overflow
//! and division of integers by zero are errors.

use super::ast::Operator;
use super::error::Fault;
use super::fuel::Fuel;
use super::value::{Item, Text};
use crate::time::Timestamp;
use std::rc::Rc;

/// `a operator b`.
pub(super) fn calculate<'s>(
    operator: Operator,
    a: Item<'s>,
    b: Item<'s>,
    fuel: &mut Fuel,
) -> Result<Item<'s>, Fault> {
    match (a, b) {
        (Item::Int(a), Item::Int(b)) => {
            if b == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
                return Err(Fault::new("division by zero"));
            }
            let result = match operator {
                Operator::Add => a.checked_add(b),
                Operator::Subtract => a.checked_sub(b),
                Operator::Multiply => a.checked_mul(b),
                Operator::Divide => a.checked_div(b),
                Operator::Remainder => a.checked_rem(b),
            };
            result.map(Item::Int).ok_or_else(overflow)
        }
        (Item::Uint(a), Item::Uint(b)) => {
            if b == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
                return Err(Fault::new("division by zero"));
            }
            let result = match operator {
                Operator::Add => a.checked_add(b),
                Operator::Subtract => a.checked_sub(b),
                Operator::Multiply => a.checked_mul(b),
                Operator::Divide => a.checked_div(b),
                Operator::Remainder => a.checked_rem(b),
            };
            result.map(Item::Uint).ok_or_else(overflow)
        }
        (Item::Double(a), Item::Double(b)) => match operator {
            Operator::Add => Ok(Item::Double(a + b)),
            Operator::Subtract => Ok(Item::Double(a - b)),
            Operator::Multiply => Ok(Item::Double(a * b)),
            Operator::Divide => Ok(Item::Double(a / b)),
            Operator::Remainder => Err(no_overload(operator, "double", "double")),
        },
        (a, b) if operator == Operator::Add => add(a, b, fuel),
        (a, b) if operator == Operator::Subtract => subtract(&a, &b),
        (a, b) => Err(no_overload(operator, a.type_name(), b.type_name())),
    }
}

fn add<'s>(a: Item<'s>, b: Item<'s>, fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    match (a, b) {
        (Item::Text(a), Item::Text(b)) => {
            // Adding nothing costs nothing, so that loops over mostly empty texts stay cheap.
            if a.is_empty() {
                return Ok(Item::Text(b));
            }
            fuel.build(a.len() + b.len() + 32)?;
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(&a);
            text.push_str(&b);
            Ok(Item::Text(Text::Made(text.into())))
        }
        (Item::List(a), Item::List(b)) => {
            let length = a.len() + b.len();
            fuel.build(length * size_of::<Item<'_>>())?;
            fuel.charge(length as u64 / 2)?;
            let items = (0..a.len()).filter_map(|index| a.get(index));
            let items = items.chain((0..b.len()).filter_map(|index| b.get(index)));
            Item::made_list(items.collect(), fuel)
        }
        (Item::Bytes(a), Item::Bytes(b)) => {
            fuel.build(a.len() + b.len() + 32)?;
            Ok(Item::Bytes(Rc::from([&*a, &*b].concat())))
        }
        (Item::Timestamp(at), Item::Duration(ms)) | (Item::Duration(ms), Item::Timestamp(at)) => {
            at.unix_ms().checked_add(ms).ok_or_else(overflow).and_then(timestamp)
        }
        (Item::Duration(a), Item::Duration(b)) => a.checked_add(b).map(Item::Duration).ok_or_else(overflow),
        (a, b) => Err(no_overload(Operator::Add, a.type_name(), b.type_name())),
    }
}

fn subtract<'s>(a: &Item<'s>, b: &Item<'s>) -> Result<Item<'s>, Fault> {
    match (a, b) {
        (Item::Timestamp(a), Item::Timestamp(b)) => {
            a.unix_ms().checked_sub(b.unix_ms()).map(Item::Duration).ok_or_else(overflow)
        }
        (Item::Timestamp(at), Item::Duration(ms)) => {
            at.unix_ms().checked_sub(*ms).ok_or_else(overflow).and_then(timestamp)
        }
        (Item::Duration(a), Item::Duration(b)) => a.checked_sub(*b).map(Item::Duration).ok_or_else(overflow),
        (a, b) => Err(no_overload(Operator::Subtract, a.type_name(), b.type_name())),
    }
}

/// `-a`.
pub(super) fn negate<'s>(a: &Item<'s>) -> Result<Item<'s>, Fault> {
    match a {
        Item::Int(a) => a.checked_neg().map(Item::Int).ok_or_else(overflow),
        Item::Double(a) => Ok(Item::Double(-a)),
        Item::Duration(a) => a.checked_neg().map(Item::Duration).ok_or_else(overflow),
        a => Err(Fault::new(format!("`-` does not apply to {}", a.type_name()))),
    }
}

/// The time `ms` after 1970, if it lies within the years 0000 to 9999.
pub(super) fn timestamp<'s>(ms: i64) -> Result<Item<'s>, Fault> {
    let at = Timestamp::from_unix_ms(ms);
    if at.unix_ms() != ms {
        return Err(Fault::new("the time is outside the years 0000 to 9999"));
    }
    Ok(Item::Timestamp(at))
}

fn overflow() -> Fault {
    Fault::new("the result does not fit 64 bits")
}

fn no_overload(operator: Operator, a: &str, b: &str) -> Fault {
    let sign = match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::Remainder => "%",
    };
    let is_number = |name: &str| matches!(name, "int" | "uint" | "double");
    let hint = match (a, b) {
        (a, b) if is_number(a) && is_number(b) && a != b => match (a, b) {
            ("double", _) | (_, "double") => {
                "; numbers of different types do not mix, use double(x) on the other"
            }
            _ => "; numbers of different types do not mix, use int(x) on the other",
        },
        ("double", "double") => "; use int(x)",
        ("string", _) | (_, "string") if operator == Operator::Add => "; use string(x) to make text",
        ("null_type", _) | (_, "null_type") => "; one side is null",
        _ => "",
    };
    Fault::new(format!("`{sign}` does not apply to {a} and {b}{hint}"))
}
