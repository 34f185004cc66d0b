//! A long answer, line by line as it comes.

use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;

use super::{Client, ClientError, error, headers};

/// The most bytes of one line.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// How long the server may send nothing.
const SILENCE: Duration = Duration::from_secs(75);

/// The lines of an answer.
pub struct Lines {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    buffer: Vec<u8>,
    ended: bool,
}

impl Client {
    /// `GET` of a text of lines, however long.
    ///
    /// # Errors
    /// The server refuses, or cannot be reached.
    pub async fn lines(&self, path: &str, query: &[(&str, String)]) -> Result<Lines, ClientError> {
        let bearer = self.bearer().await?;
        let request = self.http.get(self.url(path)).headers(headers(bearer.as_ref())).query(query);
        let response = self.send(request).await?;
        if !response.status().is_success() {
            self.answer(response).await?;
            return Err(ClientError::NotEverline { url: self.base.clone() });
        }
        let bytes = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Ok(Lines { bytes, buffer: Vec::new(), ended: false })
    }
}

impl Lines {
    /// The next line, without its end; `None` after the last.
    ///
    /// # Errors
    /// The connection was lost before the end.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if self.ended {
                let last = std::mem::take(&mut self.buffer);
                return Ok((!last.is_empty()).then(|| String::from_utf8_lossy(&last).into_owned()));
            }
            match tokio::time::timeout(SILENCE, self.bytes.next()).await {
                Ok(Some(Ok(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(Some(Err(source))) => return Err(ClientError::StreamLost(error::chain(&source))),
                Ok(None) => self.ended = true,
                Err(_) => return Err(ClientError::StreamLost("nothing came any more".to_owned())),
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(ClientError::StreamLost("a line is too large".to_owned()));
            }
        }
    }
}
