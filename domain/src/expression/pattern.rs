//! Regular expressions for `matches`, with bounded cost.
//!
//! The `regex` crate is linear in the text, but its factor is the size of the compiled pattern, and counted
//! repetition makes small patterns large. [`weight`] bounds that size from the text of the pattern alone, so
//! that both compiling and matching can be charged before they are done.
//!
//! Invariant: nothing compiled outlives the evaluation, so that the charge is the same each time.

use super::error::Fault;
use super::fuel::Fuel;
use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;

/// The largest compiled pattern, in bytes; compiling more than this is given up.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// The most memory for automata made while matching, in bytes.
const MAX_AUTOMATON_BYTES: usize = 512 * 1024;

/// The most steps that compiling up to [`MAX_COMPILED_BYTES`] takes.
const MAX_COMPILE_COST: u64 = 500_000;

/// The deepest nesting of groups in a pattern.
const MAX_NESTING: u32 = 32;

/// What a small class such as `.` or `[^a]` weighs.
const CLASS_WEIGHT: u64 = 10;

/// What `\w` or `\pL` weighs: Unicode has many of them.
const UNICODE_CLASS_WEIGHT: u64 = 60;

/// Patterns heavier than this are refused.
const MAX_WEIGHT: u64 = 10_000;

/// A pattern that is written out in the program. It is compiled once per evaluation, not once for all: compiled
/// patterns and their caches are large, and a definition may have thousands.
#[derive(Debug)]
pub(super) struct Pattern {
    text: Box<str>,
    weight: u64,
}

impl Pattern {
    /// How many patterns of a program are checked when it is parsed; the rest at their first use.
    pub(super) const CHECKED_PER_PROGRAM: u16 = 32;

    /// A pattern from the source; with `check`, its syntax is checked at once.
    pub(super) fn literal(text: &str, check: bool) -> Result<Self, String> {
        let pattern = Self { text: text.into(), weight: checked_weight(text)? };
        if check {
            // With no room for the result, building stops right after the syntax was found good.
            match RegexBuilder::new(text).size_limit(0).nest_limit(MAX_NESTING).build() {
                Ok(_) | Err(regex::Error::CompiledTooBig(_)) => {}
                Err(error) => return Err(describe(&error)),
            }
        }
        Ok(pattern)
    }

    /// Whether `text` contains a match; `compiled` is where this evaluation keeps the compiled pattern.
    pub(super) fn is_match(
        &self,
        text: &str,
        compiled: &mut Option<Regex>,
        fuel: &mut Fuel,
    ) -> Result<bool, Fault> {
        fuel.charge(match_cost(self.weight, text.len()))?;
        if let Some(regex) = compiled {
            return Ok(regex.is_match(text));
        }
        fuel.charge(compile_cost(self.weight))?;
        let regex = compile(&self.text).map_err(Fault::new)?;
        Ok(compiled.insert(regex).is_match(text))
    }
}

/// `matches` with a pattern that comes from data.
pub(super) fn matches_dynamic(text: &str, pattern: &str, fuel: &mut Fuel) -> Result<bool, Fault> {
    let weight = checked_weight(pattern).map_err(Fault::new)?;
    fuel.charge(compile_cost(weight) + match_cost(weight, text.len()))?;
    Ok(compile(pattern).map_err(Fault::new)?.is_match(text))
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_AUTOMATON_BYTES)
        .nest_limit(MAX_NESTING)
        .build()
        .map_err(|error| describe(&error))
}

/// The crate's text draws the pattern over several lines; its last line has the reason.
fn describe(error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("the pattern is not a valid regular expression: {reason}")
}

fn checked_weight(pattern: &str) -> Result<u64, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("a pattern has at most {MAX_PATTERN_BYTES} bytes"));
    }
    Some(weight(pattern))
        .filter(|weight| *weight <= MAX_WEIGHT)
        .ok_or_else(|| "the pattern is too large; use smaller counts, and not the flag x".to_owned())
}

