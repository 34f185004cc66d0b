//! Writing an export file, line by line.
//!
//! Invariant: every line ends with a checksum over everything before it, so that a reader can name the line at
//! which a file is not what was written, and the last one with the whole digest, so that a file without it is known
//! to be cut off.

use async_trait::async_trait;
use domain::blob::hex;
use domain::time::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::line::{Content, FORMAT, Header, Line, VERSION};
use super::record::{Counts, Record};
use super::{PIECE_BYTES, Sink, TransferError};

/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file that is being written.
pub(crate) struct FileSink<W> {
    out: W,
    digest: Sha256,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin + Send> FileSink<W> {
    /// Begins with the header.
    pub(crate) async fn begin(
        out: W,
        partitions: u16,
        exported_at: Timestamp,
    ) -> Result<Self, TransferError> {
        let mut sink = Self { out, digest: Sha256::new(), buffer: Vec::with_capacity(2 * BUFFER_BYTES) };
        let header = Header { format: FORMAT.to_owned(), version: VERSION, partitions, exported_at };
        sink.line(&header).await?;
        Ok(sink)
    }

    /// Writes the last line and everything that is left.
    pub(crate) async fn end(mut self, counts: &Counts) -> Result<(), TransferError> {
        let start = self.open_line(&Line::End(*counts));
        self.digest.update(&self.buffer[start..]);
        let digest = hex(&self.digest.clone().finalize());
        self.buffer.extend_from_slice(format!(",\"sha256\":\"{digest}\"}}\n").as_bytes());
        self.write().await?;
        self.out.flush().await.map_err(TransferError::io("written"))
    }

    async fn line(&mut self, line: &(impl Serialize + Sync)) -> Result<(), TransferError> {
        let start = self.open_line(line);
        self.digest.update(&self.buffer[start..]);
        let closing = self.buffer.len();
        let check = check(&self.digest);
        self.buffer.extend_from_slice(b",\"check\":\"");
        self.buffer.extend_from_slice(check.as_bytes());
        self.buffer.extend_from_slice(b"\"}\n");
        self.digest.update(&self.buffer[closing..]);
        if self.buffer.len() >= BUFFER_BYTES { self.write().await } else { Ok(()) }
    }

    /// Adds a JSON object without its last brace; returns where it begins in the buffer.
    fn open_line(&mut self, line: &impl Serialize) -> usize {
        let start = self.buffer.len();
        serde_json::to_writer(&mut self.buffer, line)
            .expect("lines have string keys and no floating numbers");
        self.buffer.pop();
        start
    }

    async fn write(&mut self) -> Result<(), TransferError> {
        self.out.write_all(&self.buffer).await.map_err(TransferError::io("written"))?;
        self.buffer.clear();
        Ok(())
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send> Sink for FileSink<W> {
    async fn put(&mut self, record: Record) -> Result<(), TransferError> {
        self.line(&Line::of(&record, PIECE_BYTES)).await?;
        if let Record::Blob(row) = &record
            && row.blob.content.len() > PIECE_BYTES
        {
            for piece in pieces(&row.blob.content) {
                self.line(&Line::Piece(Content::of(piece))).await?;
            }
        }
        Ok(())
    }
}

/// The checksum of a line: what the digest over everything before begins with.
pub(crate) fn check(digest: &Sha256) -> String {
    hex(&digest.clone().finalize()[..8])
}

/// Pieces of [`PIECE_BYTES`] at most, cut between characters where it is text.
fn pieces(mut content: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut end = content.len().min(PIECE_BYTES);
        if end < content.len() {
            // A character has at most three bytes that continue it.
            let border = (end - 3..=end).rev().find(|at| content[*at] & 0xc0 != 0x80);
            end = border.unwrap_or(end);
        }
        let (piece, left) = content.split_at(end);
        content = left;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        let text = format!("x{}", "größ☂𝄞".repeat(PIECE_BYTES / 5));
        let cut: Vec<&[u8]> = pieces(text.as_bytes()).collect();
        assert!(cut.len() > 2);
        assert!(cut.iter().all(|piece| piece.len() <= PIECE_BYTES && std::str::from_utf8(piece).is_ok()));
        assert_eq!(cut.concat(), text.as_bytes());
        let bytes = vec![0x80; 2 * PIECE_BYTES + 1];
        assert_eq!(pieces(&bytes).collect::<Vec<_>>().concat(), bytes);
    }
}
