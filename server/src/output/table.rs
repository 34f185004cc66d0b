//! Plain columns, as wide as their widest cell.

use serde_json::Value;

use super::printable;

/// Cells longer than this are cut, but for the last column, which moves no other.
const MAX_CELL_CHARS: usize = 60;

/// A column: its heading, and the JSON pointer of its cells.
#[derive(Debug, Clone, Copy)]
pub struct Column(pub &'static str, pub &'static str);

/// The lines of a table, heading first.
pub(super) fn render(items: &[Value], columns: &[Column]) -> Vec<String> {
    let heading = columns.iter().map(|column| column.0.to_owned()).collect::<Vec<_>>();
    let last = columns.len().saturating_sub(1);
    let most = |index| if index == last { usize::MAX } else { MAX_CELL_CHARS };
    let row =
        |item| columns.iter().enumerate().map(|(index, column)| cell(item, column, most(index))).collect();
    let rows = items.iter().map(row);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let width = |index: usize| rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

fn cell(item: &Value, column: &Column, most: usize) -> String {
    let text = match item.pointer(column.1) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    cut(&printable(&text), most)
}

/// The first characters of a text, with a sign that there were more.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up_whatever_the_cells_hold() {
        let items = [json!({"name": "größe", "on": true}), json!({"name": "x\ny", "on": null}), json!({})];
        let lines = render(&items, &[Column("NAME", "/name"), Column("ON", "/on")]);
        assert_eq!(lines, ["NAME   ON", "größe  true", "x\\ny   -", "-      -"]);
    }

    #[test]
    fn a_long_cell_is_cut_unless_it_is_the_last() {
        let lines = render(
            &[json!({"a": "x".repeat(70), "b": "y".repeat(70)})],
            &[Column("A", "/a"), Column("B", "/b")],
        );
        assert_eq!(lines[1], format!("{}…  {}", "x".repeat(60), "y".repeat(70)));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("ääää", 2), "ää…");
        assert_eq!(cut("ää", 2), "ää");
    }
}