fn compile_cost(weight: u64) -> u64 {
    (1_000 + weight * 150).min(MAX_COMPILE_COST)
}

fn match_cost(weight: u64, length: usize) -> u64 {
    4 + (length as u64).saturating_mul(4 + weight) / 16
}

/// A bound on the states of the compiled pattern: the sum over its atoms, where a Unicode class weighs more,
/// times the counts that apply to them. Brackets of both kinds are groups; where they do not match (`[(]`), a
/// group takes in more than it should, which only makes the bound larger.
fn weight(pattern: &str) -> u64 {
    // Per open group: what it weighs so far, and its last atom, which a count would multiply.
    let mut groups: Vec<(u64, u64)> = vec![(0, 0)];
    let bytes = pattern.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        let atom = match byte {
            b'(' | b'[' => {
                if *byte == b'(' && is_verbose(&bytes[at..]) {
                    return u64::MAX;
                }
                groups.push((0, if *byte == b'[' { CLASS_WEIGHT } else { 2 }));
                continue;
            }
            b')' | b']' => {
                let (sum, last) = groups.pop().unwrap_or_default();
                if groups.is_empty() {
                    groups.push((0, 0));
                }
                sum.saturating_add(last)
            }
            b'{' | b'*' | b'+' | b'?' => {
                let (count, length) = if *byte == b'{' { repetition(&bytes[at..]) } else { (1, 0) };
                at += length;
                if let Some((_, last)) = groups.last_mut() {
                    *last = last.saturating_mul(count).saturating_add(1);
                }
                continue;
            }
            b'\\' => {
                let class = bytes.get(at).copied().unwrap_or_default();
                at += 1;
                let is_class = matches!(class, b'w' | b'W' | b'd' | b'D' | b's' | b'S' | b'p' | b'P');
                if is_class { UNICODE_CLASS_WEIGHT } else { 2 }
            }
            b'.' | b'^' => CLASS_WEIGHT,
            0x80.. => 3,
            _ => 1,
        };
        if let Some((sum, last)) = groups.last_mut() {
            *sum = sum.saturating_add(*last);
            *last = atom;
        }
    }
    let total =
        groups.iter().fold(0_u64, |total, (sum, last)| total.saturating_add(*sum).saturating_add(*last));
    // Flags can make every letter stand for several.
    total.saturating_mul(if pattern.contains("(?") { 2 } else { 1 })
}

/// Whether a group that opens before `bytes` sets the flag `x`, under which a count may be far from its atom.
fn is_verbose(bytes: &[u8]) -> bool {
    let flags = bytes.strip_prefix(b"?").unwrap_or_default();
    flags.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').any(|byte| *byte == b'x')
}

/// The larger number of `n}`, `n,}` or `n,m}`, and the length of the text up to the brace.
fn repetition(bytes: &[u8]) -> (u64, usize) {
    let length = bytes.iter().position(|byte| *byte == b'}').map_or(bytes.len(), |brace| brace + 1);
    let mut count = 1_u64;
    let mut number = 0_u64;
    for byte in &bytes[..length] {
        if byte.is_ascii_digit() {
            number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
            count = count.max(number.saturating_add(1));
        } else {
            number = 0;
        }
    }
    (count, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_counts_multiply_in_the_weight() {
        assert!(weight("^[a-z]+@example\\.com$") < 100);
        assert!(weight("((a{30}){30}){30}") > MAX_WEIGHT);
        assert!(weight("(?i)((a{1000}){1000}") > MAX_WEIGHT);
        assert!(weight("((a{30})+{30})*{30}") > MAX_WEIGHT);
        assert!(weight("[\\w\\d]{100}") > 100 * UNICODE_CLASS_WEIGHT);
        assert!(weight("[]\\w]{100}") > 100 * UNICODE_CLASS_WEIGHT);
        assert_eq!(weight("(?x)a # {\n {1000}"), u64::MAX);
    }
}
