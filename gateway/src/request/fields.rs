//! Reading the fields of a body, so that every defect has its pointer and unknown fields are found.

use domain::rejection::Problem;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The fields of an object, taken out one by one; end with [`Fields::finish`].
pub(crate) struct Fields {
    map: Map<String, Value>,
    problems: Vec<Problem>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Opens a body.
    pub(crate) fn open(body: Value) -> Result<Self, Failure> {
        match body {
            Value::Object(map) => Ok(Self { map, problems: Vec::new(), known: Vec::new() }),
            other => Err(Failure::invalid_body(vec![wrong_type("", "an object", &other)])),
        }
    }

    /// Reports a defect.
    pub(crate) fn report(&mut self, pointer: &str, code: &'static str, detail: impl Into<String>) {
        self.problems.push(Problem::new(pointer, code, detail));
    }

    /// Reports a defect that another has found.
    pub(crate) fn adopt_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Any value, if the field is there.
    pub(crate) fn any(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name)
    }

    /// Any value; its absence is reported.
    pub(crate) fn required(&mut self, name: &'static str) -> Value {
        self.any(name).unwrap_or_else(|| {
            self.missing(name);
            Value::Null
        })
    }

    /// A text, if it is there and not null.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        match self.any(name)? {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => self.mistyped(name, "a string", &other),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, name: &'static str) -> String {
        if !self.map.contains_key(name) {
            self.known.push(name);
            self.missing(name);
            return String::new();
        }
        match self.any(name) {
            Some(Value::String(text)) => text,
            other => self.mistyped(name, "a string", &other.unwrap_or_default()).unwrap_or_default(),
        }
    }

    /// A whole number within bounds, if it is there and not null.
    pub(crate) fn number(&mut self, name: &'static str, min: u64, max: u64) -> Option<u64> {
        let value = match self.any(name)? {
            Value::Null => return None,
            value => value,
        };
        match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(number) => {
                let detail = format!("`{name}` is {number}; use {min} to {max}");
                self.report(&format!("/{name}"), "out_of_range", detail);
                None
            }
            None => self.mistyped(name, "a whole number of 0 or more", &value),
        }
    }

    /// A whole number within bounds; its absence is reported.
    pub(crate) fn required_number(&mut self, name: &'static str, min: u64, max: u64) -> u64 {
        if !self.map.contains_key(name) {
            self.known.push(name);
            self.missing(name);
            return min;
        }
        if self.map.get(name).is_some_and(Value::is_null) {
            self.known.push(name);
            self.map.remove(name);
            return self.mistyped(name, "a whole number", &Value::Null).unwrap_or(min);
        }
        self.number(name, min, max).unwrap_or(min)
    }

    /// Yes or no, if it is there and not null.
    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.any(name)? {
            Value::Null => None,
            Value::Bool(flag) => Some(flag),
            other => self.mistyped(name, "true or false", &other),
        }
    }

    /// An object; empty if it is absent or null.
    pub(crate) fn object(&mut self, name: &'static str) -> Map<String, Value> {
        match self.any(name) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map,
            Some(other) => self.mistyped(name, "an object", &other).unwrap_or_default(),
        }
    }

    /// All defects so far, and the fields that nobody asked for.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        for name in self.map.keys() {
            let shown: String = name.chars().take(64).collect();
            let detail = format!("`{shown}` is not a field here; use {}", self.known.join(", "));
            self.problems.push(Problem::new(pointer_to(name), "unknown_field", detail));
        }
        self.problems.truncate(100);
        if self.problems.is_empty() { Ok(()) } else { Err(Failure::invalid_body(self.problems)) }
    }

    /// Takes over the defects of an object inside this one, which stands at `pointer`.
    pub(crate) fn adopt(&mut self, pointer: &str, inner: Self) {
        if let Err(failure) = inner.finish() {
            self.problems.extend(failure.errors.into_iter().map(|mut problem| {
                problem.pointer.insert_str(0, pointer);
                problem
            }));
        }
    }

    /// What is left: for bodies that are a document of their own beside a few fields.
    pub(crate) fn rest(self) -> Result<Value, Failure> {
        if self.problems.is_empty() {
            Ok(Value::Object(self.map))
        } else {
            Err(Failure::invalid_body(self.problems))
        }
    }

    fn missing(&mut self, name: &str) {
        self.report("", "missing_field", format!("the field `{name}` is missing"));
    }

    fn mistyped<T>(&mut self, name: &str, expected: &str, found: &Value) -> Option<T> {
        self.problems.push(wrong_type(&pointer_to(name), expected, found));
        None
    }
}

fn pointer_to(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn wrong_type(pointer: &str, expected: &str, found: &Value) -> Problem {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Problem::new(pointer, "wrong_type", format!("expected {expected}, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_defect_is_reported_with_its_pointer() {
        let mut fields =
            Fields::open(json!({"wait_ms": 60_001, "version": "x", "a/b": 1})).expect("an object");
        assert_eq!(fields.number("wait_ms", 0, 60_000), None);
        assert_eq!(fields.number("version", 1, u64::MAX), None);
        assert_eq!(fields.required_text("name"), "");
        let failure = fields.finish().expect_err("defects");
        let found: Vec<_> = failure.errors.iter().map(|p| (p.pointer.as_str(), p.code.as_ref())).collect();
        assert_eq!(
            found,
            [
                ("/wait_ms", "out_of_range"),
                ("/version", "wrong_type"),
                ("", "missing_field"),
                ("/a~1b", "unknown_field")
            ]
        );
        assert!(Fields::open(json!([])).is_err());
    }
}
