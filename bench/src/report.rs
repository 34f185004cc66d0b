//! What a run found: a table for people, JSON for programs, and the arithmetic behind both.

use anyhow::Result;
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::Duration;

/// The result of a scenario.
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    /// What the run was asked for.
    pub(crate) parameters: Value,
    /// One sentence each, under the table.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Operations that did not do what they should.
    pub(crate) failures: u64,
}

/// A line of the table: names and figures, in order.
#[derive(Default)]
pub(crate) struct Row(Vec<(&'static str, Cell)>);

enum Cell {
    Text(String),
    /// A number and how many decimals people see.
    Number(f64, usize),
}

impl Row {
    pub(crate) fn text(mut self, column: &'static str, text: impl Into<String>) -> Self {
        self.0.push((column, Cell::Text(text.into())));
        self
    }

    pub(crate) fn number(mut self, column: &'static str, number: f64, decimals: usize) -> Self {
        self.0.push((column, Cell::Number(number, decimals)));
        self
    }

    /// The columns of a distribution: median, 99th percentile and largest, in milliseconds.
    pub(crate) fn latency(self, columns: [&'static str; 3], latency: &Latencies) -> Self {
        let [median, p99, most] = columns;
        self.number(median, latency.percentile_ms(0.5), 2).number(p99, latency.percentile_ms(0.99), 2).number(
            most,
            latency.percentile_ms(1.0),
            2,
        )
    }

    fn to_json(&self) -> Value {
        let fields: Map<String, Value> = self
            .0
            .iter()
            .map(|(column, cell)| {
                let value = match cell {
                    Cell::Text(text) => json!(text),
                    Cell::Number(number, _) => json!(number),
                };
                ((*column).to_owned(), value)
            })
            .collect();
        Value::Object(fields)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Number(number, decimals) => f.pad(&format!("{number:.decimals$}")),
        }
    }
}

impl Report {
    pub(crate) fn to_json(&self) -> Result<String> {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        let report = json!({
            "scenario": self.scenario,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "parameters": self.parameters,
            "failures": self.failures,
            "results": rows,
            "notes": self.notes,
        });
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }
}

/// The table, in Markdown, so that it can be pasted.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.rows.first() else { return writeln!(f, "{}: no figures", self.scenario) };
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.0.iter().map(|(_, cell)| cell.to_string()).collect()).collect();
        let widths: Vec<usize> = first
            .0
            .iter()
            .enumerate()
            .map(|(at, (column, _))| {
                let longest =
                    shown.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
                longest.unwrap_or(0).max(column.chars().count())
            })
            .collect();
        for (at, (column, _)) in first.0.iter().enumerate() {
            write!(f, "| {column:>width$} ", width = widths[at])?;
        }
        writeln!(f, "|")?;
        widths.iter().try_for_each(|width| write!(f, "|{}:", "-".repeat(width + 1)))?;
        writeln!(f, "|")?;
        for row in &shown {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:>width$} ")?;
            }
            writeln!(f, "|")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

/// Times of single operations.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    micros: Vec<u32>,
    sorted: bool,
}

impl Latencies {
    pub(crate) fn add(&mut self, time: Duration) {
        self.micros.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        self.sorted = false;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.sorted = false;
    }

    pub(crate) fn count(&self) -> usize {
        self.micros.len()
    }

    /// Call before percentiles are read.
    pub(crate) fn sort(&mut self) {
        self.micros.sort_unstable();
        self.sorted = true;
    }

    /// The smallest time that at least `share` of the operations did not exceed (nearest rank); 0 without any.
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        debug_assert!(self.sorted, "percentiles are read from sorted times");
        let rank = (share * self.micros.len() as f64).ceil().max(1.0) as usize;
        self.micros
            .get(rank.min(self.micros.len()).saturating_sub(1))
            .map_or(0.0, |us| f64::from(*us) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let mut times = Latencies::default();
        (1..=200).rev().for_each(|ms| times.add(Duration::from_millis(ms)));
        times.sort();
        assert_eq!(times.percentile_ms(0.5), 100.0);
        assert_eq!(times.percentile_ms(0.99), 198.0);
        assert_eq!(times.percentile_ms(1.0), 200.0);
        let mut none = Latencies::default();
        none.sort();
        assert_eq!(none.percentile_ms(0.5), 0.0);
    }

    #[test]
    fn a_table_is_markdown_with_every_figure_in_its_column() {
        let rows = vec![Row::default().text("batch", "1").number("ratio", 0.814, 2)];
        let report = Report { scenario: "append", parameters: json!({}), notes: vec![], rows, failures: 0 };
        assert_eq!(report.to_string(), "| batch | ratio |\n|------:|------:|\n|     1 |  0.81 |\n");
        let json: Value = serde_json::from_str(&report.to_json().expect("JSON")).expect("JSON");
        assert_eq!(json["results"][0]["ratio"], 0.814);
    }
}
