//! What is said on the pipes between pool and worker: frames of JSON, each after its length in four bytes, the highest first.
//!
//! The worker begins with an empty frame, which says that it is ready. Then each request has one reply.
//! Invariant: neither side makes room for a frame before it has compared the length with what it allows, since the worker
//! runs foreign code.

use serde::{Deserialize, Serialize};
use serde_json::Value;
#[cfg(any(test, feature = "js"))]
use serde_json::value::RawValue;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::Limits;
use crate::error::Limit;

/// Room in a frame for what is around source, context and value.
pub(crate) const ENVELOPE_BYTES: usize = 64 * 1024;

/// One evaluation, as it is read. The context goes to the engine as it came.
#[cfg(any(test, feature = "js"))]
#[derive(Deserialize)]
pub(crate) struct Request {
    pub(crate) limits: WireLimits,
    pub(crate) source: String,
    pub(crate) context: Box<RawValue>,
}

/// The limits that a worker must know.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct WireLimits {
    pub(crate) deadline_ms: u64,
    pub(crate) memory_bytes: usize,
    pub(crate) output_bytes: usize,
}

/// How it ended.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Value(Value),
    Syntax(String),
    Failed(String),
    Limit(Limit),
}

/// The frame of a request; `Limit::Input` if it is too long.
pub(crate) fn request(source: &str, context: &Value, limits: &Limits) -> Result<Vec<u8>, Limit> {
    let wire = WireLimits {
        // The worker stops a moment before it is killed, so that most runaways do not cost a process.
        deadline_ms: u64::try_from(limits.deadline.as_millis() * 4 / 5).unwrap_or(u64::MAX),
        memory_bytes: limits.memory_bytes,
        output_bytes: limits.output_bytes,
    };
    let room = limits.input_bytes.checked_sub(source.len()).ok_or(Limit::Input)?;
    // Put together by hand, so that the context is written once and measured while it is.
    let mut frame = vec![0; 4];
    frame.extend_from_slice(b"{\"limits\":");
    serde_json::to_writer(&mut frame, &wire).map_err(|_| Limit::Input)?;
    frame.extend_from_slice(b",\"source\":");
    serde_json::to_writer(&mut frame, source).map_err(|_| Limit::Input)?;
    frame.extend_from_slice(b",\"context\":");
    serde_json::to_writer(Bounded { bytes: &mut frame, room }, context).map_err(|_| Limit::Input)?;
    frame.push(b'}');
    let length = u32::try_from(frame.len() - 4).map_err(|_| Limit::Input)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Bytes that stop growing at some point.
struct Bounded<'a> {
    bytes: &'a mut Vec<u8>,
    room: usize,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.room {
            return Err(io::Error::other("too long"));
        }
        self.room -= piece.len();
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The next frame of a worker.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin), max_bytes: usize) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await? as usize;
    if length > max_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is longer than it may be"));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let limits = Limits::default();
        let frame = request("a + '\"\n'", &json!({"a": [1, 2.5, "x"]}), &limits).expect("small");
        let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
        assert_eq!(length as usize, frame.len() - 4);
        let read: Request = serde_json::from_slice(&frame[4..]).expect("a request");
        assert_eq!((read.source.as_str(), read.context.get()), ("a + '\"\n'", r#"{"a":[1,2.5,"x"]}"#));
        assert_eq!((read.limits.deadline_ms, read.limits.memory_bytes), (80, 64 * 1024 * 1024));
        assert_eq!(read.limits.output_bytes, limits.output_bytes);
    }

    #[test]
    fn source_and_context_share_their_limit() {
        let limits = Limits { input_bytes: 10, ..Limits::default() };
        assert!(request("12345678", &json!({}), &limits).is_ok());
        assert_eq!(request("123456789", &json!({}), &limits), Err(Limit::Input));
        assert_eq!(request("12345678901", &json!({}), &limits), Err(Limit::Input));
        assert_eq!(request("1", &json!({"a": "x".repeat(1_000_000)}), &limits), Err(Limit::Input));
    }

    #[tokio::test]
    async fn a_reply_that_says_it_is_too_long_is_not_read() {
        let mut pipe: &[u8] = &[0xff, 0xff, 0xff, 0xff, b'x'];
        let error = read(&mut pipe, 1_000).await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
