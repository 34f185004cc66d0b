//! Functions on text. Positions count code points, as everywhere in CEL.
//!
//! Invariant: a function that builds pays for the exact size of its result before it builds it.

use super::error::Fault;
use super::fuel::Fuel;
use super::functions::Function;
use super::value::{Item, Text};

/// The text among `arguments` at `at`.
pub(super) fn text<'a>(arguments: &'a [Item<'_>], at: usize) -> Result<&'a str, Fault> {
    match arguments.get(at) {
        Some(Item::Text(text)) => Ok(text),
        Some(other) => Err(Fault::new(format!("expected a string, found {}", other.type_name()))),
        None => Err(Fault::new("an argument is missing")),
    }
}

/// The optional number among `arguments` at `at`.
fn number(arguments: &[Item<'_>], at: usize) -> Result<Option<i64>, Fault> {
    match arguments.get(at) {
        Some(Item::Int(number)) => Ok(Some(*number)),
        Some(other) => Err(Fault::new(format!("expected an int, found {}", other.type_name()))),
        None => Ok(None),
    }
}

/// Calls one of the functions on text.
pub(super) fn call<'s>(
    function: Function,
    arguments: &[Item<'s>],
    fuel: &mut Fuel,
) -> Result<Item<'s>, Fault> {
    if function == Function::Join {
        return join(arguments, fuel);
    }
    // The caller has paid for reading the subject.
    let subject = text(arguments, 0)?;
    match function {
        Function::Contains => Ok(Item::Bool(subject.contains(paid_needle(arguments, fuel)?))),
        Function::StartsWith => Ok(Item::Bool(subject.starts_with(text(arguments, 1)?))),
        Function::EndsWith => Ok(Item::Bool(subject.ends_with(text(arguments, 1)?))),
        Function::LowerAscii => {
            fuel.build(subject.len())?;
            Ok(Item::paid_text(subject.to_ascii_lowercase()))
        }
        Function::UpperAscii => {
            fuel.build(subject.len())?;
            Ok(Item::paid_text(subject.to_ascii_uppercase()))
        }
        Function::Trim => slice(arguments, subject.trim(), fuel),
        Function::Split => split(arguments, fuel),
        Function::Replace => replace(arguments, fuel),
        Function::Substring => substring(arguments, fuel),
        Function::IndexOf => {
            let needle = paid_needle(arguments, fuel)?;
            let from = number(arguments, 2)?.unwrap_or(0);
            let start = byte_offset(subject, from)?;
            let found = subject[start..].find(needle).map(|byte| &subject[..start + byte]);
            Ok(Item::Int(found.map_or(-1, |before| before.chars().count() as i64)))
        }
        Function::LastIndexOf => {
            let found = subject.rfind(paid_needle(arguments, fuel)?).map(|byte| &subject[..byte]);
            Ok(Item::Int(found.map_or(-1, |before| before.chars().count() as i64)))
        }
        Function::CharAt => {
            let at = number(arguments, 1)?.unwrap_or(0);
            let start = byte_offset(subject, at)?;
            let length = subject[start..].chars().next().map_or(0, char::len_utf8);
            slice(arguments, &subject[start..start + length], fuel)
        }
        _ => Err(Fault::new("the function does not apply to a string")),
    }
}

/// The second argument, after paying for a search with it: preparing the search reads all of it, and searching
/// is slower than reading.
fn paid_needle<'a>(arguments: &'a [Item<'_>], fuel: &mut Fuel) -> Result<&'a str, Fault> {
    let needle = text(arguments, 1)?;
    fuel.read(text(arguments, 0)?.len().saturating_mul(2).saturating_add(needle.len()))?;
    Ok(needle)
}

/// A part of the first argument, borrowed if that one is.
fn slice<'s>(arguments: &[Item<'s>], part: &str, fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    if let Some(Item::Text(Text::Borrowed(whole))) = arguments.first() {
        // `part` lies in `whole`, so its place can be told from the addresses.
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        if let Some(borrowed) = start.checked_add(part.len()).and_then(|end| whole.get(start..end)) {
            return Ok(Item::Text(Text::Borrowed(borrowed)));
        }
    }
    fuel.build(part.len() + 32)?;
    Ok(Item::paid_text(part.to_owned()))
}

