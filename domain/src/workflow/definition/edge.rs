//! An edge as it stands in the document, before its ends are looked up.

use serde_json::Value;

use crate::rejection::Problem;

use super::problems::Problems;
use super::reader::Reader;

/// An edge as it stands in the document.
pub(super) struct RawEdge {
    pub(super) index: usize,
    pub(super) pointer: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) handle: Option<String>,
    pub(super) back: bool,
}

/// Reads an edge of the `edges` list.
pub(super) fn parse(index: usize, value: &Value, pointer: &str, problems: &mut Problems) -> Option<RawEdge> {
    let mut reader = Reader::open(value, pointer, problems)?;
    let source = reader.required_text("source");
    let target = reader.required_text("target");
    let handle = reader.text("source_handle").map(str::to_owned);
    reader.text("id");
    reader.text("label");
    reader.ignore(&["target_handle", "position", "notes", "ui"]);
    let back = reader.flag("back") == Some(true);
    reader.finish();
    Some(RawEdge {
        index,
        pointer: pointer.to_owned(),
        source: source?.to_owned(),
        target: target?.to_owned(),
        handle,
        back,
    })
}

impl RawEdge {
    /// Reports a defect at a field of it, or at the edge itself for an empty field.
    pub(super) fn report(
        &self,
        field: &str,
        code: &'static str,
        detail: impl Into<String>,
        problems: &mut Problems,
    ) {
        let separator = if field.is_empty() { "" } else { "/" };
        problems.push(Problem::new(format!("{}{separator}{field}", self.pointer), code, detail));
    }
}
