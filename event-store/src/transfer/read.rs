//! Reading an export file, line by line. Whatever is wrong is said with the number of its line.

use async_trait::async_trait;
use bytes::BytesMut;
use domain::blob::hex;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::line::{FORMAT, Header, Line, Meaning, VERSION};
use super::record::{BlobRow, Counts, Record};
use super::write::check;
use super::{PIECE_BYTES, Place, Source, TransferError};
use crate::blobs::MAX_BLOB_BYTES;

/// No line that Everline writes is longer: an event of 4 MiB takes 12 MiB at worst.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// `,"check":"0123456789abcdef"}`
const CHECK_BYTES: usize = 28;
/// `,"sha256":"…"}`
const DIGEST_BYTES: usize = 77;

/// An export that is being read.
pub struct FileSource<R> {
    input: R,
    header: Header,
    digest: Sha256,
    /// The number of the last line, from 1.
    line: u64,
    buffer: Vec<u8>,
    counts: Counts,
    ended: bool,
}

impl<R: AsyncBufRead + Unpin + Send> FileSource<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is not an export, or of another version.
    pub async fn open(input: R) -> Result<Self, TransferError> {
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            partitions: 0,
            exported_at: Default::default(),
        };
        let mut source = Self {
            input,
            header,
            digest: Sha256::new(),
            line: 0,
            buffer: Vec::new(),
            counts: Counts::default(),
            ended: false,
        };
        if !source.read_line().await? {
            return Err(TransferError::Format);
        }
        // What another version's line ends with is not known here: look at the version first.
        let header: serde_json::Value =
            serde_json::from_slice(&source.buffer).map_err(|_| TransferError::Format)?;
        if header["format"] != FORMAT {
            return Err(TransferError::Format);
        }
        if header["version"] != VERSION {
            return Err(TransferError::Version { found: header["version"].to_string() });
        }
        source.verify_check()?;
        source.header =
            serde_json::from_slice(&source.buffer).map_err(|error| source.does_not_read(&error))?;
        Ok(source)
    }

    /// What the first line says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next line, without its newline. False at the end of the input.
    async fn read_line(&mut self) -> Result<bool, TransferError> {
        self.buffer.clear();
        self.line += 1;
        loop {
            let available = self.input.fill_buf().await.map_err(TransferError::io("read"))?;
            if available.is_empty() {
                return if self.buffer.is_empty() { Ok(false) } else { Err(self.cut_off()) };
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or(available.len());
            if self.buffer.len() + taken > MAX_LINE_BYTES {
                return Err(self.refuse("is longer than any line of an export".to_owned()));
            }
            self.buffer.extend_from_slice(&available[..taken]);
            self.input.consume(taken + usize::from(newline.is_some()));
            if newline.is_some() {
                return Ok(true);
            }
        }
    }

    /// Takes the checksum off the end of the line; what is left is a JSON object.
    fn verify_check(&mut self) -> Result<(), TransferError> {
        let body = self.buffer.len().saturating_sub(CHECK_BYTES);
        self.digest.update(&self.buffer[..body]);
        let expected = format!(",\"check\":\"{}\"}}", check(&self.digest));
        self.verify_end(body, &expected)?;
        self.digest.update(b"\n");
        Ok(())
    }

    /// As [`Self::verify_check`], for the last line.
    fn verify_digest(&mut self) -> Result<(), TransferError> {
        let body = self.buffer.len().saturating_sub(DIGEST_BYTES);
        self.digest.update(&self.buffer[..body]);
        let expected = format!(",\"sha256\":\"{}\"}}", hex(&self.digest.clone().finalize()));
        self.verify_end(body, &expected)
    }

    fn verify_end(&mut self, body: usize, expected: &str) -> Result<(), TransferError> {
        let end = &self.buffer[body..];
        if end != expected.as_bytes() {
            return Err(self.refuse(
                "is not what was written there: it was altered, or lines before it were moved or removed"
                    .to_owned(),
            ));
        }
        self.digest.update(end);
        self.buffer.truncate(body);
        self.buffer.push(b'}');
        Ok(())
    }

    async fn next_meaning(&mut self) -> Result<Meaning, TransferError> {
        if !self.read_line().await? {
            return Err(self.cut_off());
        }
        if self.buffer.starts_with(b"{\"end\":") {
            self.verify_digest()?;
        } else {
            self.verify_check()?;
        }
        let line: Line<'_> =
            serde_json::from_slice(&self.buffer).map_err(|error| self.does_not_read(&error))?;
        line.into_meaning().map_err(|error| self.does_not_read(&*error))
    }

    /// Puts a large value together from the lines after its own.
    async fn gather(&mut self, mut row: BlobRow) -> Result<BlobRow, TransferError> {
        let length = row.blob.reference.bytes;
        if length <= PIECE_BYTES as u64 || length > MAX_BLOB_BYTES {
            return Err(self.refuse(format!("says that a large value of {length} bytes comes in pieces")));
        }
        let mut content = BytesMut::new();
        while (content.len() as u64) < length {
            match self.next_meaning().await? {
                Meaning::Piece(piece) if !piece.is_empty() => content.extend_from_slice(&piece),
                _ => return Err(self.refuse("is not the next piece of a large value".to_owned())),
            }
        }
        row.blob.content = content.freeze();
        Ok(row)
    }

    /// Everything has come, and nothing comes after.
    async fn end(&mut self, counts: &Counts) -> Result<(), TransferError> {
        if *counts != self.counts {
            return Err(self.refuse("counts something else than the lines before it".to_owned()));
        }
        let behind = !self.input.fill_buf().await.map_err(TransferError::io("read"))?.is_empty();
        self.line += u64::from(behind);
        if behind {
            return Err(self.refuse("stands behind the end of the export".to_owned()));
        }
        self.ended = true;
        Ok(())
    }

    fn refuse(&self, reason: String) -> TransferError {
        TransferError::Refused { place: Place::Line(self.line), reason }
    }

    fn does_not_read(&self, error: &dyn std::error::Error) -> TransferError {
        self.refuse(format!("does not read: {error}"))
    }

    fn cut_off(&self) -> TransferError {
        TransferError::CutOff { line: self.line }
    }
}

#[async_trait]
impl<R: AsyncBufRead + Unpin + Send> Source for FileSource<R> {
    fn place(&self) -> Place {
        Place::Line(self.line)
    }

    async fn next(&mut self) -> Result<Option<Record>, TransferError> {
        if self.ended {
            return Ok(None);
        }
        let record = match self.next_meaning().await? {
            Meaning::Record(record) => record,
            Meaning::BlobInPieces(row) => Record::Blob(self.gather(row).await?),
            Meaning::Piece(_) => return Err(self.refuse("is a piece of no large value".to_owned())),
            Meaning::End(counts) => {
                self.end(&counts).await?;
                return Ok(None);
            }
        };
        self.counts.add(&record);
        Ok(Some(record))
    }
}