/// Where code point `position` starts; the end of the text is a position too.
fn byte_offset(text: &str, position: i64) -> Result<usize, Fault> {
    let offset = usize::try_from(position).ok().and_then(|position| {
        text.char_indices().map(|(byte, _)| byte).chain(std::iter::once(text.len())).nth(position)
    });
    offset.ok_or_else(|| Fault::new(format!("position {position} is outside the string")))
}

fn substring<'s>(arguments: &[Item<'s>], fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    let subject = text(arguments, 0)?;
    let start = byte_offset(subject, number(arguments, 1)?.unwrap_or(0))?;
    let end = match number(arguments, 2)? {
        Some(end) => byte_offset(subject, end)?,
        None => subject.len(),
    };
    match subject.get(start..end) {
        Some(part) => slice(arguments, part, fuel),
        None => Err(Fault::new("the substring ends before it starts")),
    }
}

/// How many pieces or replacements are asked for; a negative number means all.
fn limit(arguments: &[Item<'_>], at: usize) -> Result<usize, Fault> {
    Ok(number(arguments, at)?.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
}

fn split<'s>(arguments: &[Item<'s>], fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    let subject = text(arguments, 0)?;
    let separator = paid_needle(arguments, fuel)?;
    let limit = limit(arguments, 2)?;
    let mut items = Vec::new();
    if limit == 0 {
        return Item::made_list(items, fuel);
    }
    if separator.is_empty() {
        // Into code points; the last piece takes the rest.
        let mut rest = subject;
        while let Some(first) = rest.chars().next() {
            let length = if items.len() + 1 == limit { rest.len() } else { first.len_utf8() };
            fuel.build(size_of::<Item<'_>>())?;
            items.push(slice(arguments, &rest[..length], fuel)?);
            rest = &rest[length..];
        }
    } else {
        for part in subject.splitn(limit, separator) {
            fuel.build(size_of::<Item<'_>>())?;
            items.push(slice(arguments, part, fuel)?);
        }
    }
    Item::made_list(items, fuel)
}

fn join<'s>(arguments: &[Item<'s>], fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    let Some(Item::List(list)) = arguments.first() else {
        return Err(Fault::new("`join` applies to a list of strings"));
    };
    let separator = if arguments.len() > 1 { text(arguments, 1)? } else { "" };
    fuel.charge(list.len() as u64)?;
    let mut joined = String::new();
    for index in 0..list.len() {
        match list.get(index) {
            Some(Item::Text(part)) => {
                fuel.build(part.len() + separator.len())?;
                if index > 0 {
                    joined.push_str(separator);
                }
                joined.push_str(&part);
            }
            Some(other) => {
                let kind = other.type_name();
                return Err(Fault::new(format!(
                    "`join` found a {kind} at {index}; use map(x, string(x)) first"
                )));
            }
            None => return Err(Fault::new("the list is shorter than its length")),
        }
    }
    Ok(Item::paid_text(joined))
}

fn replace<'s>(arguments: &[Item<'s>], fuel: &mut Fuel) -> Result<Item<'s>, Fault> {
    let subject = text(arguments, 0)?;
    let old = paid_needle(arguments, fuel)?;
    let new = text(arguments, 2)?;
    let limit = limit(arguments, 3)?;
    // Counted first, because the result can be much longer than its parts.
    let count = subject.matches(old).take(limit).count();
    fuel.charge(count as u64)?;
    let length = count.saturating_mul(new.len()).saturating_add(subject.len());
    fuel.build(length)?;
    Ok(Item::paid_text(subject.replacen(old, new, limit)))
}
