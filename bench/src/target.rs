//! A target for `http_request` nodes that answers at once, and costs next to nothing.

use anyhow::Result;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What every request is answered with.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 24\r\n\r\n{\"stock\":12,\"ok\":true  }";
/// The most bytes of a request that is understood.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// A listening target; it stops when it is dropped.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Target {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer_all(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every request of a connection. Requests have no body, so the empty line ends them.
async fn answer_all(mut stream: TcpStream) {
    let mut buffer = Vec::with_capacity(1024);
    // A connection that breaks is the client's concern: it sees it as well.
    let _ = stream.set_nodelay(true);
    while matches!(stream.read_buf(&mut buffer).await, Ok(read) if read > 0)
        && buffer.len() < MAX_REQUEST_BYTES
    {
        while let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}
