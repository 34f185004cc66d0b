//! What goes to standard output: tables and sentences for people, one JSON value a line, or YAML.
//!
//! Invariants: with `--output json` standard output holds nothing but JSON lines, with `--output yaml` nothing but
//! YAML: a list is one sequence, things and events are a document each, begun by `---`. Text that came from outside
//! never carries control characters to a terminal. Errors and hints go to standard error.

mod event_line;
mod table;

use serde_json::Value;
use std::io::{self, Write};

pub use event_line::event_line;
pub use table::Column;

use crate::exit::Failure;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON value a line.
    Json,
    /// YAML: a list is a sequence, all else a document each.
    Yaml,
}

/// Standard output in a format.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The format.
    pub format: Format,
}

impl Output {
    /// Whether people read it.
    pub fn for_people(self) -> bool {
        self.format == Format::Table
    }

    /// A line for people; nothing in JSON.
    pub fn say(self, text: &str) -> Result<(), Failure> {
        if self.for_people() { line(text) } else { Ok(()) }
    }

    /// A line in either format, for text that is the result itself.
    pub fn raw(self, text: &str) -> Result<(), Failure> {
        line(text)
    }

    /// A thing: indented for people, on one line in JSON.
    pub fn thing(self, value: &Value) -> Result<(), Failure> {
        if self.for_people() { line(&printable_lines(&format!("{value:#}"))) } else { self.value(value) }
    }

    /// A thing for programs, or a sentence about it for people.
    pub fn done(self, value: &Value, sentence: &str) -> Result<(), Failure> {
        if self.for_people() { line(&printable(sentence)) } else { self.value(value) }
    }

    /// A list: a table for people, an item a line in JSON.
    pub fn list(self, items: &[Value], columns: &[Column]) -> Result<(), Failure> {
        match self.format {
            Format::Json => items.iter().try_for_each(|item| self.value(item)),
            Format::Yaml => line(&yaml(&Value::Array(items.to_vec()))?),
            Format::Table => table::render(items, columns).iter().try_for_each(|row| line(row)),
        }
    }

    /// An event of a stream.
    pub fn event(self, event: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::Yaml => self.value(event),
            Format::Table => line(&event_line(event)),
        }
    }

    /// An event among those of other streams: people see which is its.
    pub fn event_of_stream(self, event: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::Yaml => self.value(event),
            Format::Table => {
                let stream = event.get("stream").and_then(Value::as_str).unwrap_or_default();
                line(&format!("{}  {}", printable(stream), event_line(event)))
            }
        }
    }

    /// A value for programs.
    fn value(self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Yaml => line(&format!("---\n{}", yaml(value)?)),
            Format::Json | Format::Table => line(&value.to_string()),
        }
    }
}

/// A value as YAML, without the last line's end.
fn yaml(value: &Value) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(value).map_err(|error| {
        Failure::Internal(anyhow::Error::new(error).context("a result could not be written as YAML"))
    })?;
    Ok(printable_lines(text.trim_end()))
}

fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::Internal(anyhow::Error::new(error).context("cannot write to standard output")),
    })
}

/// The text without what a terminal would obey: control characters become a visible escape.
pub fn printable(text: &str) -> String {
    escaped(text, |_| false)
}

fn printable_lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() && !keep(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_reads_back_as_what_it_was() {
        let value = serde_json::json!({
            "id": "0123", "yes": "yes", "none": null, "text": "a: b # c\n\td\u{1b}", "empty": {}, "list": [1.5, true, "~", [[]]],
        });
        let text = yaml(&value).unwrap();
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
    }

    #[test]
    fn a_terminal_never_gets_an_escape_sequence_from_outside() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}"), "a\\u{1b}[2Jb\\u{9b}");
        assert_eq!(printable("größe ☂"), "größe ☂");
    }
}
