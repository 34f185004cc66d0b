//! Reading JSON objects field by field, so that every defect has its pointer and unknown fields are found.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashSet;

use crate::expression::{Credentials, MAX_KEY_BYTES, Program, Template};
use crate::rejection::Problem;

use super::problems::Problems;

/// The most characters of a name from the document in a problem's text.
const SHOWN_CHARS: usize = 64;

/// Reads one object of a document. Call [`Reader::finish`] last: it reports the fields nobody asked for.
pub(crate) struct Reader<'a, 'p> {
    fields: &'a Map<String, Value>,
    pointer: String,
    known: HashSet<&'static str>,
    problems: &'p mut Problems,
}

impl<'a, 'p> Reader<'a, 'p> {
    /// Opens an object at a pointer, or reports that there is none.
    pub(crate) fn open(value: &'a Value, pointer: &str, problems: &'p mut Problems) -> Option<Self> {
        match value.as_object() {
            Some(fields) => {
                Some(Self { fields, pointer: pointer.to_owned(), known: HashSet::new(), problems })
            }
            None => {
                problems.push(wrong_type(pointer, "an object", value));
                None
            }
        }
    }

    /// Reports a defect at a field of this object, or at the object itself for an empty field.
    pub(crate) fn report(&mut self, field: &str, code: &'static str, detail: impl Into<String>) {
        let pointer = self.pointer_of(field);
        self.problems.push(Problem::new(pointer, code, detail));
    }

    /// The pointer of a field.
    pub(crate) fn pointer_of(&self, field: &str) -> String {
        if field.is_empty() { self.pointer.clone() } else { join(&self.pointer, field) }
    }

    /// Where further defects go.
    pub(crate) fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// The field, if it is there and not null.
    pub(crate) fn optional(&mut self, field: &'static str) -> Option<&'a Value> {
        self.known.insert(field);
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// The field; its absence is reported.
    pub(crate) fn required(&mut self, field: &'static str) -> Option<&'a Value> {
        self.known.insert(field);
        let value = self.fields.get(field);
        if value.is_none() {
            self.report("", "missing_field", format!("the field `{field}` is missing"));
        }
        value
    }

    /// An optional text.
    pub(crate) fn text(&mut self, field: &'static str) -> Option<&'a str> {
        let value = self.optional(field)?;
        self.typed(field, value, "a string", Value::as_str)
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, field: &'static str) -> Option<&'a str> {
        let value = self.required(field)?;
        self.typed(field, value, "a string", Value::as_str)
    }

    /// An optional whole number within bounds.
    pub(crate) fn number(&mut self, field: &'static str, min: u64, max: u64) -> Option<u64> {
        let value = self.optional(field)?;
        let number = self.typed(field, value, "a whole number of 0 or more", Value::as_u64)?;
        if (min..=max).contains(&number) {
            return Some(number);
        }
        self.report(field, "out_of_range", format!("`{field}` is {number}; use {min} to {max}"));
        None
    }

    /// A whole number within bounds that must be there.
    pub(crate) fn required_number(&mut self, field: &'static str, min: u64, max: u64) -> Option<u64> {
        let value = self.required(field)?;
        if value.is_null() {
            return self.typed(field, value, "a whole number of 0 or more", Value::as_u64);
        }
        self.number(field, min, max)
    }

    /// An optional finite number within bounds.
    pub(crate) fn decimal(&mut self, field: &'static str, min: f64, max: f64) -> Option<f64> {
        let value = self.optional(field)?;
        let number = self.typed(field, value, "a number", Value::as_f64)?;
        if (min..=max).contains(&number) {
            return Some(number);
        }
        self.report(field, "out_of_range", format!("`{field}` is {number}; use {min} to {max}"));
        None
    }

    /// An optional yes or no.
    pub(crate) fn flag(&mut self, field: &'static str) -> Option<bool> {
        let value = self.optional(field)?;
        self.typed(field, value, "true or false", Value::as_bool)
    }

    /// An optional list.
    pub(crate) fn list(&mut self, field: &'static str) -> Option<&'a [Value]> {
        let value = self.optional(field)?;
        self.typed(field, value, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    /// A list that must be there.
    pub(crate) fn required_list(&mut self, field: &'static str) -> Option<&'a [Value]> {
        let value = self.required(field)?;
        self.typed(field, value, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    /// A CEL expression that must be there.
    pub(crate) fn required_expression(&mut self, field: &'static str) -> Option<Program> {
        let source = self.required_text(field)?;
        match Program::parse(source) {
            Ok(program) => Some(program),
            Err(error) => {
                self.report(field, error.code, error.message);
                None
            }
        }
    }

    /// A template: any JSON. Its problems carry the field's pointer.
    pub(crate) fn template(
        &mut self,
        field: &'static str,
        value: &Value,
        credentials: Credentials,
    ) -> Option<Template> {
        match Template::parse(value, credentials) {
            Ok(template) => Some(template),
            Err(found) => {
                let base = self.pointer_of(field);
                for p in found {
                    self.problems.push(Problem::new(format!("{base}{}", p.pointer), p.code, p.message));
                }
                None
            }
        }
    }

    /// A graph inside this one. `field` may have further segments.
    pub(crate) fn graph(&mut self, field: &str, value: &Value) -> Option<super::Graph> {
        let pointer = format!("{}/{field}", self.pointer);
        super::connect::read(value, &pointer, self.problems)
    }

    /// Marks fields that are kept and never interpreted.
    pub(crate) fn ignore(&mut self, fields: &[&'static str]) {
        self.known.extend(fields);
    }

    /// Refuses fields of the format that this build does not carry out yet.
    pub(crate) fn not_yet(&mut self, fields: &[&'static str]) {
        for field in fields {
            if self.optional(field).is_some() {
                self.report(
                    field,
                    "not_supported_yet",
                    format!(
                        "`{field}` is part of the format, but this release does not carry it out; remove it"
                    ),
                );
            }
        }
    }

    /// Reports the fields that nobody asked for.
    pub(crate) fn finish(self) {
        for field in self.fields.keys().filter(|field| !self.known.contains(field.as_str())) {
            if self.problems.is_full() {
                return;
            }
            // A key as large as a document may be is not repeated: the object and its beginning tell which it is.
            let pointer =
                if field.len() > MAX_KEY_BYTES { self.pointer.clone() } else { join(&self.pointer, field) };
            let detail = format!("`{}` is not a field here; remove it or correct its spelling", shown(field));
            self.problems.push(Problem::new(pointer, "unknown_field", detail));
        }
    }

    fn typed<T>(
        &mut self,
        field: &str,
        value: &'a Value,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let typed = read(value);
        if typed.is_none() {
            let pointer = self.pointer_of(field);
            self.problems.push(wrong_type(&pointer, expected, value));
        }
        typed
    }
}

/// A name from the document for a problem's text: its beginning, where it is long.
pub(crate) fn shown(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

/// A value of another type than the format asks for.
pub(crate) fn wrong_type(pointer: &str, expected: &str, found: &Value) -> Problem {
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

/// A JSON pointer and one more reference token, escaped as RFC 6901 asks.
pub(crate) fn join(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}
