//! Equality and order of values.
//!
//! Numbers of different types compare by their mathematical value. Values of different types are unequal, not
//! an error; ordering them is an error. NaN equals nothing and has no order.

use super::error::Fault;
use super::fuel::Fuel;
use super::value::{Item, List, Map, check_depth};
use std::cmp::Ordering;

/// `a == b`; paid by the size of what is looked at.
pub(super) fn equal(a: &Item<'_>, b: &Item<'_>, fuel: &mut Fuel) -> Result<bool, Fault> {
    equal_at(a, b, fuel, 0)
}

fn equal_at(a: &Item<'_>, b: &Item<'_>, fuel: &mut Fuel, depth: u16) -> Result<bool, Fault> {
    check_depth(depth)?;
    fuel.charge(1)?;
    Ok(match (a, b) {
        (Item::Null, Item::Null) => true,
        (Item::Bool(a), Item::Bool(b)) => a == b,
        (Item::Text(a), Item::Text(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            fuel.read(a.len())?;
            **a == **b
        }
        (Item::Bytes(a), Item::Bytes(b)) => {
            fuel.read(a.len())?;
            a == b
        }
        (Item::List(a), Item::List(b)) => return equal_lists(a, b, fuel, depth),
        (Item::Map(a), Item::Map(b)) => return equal_maps(a, b, fuel, depth),
        (Item::Timestamp(a), Item::Timestamp(b)) => a == b,
        (Item::Duration(a), Item::Duration(b)) => a == b,
        (Item::Type(a), Item::Type(b)) => a == b,
        (Item::Optional(a), Item::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => return equal_at(a, b, fuel, depth + 1),
            (a, b) => a.is_none() && b.is_none(),
        },
        _ => order_numbers(a, b).is_some_and(|order| order == Some(Ordering::Equal)),
    })
}

fn equal_lists(a: &List<'_>, b: &List<'_>, fuel: &mut Fuel, depth: u16) -> Result<bool, Fault> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for index in 0..a.len() {
        let (Some(left), Some(right)) = (a.get(index), b.get(index)) else {
            return Ok(false);
        };
        if !equal_at(&left, &right, fuel, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps<'s>(a: &Map<'s>, b: &Map<'_>, fuel: &mut Fuel, depth: u16) -> Result<bool, Fault> {
    if a.len(fuel)? != b.len(fuel)? {
        return Ok(false);
    }
    let (left_keys, right_keys) = (a.keys(fuel)?, b.keys(fuel)?);
    for (left_key, right_key) in left_keys.iter().zip(&right_keys) {
        if left_key.cmp(right_key) != Ordering::Equal {
            return Ok(false);
        }
        let (Some(left), Some(right)) = (a.get(left_key, fuel)?, b.get(right_key, fuel)?) else {
            return Ok(false);
        };
        if !equal_at(&left, &right, fuel, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of `a` and `b`: `Ok(None)` where there is a NaN, an error if the types have no order.
pub(super) fn order(a: &Item<'_>, b: &Item<'_>, fuel: &mut Fuel) -> Result<Option<Ordering>, Fault> {
    if let Some(order) = order_numbers(a, b) {
        return Ok(order);
    }
    Ok(Some(match (a, b) {
        (Item::Text(a), Item::Text(b)) => {
            fuel.read(a.len().min(b.len()))?;
            (**a).cmp(&**b)
        }
        (Item::Bytes(a), Item::Bytes(b)) => {
            fuel.read(a.len().min(b.len()))?;
            a.cmp(b)
        }
        (Item::Bool(a), Item::Bool(b)) => a.cmp(b),
        (Item::Timestamp(a), Item::Timestamp(b)) => a.cmp(b),
        (Item::Duration(a), Item::Duration(b)) => a.cmp(b),
        _ => {
            let (a, b) = (a.type_name(), b.type_name());
            return Err(Fault::new(format!("{a} and {b} have no order; convert one of them")));
        }
    }))
}

/// The order of two numbers; the outer `None` if one of them is not a number, the inner one for NaN.
fn order_numbers(a: &Item<'_>, b: &Item<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Item::Int(a), Item::Int(b)) => Some(a.cmp(b)),
        (Item::Double(a), Item::Double(b)) => a.partial_cmp(b),
        (Item::Double(a), b) => order_double(*a, integer(b)?),
        (a, Item::Double(b)) => order_double(*b, integer(a)?).map(Ordering::reverse),
        (a, b) => Some(integer(a)?.cmp(&integer(b)?)),
    })
}

fn integer(item: &Item<'_>) -> Option<i128> {
    match item {
        Item::Int(number) => Some(i128::from(*number)),
        Item::Uint(number) => Some(i128::from(*number)),
        _ => None,
    }
}

/// Exact, unlike converting the integer to a double, which would round it.
fn order_double(double: f64, integer: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // The cast saturates, and 64-bit integers are far from the ends of i128.
    let whole = double.trunc() as i128;
    Some(whole.cmp(&integer).then_with(|| double.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal)))
}
