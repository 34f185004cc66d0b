//! Which keys there are.
//!
//! The structs are the only list: each is asked for its fields by offering it one that it cannot have, since
//! serde's refusal names those that it takes. So a key can neither be forgotten here nor in the documentation,
//! which a test compares with this.

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;

/// Dotted names of all keys, sections resolved.
pub fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    add_keys("", &mut keys);
    keys
}

/// The keys of a section, and of the sections in it.
fn add_keys(section: &str, keys: &mut Vec<String>) {
    for field in fields_of(section) {
        let key = if section.is_empty() { field } else { format!("{section}.{field}") };
        let before = keys.len();
        add_keys(&key, keys);
        if keys.len() == before {
            keys.push(key);
        }
    }
}

/// The fields of the whole configuration, or of one section; none for a key that is not a section.
fn fields_of(section: &str) -> Vec<String> {
    let mut probe = Table::from_iter([("?".to_owned(), Value::Boolean(true))]);
    for name in section.rsplit('.').filter(|name| !name.is_empty()) {
        probe = Table::from_iter([(name.to_owned(), Value::Table(probe))]);
    }
    let Err(error) = Config::deserialize(probe) else { return Vec::new() };
    match error.message().split_once("unknown field `?`, expected ") {
        // Names stand in backticks: every second piece.
        Some((_, names)) => names.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        None => Vec::new(),
    }
}

/// The refusal of a key, with the key that was probably meant.
pub(super) fn unknown_key(key: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|known| (edits(key, known), known)).min();
    match nearest {
        Some((edits, nearest)) if edits <= (key.len() / 3).min(3) => {
            format!("unknown key `{key}`; did you mean `{nearest}`?")
        }
        _ => format!("unknown key `{key}`; `everline config default` lists them all"),
    }
}

/// Levenshtein distance, one row at a time.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_sections_are_found() {
        let keys = known_keys();
        for key in ["data_dir", "egress.allow_private", "agents.slots", "gateway.limits.per_key"] {
            assert!(keys.iter().any(|known| known == key), "{key} in {keys:?}");
        }
        assert!(!keys.iter().any(|key| key == "egress"));
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = known_keys();
        assert!(unknown_key("data_dri", &known).contains("`data_dir`"));
        assert!(!unknown_key("entirely_different", &known).contains("did you mean"));
    }
}
