//! Server-sent events, followed across lost connections.
//!
//! Invariant: after a lost connection the stream is asked for from the last id that was seen, so nothing is
//! missed; what the server sends twice anyway is for the reader to tell by the event's version.

use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use std::time::Duration;

use super::{Client, ClientError, error, headers};

/// The most bytes of one message.
const MAX_MESSAGE_BYTES: usize = 80 * 1024 * 1024;
/// How often in a row a connection may be lost without a message in between.
const MAX_LOSSES: u32 = 5;
/// How often, for a stream that is to be followed through restarts and upgrades: some minutes.
const PATIENT_LOSSES: u32 = 60;
/// The longest pause before another try.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The comment with which a server says that the history is told.
pub const CAUGHT_UP: &str = "caught up";
/// Servers send a comment at least every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamMessage {
    /// The kind of message; empty for plain events, [`CAUGHT_UP`] when the history is told.
    pub event: String,
    /// The id to resume after.
    pub id: Option<String>,
    /// The payload.
    pub data: String,
}

/// A followed stream.
pub struct EventStream {
    client: Client,
    path: String,
    query: Vec<(String, String)>,
    last_id: Option<String>,
    bytes: Option<BoxStream<'static, reqwest::Result<Vec<u8>>>>,
    parser: Parser,
    losses: u32,
    most_losses: u32,
}

impl EventStream {
    pub(super) fn new(client: Client, path: &str, query: &[(&str, String)]) -> Self {
        Self {
            client,
            path: path.to_owned(),
            query: query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            last_id: None,
            bytes: None,
            parser: Parser::default(),
            losses: 0,
            most_losses: MAX_LOSSES,
        }
    }

    /// Bears with a server that is away for minutes, once the stream was open.
    pub fn patient(mut self) -> Self {
        self.most_losses = PATIENT_LOSSES;
        self
    }

    /// The id after which the stream would be taken up again.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next message; `None` when the server has closed a stream that it says is over.
    ///
    /// # Errors
    /// The server refuses the stream, or it is lost for good.
    pub async fn next(&mut self) -> Result<Option<StreamMessage>, ClientError> {
        loop {
            if let Some(message) = self.parser.next_message() {
                self.losses = 0;
                self.last_id = message.id.clone().or(self.last_id.take());
                if message.data.is_empty() && message.event.is_empty() {
                    // An id alone only says from where to come back.
                    continue;
                }
                return Ok(Some(message));
            }
            let Some(bytes) = &mut self.bytes else {
                if !self.connect().await? {
                    return Ok(None);
                }
                continue;
            };
            let lost = match tokio::time::timeout(SILENCE, bytes.next()).await {
                Ok(Some(Ok(chunk))) => {
                    self.parser.push(&chunk);
                    (self.parser.buffer.len() > MAX_MESSAGE_BYTES)
                        .then(|| "a message is too large".to_owned())
                }
                Ok(Some(Err(source))) => Some(error::chain(&source)),
                Ok(None) => Some("the server closed it".to_owned()),
                Err(_) => Some(format!("nothing came for {} s", SILENCE.as_secs())),
            };
            if let Some(reason) = lost {
                self.lose(reason).await?;
            }
        }
    }

    async fn lose(&mut self, reason: String) -> Result<(), ClientError> {
        self.bytes = None;
        self.parser = Parser::default();
        self.losses += 1;
        if self.losses > self.most_losses {
            return Err(ClientError::StreamLost(reason));
        }
        tracing::debug!(reason, losses = self.losses, "the stream was lost and is taken up again");
        tokio::time::sleep(MAX_PAUSE.min(Duration::from_millis(50 << self.losses.min(10)))).await;
        Ok(())
    }

    /// Opens the stream; `false` if the server says that it is over (204, as the SSE standard has it).
    async fn connect(&mut self) -> Result<bool, ClientError> {
        let client = &self.client;
        let mut request =
            client.http.get(client.url(&self.path)).headers(headers(client.bearer().await?.as_ref()));
        request = request.header(ACCEPT, "text/event-stream").query(&self.query);
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        let response = match client.send(request).await {
            Ok(response) => response,
            // A server that restarts is not reachable for a moment; one that never was is not worth waiting for.
            Err(error) if self.last_id.is_some() => {
                self.lose(error.to_string()).await?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        match response.status() {
            StatusCode::NO_CONTENT => Ok(false),
            StatusCode::SERVICE_UNAVAILABLE => {
                self.lose("the server is busy".to_owned()).await.map(|()| true)
            }
            status if !status.is_success() => client.answer(response).await.map(|_| false),
            _ => {
                self.bytes =
                    Some(response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed());
                Ok(true)
            }
        }
    }
}

/// The line format of the HTML standard.
#[derive(Default)]
struct Parser {
    buffer: Vec<u8>,
    searched: usize,
    message: StreamMessage,
    has_data: bool,
}

impl Parser {
    fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    fn next_message(&mut self) -> Option<StreamMessage> {
        while let Some(line) = self.next_line() {
            if !line.is_empty() {
                self.field(&line);
            } else if std::mem::take(&mut self.has_data) || self.message != StreamMessage::default() {
                return Some(std::mem::take(&mut self.message));
            }
        }
        None
    }

    fn next_line(&mut self) -> Option<String> {
        let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(self.searched + end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        self.searched = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.message.event = value.to_owned(),
            "id" => self.message.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.message.data.push('\n');
                }
                self.has_data = true;
                self.message.data.push_str(value);
            }
            "" if value == CAUGHT_UP => self.message.event = CAUGHT_UP.to_owned(),
            // Comments keep the connection alive; `retry` is the server's wish, ours are the limits above.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_the_chunks_are_cut() {
        let text = ": hello\n\n: caught up\nid: 0\n\nid: 00\n\nid: 1\nevent: event\ndata: {\"a\":\ndata: 1}\r\n\r\nid: 2\n\ndata:x\n\n";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut messages = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                parser.push(chunk);
                while let Some(message) = parser.next_message() {
                    messages.push(message);
                }
            }
            let heads: Vec<_> = messages.drain(..2).map(|message| (message.event, message.id)).collect();
            assert_eq!(
                heads,
                [(CAUGHT_UP.to_owned(), Some("0".to_owned())), (String::new(), Some("00".to_owned()))]
            );
            assert_eq!(messages.len(), 3, "chunks of {size}");
            assert_eq!(messages[0].data, "{\"a\":\n1}");
            assert_eq!(messages[0].id.as_deref(), Some("1"));
            // An id by itself says how far the stream has looked.
            assert_eq!((messages[1].id.as_deref(), messages[1].data.as_str()), (Some("2"), ""));
            assert_eq!(messages[2].data, "x");
        }
    }
}
