//! `merge`: joins branches, all of them or the first.

use crate::workflow::definition::Reader;

/// How many of its inputs a merge waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeMode {
    /// All that can still come.
    All,
    /// The first.
    Any,
    /// That many.
    Count(u32),
}

/// `mode: all | any`, or `count`.
#[derive(Debug, Clone)]
pub struct Merge {
    mode: MergeMode,
}

impl Merge {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let count = reader.number("count", 1, 1_000);
        let has_count = reader.optional("count").is_some();
        let mode = match reader.text("mode") {
            Some(_) if has_count => {
                reader.report("count", "conflicting_fields", "use `mode` or `count`, not both");
                None
            }
            None => Some(count.map_or(MergeMode::All, |count| MergeMode::Count(count as u32))),
            Some("all") => Some(MergeMode::All),
            Some("any") => Some(MergeMode::Any),
            Some(_) => {
                reader.report("mode", "invalid_value", "use all or any, or `count` with a number");
                None
            }
        };
        reader.finish();
        Some(Self { mode: mode? })
    }

    /// How many of its inputs it waits for.
    pub fn mode(&self) -> MergeMode {
        self.mode
    }
}
