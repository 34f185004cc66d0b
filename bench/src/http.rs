//! A small HTTP/1.1 client: one kept connection, one request at a time, `Content-Length` bodies.
//!
//! A load generator shares its machine with what it measures, so it must cost little. Absent: TLS, redirects,
//! chunked bodies; the server sends none of them on these routes.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// A connection to the server under test, with its key.
pub(crate) struct Client {
    stream: TcpStream,
    address: SocketAddr,
    key: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// An answer; the body is borrowed from its connection.
pub(crate) struct Answer<'c> {
    pub(crate) status: u16,
    pub(crate) position: Option<String>,
    pub(crate) body: &'c [u8],
}

impl Answer<'_> {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(self.body).with_context(|| format!("the answer is not JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body).chars().take(500).collect()
    }

    /// The body, if the status is the expected one; null where there is none.
    pub(crate) fn expect(self, status: u16) -> Result<Value> {
        if self.status != status {
            bail!("the server answered {}, not {status}: {}", self.status, self.text());
        }
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        self.json()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, key: &str) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("{address} does not answer"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, key: key.to_owned(), request: Vec::new(), answer: Vec::new() })
    }

    pub(crate) async fn get(&mut self, path: &str, min_position: Option<&str>) -> Result<Answer<'_>> {
        self.send("GET", path, min_position, b"").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer<'_>> {
        self.send("POST", path, None, body).await
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        min_position: Option<&str>,
        body: &[u8],
    ) -> Result<Answer<'_>> {
        self.request.clear();
        write!(self.request, "{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address)?;
        if !self.key.is_empty() {
            write!(self.request, "authorization: Bearer {}\r\n", self.key)?;
        }
        if let Some(position) = min_position {
            write!(self.request, "everline-min-position: {position}\r\n")?;
        }
        if !body.is_empty() {
            self.request.extend_from_slice(b"content-type: application/json\r\n");
        }
        write!(self.request, "content-length: {}\r\n\r\n", body.len())?;
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        self.receive().await
    }

    async fn receive(&mut self) -> Result<Answer<'_>> {
        self.answer.clear();
        let mut searched = 0usize;
        let head_end = loop {
            self.read_more().await?;
            let from = searched.saturating_sub(3);
            if let Some(at) = self.answer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                break from + at + 4;
            }
            searched = self.answer.len();
        };
        let head = Head::parse(&self.answer[..head_end])?;
        let end = head_end + head.length;
        if end > MAX_ANSWER_BYTES {
            bail!("the answer has {} bytes", head.length);
        }
        while self.answer.len() < end {
            self.read_more().await?;
        }
        Ok(Answer { status: head.status, position: head.position, body: &self.answer[head_end..end] })
    }

    async fn read_more(&mut self) -> Result<()> {
        if self.answer.len() > MAX_ANSWER_BYTES || self.stream.read_buf(&mut self.answer).await? == 0 {
            bail!("the server closed the connection in the middle of an answer");
        }
        Ok(())
    }
}

/// What matters of an answer's head.
struct Head {
    status: u16,
    length: usize,
    position: Option<String>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).context("the head of an answer is not UTF-8")?;
        let mut lines = text.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let mut head = Self { status: status.context("an answer has no status")?, length: 0, position: None };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.parse().context("an answer has no readable length")?;
            } else if name.eq_ignore_ascii_case("everline-position") {
                head.position = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                bail!("an answer is sent in chunks, which this client does not read");
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[tokio::test]
    async fn one_connection_carries_request_after_request() {
        let target = Target::start().await.expect("a free port");
        let mut client = Client::connect(target.address, "evl_key").await.expect("the target listens");
        for _ in 0..3 {
            let answer = client.get("/", None).await.expect("an answer").expect(200).expect("JSON");
            assert_eq!(answer["stock"], 12);
        }
    }

    #[test]
    fn a_head_gives_status_length_and_position() {
        let head = b"HTTP/1.1 202 Accepted\r\nContent-Length: 7\r\neverline-position: 3:9\r\n\r\n";
        let head = Head::parse(head).expect("a head");
        assert_eq!((head.status, head.length, head.position.as_deref()), (202, 7, Some("3:9")));
    }
}
