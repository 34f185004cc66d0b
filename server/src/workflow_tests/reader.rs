//! Reading a fixture so that every defect has its place and unknown fields are named.

use serde_json::{Map, Value};

/// Defects of a fixture, each with its place, such as `cases[0].nodes.fetch`.
#[derive(Debug, Default)]
pub(super) struct Defects(pub(super) Vec<String>);

impl Defects {
    pub(super) fn add(&mut self, at: &str, detail: impl AsRef<str>) {
        let at = if at.is_empty() { "the fixture" } else { at };
        self.0.push(format!("{at}: {}", detail.as_ref()));
    }
}

/// The fields of an object, taken out one by one; end with [`Object::finish`].
pub(super) struct Object {
    at: String,
    fields: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Object {
    pub(super) fn open(at: &str, value: Value, defects: &mut Defects) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self { at: at.to_owned(), fields, known: Vec::new() }),
            _ => {
                defects.add(at, "must be an object");
                None
            }
        }
    }

    /// The place of a field.
    pub(super) fn at(&self, name: &str) -> String {
        place(&self.at, name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    pub(super) fn any(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.fields.remove(name)
    }

    pub(super) fn text(&mut self, name: &'static str, defects: &mut Defects) -> Option<String> {
        match self.any(name)? {
            Value::String(text) => Some(text),
            _ => {
                defects.add(&self.at(name), "must be a string");
                None
            }
        }
    }

    pub(super) fn number(&mut self, name: &'static str, defects: &mut Defects) -> Option<u64> {
        let number = self.any(name)?.as_u64();
        if number.is_none() {
            defects.add(&self.at(name), "must be a whole number of 0 or more");
        }
        number
    }

    pub(super) fn flag(&mut self, name: &'static str, defects: &mut Defects) -> Option<bool> {
        let flag = self.any(name)?.as_bool();
        if flag.is_none() {
            defects.add(&self.at(name), "must be true or false");
        }
        flag
    }

    /// The entries of an object; none if it is absent.
    pub(super) fn object(&mut self, name: &'static str, defects: &mut Defects) -> Map<String, Value> {
        match self.any(name) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(_) => {
                defects.add(&self.at(name), "must be an object");
                Map::new()
            }
        }
    }

    /// The items of a list; none if it is absent.
    pub(super) fn list(&mut self, name: &'static str, defects: &mut Defects) -> Vec<Value> {
        match self.any(name) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                defects.add(&self.at(name), "must be a list");
                Vec::new()
            }
        }
    }

    /// Names the fields that nobody asked for.
    pub(super) fn finish(self, defects: &mut Defects) {
        for name in self.fields.keys() {
            defects.add(&self.at, format!("`{name}` is not a field here; use {}", self.known.join(", ")));
        }
    }
}

/// The place of a field; names that are no plain word are quoted.
pub(super) fn place(at: &str, name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match (at.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{at}.{name}"),
        (_, false) => format!("{at}[\"{name}\"]"),
    }
}
