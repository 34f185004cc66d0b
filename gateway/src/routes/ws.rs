//! `/ws`: the WebSocket.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use std::sync::Arc;

use crate::app::App;
use crate::auth::{Credential, Principal};
use crate::client::Client;
use crate::failure::Failure;
use crate::status;
use crate::trace_context::TraceContext;
use crate::ws::serve;

/// What a connection that says nothing holds for reading: clients send small messages, and larger ones make it grow.
const READ_BUFFER: usize = 4 * 1024;
/// Bytes that are written at once.
const WRITE_BUFFER: usize = 16 * 1024;

/// A WebSocket for events and commands. Authenticated by the header, or by a first message
/// `{"type":"auth","token":"…"}` within 5 seconds.
#[utoipa::path(get, path = "/ws", tag = "events",
    responses((status = 101, description = "The connection is a WebSocket now."),
        (status = 426, description = "The request is no WebSocket handshake.")))]
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    trace: TraceContext,
    request: Request,
) -> Result<Response, Failure> {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|_| {
        Failure::new(status::UPGRADE_REQUIRED, "this is a WebSocket; connect with an upgrade")
    })?;
    if app.leaving.is_cancelled() {
        return Err(Failure::new(status::OVERLOADED, "the server is stopping; connect again shortly"));
    }
    let place = app.stream_place()?;
    let principal = parts.extensions.get::<Arc<Principal>>().cloned();
    let client = parts.extensions.get::<Client>().cloned().unwrap_or_default();
    let known = principal.zip(parts.extensions.get::<Credential>().cloned());
    let limit = app.config.max_body_bytes as usize;
    // The gateway waits for connections that it has begun to serve.
    let tracked = app.sockets.token();
    let upgrade = upgrade.read_buffer_size(READ_BUFFER).write_buffer_size(WRITE_BUFFER);
    Ok(upgrade.max_message_size(limit).max_frame_size(limit).on_upgrade(
        move |socket| async move {
            serve(app, socket, known, client, trace).await;
            drop((place, tracked));
        },
    ))
}
