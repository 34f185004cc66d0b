//! A bare axum handler that answers JSON: what HTTP itself costs on this machine, as a process of its own.

use anyhow::{Context, Result};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::Serialize;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

#[derive(Serialize)]
struct Answer {
    id: u32,
    status: &'static str,
}

/// Serves until it is killed; says where on standard output.
pub(crate) async fn serve() -> Result<()> {
    let router = Router::new().route("/", get(async || Json(Answer { id: 7, status: "completed" })));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // One that keeps the delay is only slower.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.context("the bare handler ended")
}

/// The handler, running; it is killed when it is dropped.
pub(crate) struct Plain {
    pub(crate) address: SocketAddr,
    _child: Child,
}

impl Plain {
    pub(crate) async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("plain")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the bare handler does not start")?;
        let output = child.stdout.take().context("the bare handler says nothing")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let address = line.context("the bare handler ended at once")?.parse()?;
        Ok(Self { address, _child: child })
    }
}
