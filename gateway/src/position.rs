//! Positions as clients see them: `p:off`, or an opaque vector of offsets, one per partition.
//!
//! Owns: the token's codec, and what a client has been told ([`Watermarks`]). A token is a byte of format, the
//! number of partitions, and an offset for each, all as LEB128 numbers, in base64url without padding.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::{Partition, Position};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::Failure;
use crate::status;

/// The first byte of a token.
const FORMAT: u8 = 1;
/// Longer text is not a token.
const MAX_TOKEN_CHARS: usize = 16 * 1024;

/// How far a reader of all partitions has come: the last offset it has seen in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offsets(Vec<u64>);

impl Offsets {
    /// Before the first event of every partition.
    pub(crate) fn start(partitions: u16) -> Self {
        Self(vec![0; usize::from(partitions)])
    }

    /// Given offsets, one per partition.
    pub(crate) fn new(offsets: Vec<u64>) -> Self {
        Self(offsets)
    }

    /// The last offset seen in a partition.
    pub(crate) fn get(&self, partition: Partition) -> u64 {
        self.0.get(usize::from(partition.0)).copied().unwrap_or(0)
    }

    /// Notes that a partition was seen up to an offset; never goes back.
    pub(crate) fn advance(&mut self, position: Position) {
        if let Some(offset) = self.0.get_mut(usize::from(position.partition.0)) {
            *offset = position.offset.max(*offset);
        }
    }

    /// The partitions with their offsets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Partition, u64)> + '_ {
        self.0.iter().enumerate().map(|(index, offset)| (Partition(index as u16), *offset))
    }

    /// The opaque token.
    pub(crate) fn token(&self) -> String {
        let mut bytes = Vec::with_capacity(4 + self.0.len() * 3);
        bytes.push(FORMAT);
        push_number(&mut bytes, self.0.len() as u64);
        for offset in &self.0 {
            push_number(&mut bytes, *offset);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token of a store with so many partitions, or a single position: then the other partitions are
    /// read from their start, because nothing says how far they were seen.
    pub(crate) fn parse(text: &str, partitions: u16) -> Result<Self, Failure> {
        let refuse = || {
            let shown: String = text.chars().take(64).collect();
            let detail = format!(
                "`{shown}` is not a position of this store; use `partition:offset` or a `resume` token"
            );
            Failure::new(status::INVALID_POSITION, detail)
        };
        if text.contains(':') {
            let position: Position = text.parse().map_err(|_| refuse())?;
            if position.partition.0 >= partitions {
                return Err(refuse());
            }
            let mut offsets = Self::start(partitions);
            offsets.advance(position);
            return Ok(offsets);
        }
        if text.len() > MAX_TOKEN_CHARS {
            return Err(refuse());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse())?;
        let mut rest = bytes.strip_prefix(&[FORMAT]).ok_or_else(refuse)?;
        if take_number(&mut rest).ok_or_else(refuse)? != u64::from(partitions) {
            return Err(refuse());
        }
        let offsets: Option<Vec<u64>> = (0..partitions).map(|_| take_number(&mut rest)).collect();
        let offsets = offsets.filter(|_| rest.is_empty()).ok_or_else(refuse)?;
        Ok(Self(offsets))
    }
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(first & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The highest positions that one principal has been answered, so that it reads its own writes.
#[derive(Debug)]
pub(crate) struct Watermarks(Vec<AtomicU64>);

impl Watermarks {
    /// Nothing answered yet.
    pub(crate) fn new(partitions: u16) -> Self {
        Self((0..partitions).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes an answered position.
    pub(crate) fn raise(&self, position: Position) {
        if let Some(mark) = self.0.get(usize::from(position.partition.0)) {
            mark.fetch_max(position.offset, Ordering::Relaxed);
        }
    }

    /// What must be in a read model: of one partition, or of all.
    pub(crate) fn needed(&self, only: Option<Partition>) -> Vec<(Partition, u64)> {
        self.0
            .iter()
            .enumerate()
            .map(|(index, mark)| (Partition(index as u16), mark.load(Ordering::Relaxed)))
            .filter(|(partition, offset)| *offset > 0 && only.is_none_or(|only| only == *partition))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_other_text_is_refused() {
        let mut offsets = Offsets::start(16);
        offsets.advance(Position { partition: Partition(7), offset: 1204 });
        offsets.advance(Position { partition: Partition(15), offset: u64::MAX });
        let token = offsets.token();
        assert_eq!(Offsets::parse(&token, 16).expect("a token"), offsets);
        assert!(Offsets::parse(&token, 8).is_err(), "of a store with other partitions");
        assert!(Offsets::parse(&token[..token.len() - 2], 16).is_err());
        assert!(Offsets::parse(&format!("{token}AAAA"), 16).is_err());
        assert!(Offsets::parse("", 16).is_err());
        assert!(Offsets::parse("héllo", 16).is_err());
        assert!(Offsets::parse("AQ____________8", 16).is_err());
    }

    #[test]
    fn a_single_position_covers_its_own_partition_only() {
        let offsets = Offsets::parse("3:9", 16).expect("a position");
        assert_eq!(offsets.get(Partition(3)), 9);
        assert_eq!(offsets.get(Partition(4)), 0);
        assert!(Offsets::parse("16:9", 16).is_err());
    }

    #[test]
    fn watermarks_never_go_back() {
        let marks = Watermarks::new(4);
        marks.raise(Position { partition: Partition(1), offset: 5 });
        marks.raise(Position { partition: Partition(1), offset: 3 });
        assert_eq!(marks.needed(None), vec![(Partition(1), 5)]);
        assert_eq!(marks.needed(Some(Partition(2))), vec![]);
    }
}
