//! Durations and the parts of a time, in whole milliseconds, UTC.
//!
//! Absent: time zones, and anything finer than a millisecond, which the log could not keep.

use super::error::Fault;
use super::value::Item;
use crate::time::Timestamp;
use time::OffsetDateTime;

/// Units of a duration text and their length in milliseconds.
const UNITS: [(&str, i64); 5] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("d", 86_400_000)];

/// Which part of a time or duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// Day of the month from 1.
    Date,
    /// Day of the month from 0.
    DayOfMonth,
    /// Sunday is 0.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// The `part` of a timestamp; of a duration, the whole of it in that unit.
pub(super) fn part<'s>(part: Part, of: &Item<'s>) -> Result<Item<'s>, Fault> {
    let number = match of {
        Item::Timestamp(at) => part_of_time(part, *at),
        Item::Duration(ms) => match part {
            Part::Hours => ms / 3_600_000,
            Part::Minutes => ms / 60_000,
            Part::Seconds => ms / 1_000,
            Part::Milliseconds => ms % 1_000,
            _ => return Err(Fault::new("a duration has no such part")),
        },
        other => return Err(Fault::new(format!("a {} is not a time; use timestamp(x)", other.type_name()))),
    };
    Ok(Item::Int(number))
}

fn part_of_time(part: Part, at: Timestamp) -> i64 {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.unix_ms()) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    match part {
        Part::FullYear => i64::from(time.year()),
        Part::Month => i64::from(u8::from(time.month())) - 1,
        Part::Date => i64::from(time.day()),
        Part::DayOfMonth => i64::from(time.day()) - 1,
        Part::DayOfWeek => i64::from(time.weekday().number_days_from_sunday()),
        Part::DayOfYear => i64::from(time.ordinal()) - 1,
        Part::Hours => i64::from(time.hour()),
        Part::Minutes => i64::from(time.minute()),
        Part::Seconds => i64::from(time.second()),
        Part::Milliseconds => i64::from(time.millisecond()),
    }
}

/// `3.5s`, `-0.25s`, `90s`.
pub(super) fn duration_text(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let magnitude = ms.unsigned_abs();
    let (seconds, rest) = (magnitude / 1_000, magnitude % 1_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{rest:03}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// Milliseconds of `1h30m`, `3.5s`, `250ms`, `2d`, with an optional sign.
pub(super) fn parse_duration(text: &str) -> Result<i64, Fault> {
    let refuse = || {
        let text: String = text.chars().take(40).collect();
        Fault::new(format!("`{text}` is not a duration in whole milliseconds, for instance 1h30m or 3.5s"))
    };
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() || rest.len() > 64 {
        return Err(refuse());
    }
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, length) = UNITS.into_iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(refuse)?;
        let term = scaled(number, length).ok_or_else(refuse)?;
        sum = sum.checked_add(term).ok_or_else(refuse)?;
        rest = &tail[unit.len()..];
    }
    Ok(sign * sum)
}

/// `number` times `length`, if that is whole.
fn scaled(number: &str, length: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.trim_end_matches('0');
    let base = whole.checked_mul(length)?;
    if fraction.is_empty() {
        return Some(base);
    }
    let scale = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<i64>().ok()?.checked_mul(length)?;
    if part % scale != 0 {
        return None;
    }
    base.checked_add(part / scale)
}
