//! Sending commands: the same id again while nobody owns the partition, until a deadline.

use bus::{CommandError, CommandReply};
use domain::command::{Command, CommandEnvelope};
use domain::ids::Position;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;
use tokio::time::Instant;

use crate::app::App;
use crate::audit;
use crate::auth::Principal;
use crate::config::ms;
use crate::failure::Failure;
use crate::request::Writing;
use crate::status;

/// The first pause before a command is sent again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Sends a command and notes the position that it is answered with.
pub(crate) async fn send(app: &App, writing: &Writing, command: Command) -> Result<CommandReply, Failure> {
    let envelope = writing.envelope(command);
    match deliver(app, &envelope).await {
        Ok(reply) => {
            note(&writing.caller().principal, reply.position);
            audit::note_command(app, writing.caller(), &envelope, Ok(reply.position)).await;
            Ok(reply)
        }
        Err(failure) => {
            audit::note_command(app, writing.caller(), &envelope, Err(&failure)).await;
            Err(failure.noted())
        }
    }
}

/// Sends a command, whoever's it is.
pub(crate) async fn deliver(app: &App, envelope: &CommandEnvelope) -> Result<CommandReply, Failure> {
    let name = envelope.command.name();
    let started = Instant::now();
    let again_until = started + ms(app.config.command_retry_ms);
    let give_up = started + ms(app.config.command_timeout_ms);
    let mut pause = FIRST_PAUSE;
    loop {
        let sent = tokio::time::timeout_at(give_up, app.commands.send(envelope.clone())).await;
        let error = match sent {
            Ok(Ok(reply)) => {
                app.rights.sent(envelope);
                return Ok(reply);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                tracing::warn!(command.name = name, "a command was not answered in time");
                let detail = "whether the command took effect is not known; send it again with the same Idempotency-Key";
                return Err(Failure::new(status::COMMAND_UNDECIDED, detail));
            }
        };
        let retryable = matches!(error, CommandError::NotOwner | CommandError::Unknown(_));
        if !retryable || Instant::now() + pause >= again_until {
            if let CommandError::Unknown(reason) = &error {
                tracing::warn!(command.name = name, %reason, "a command's outcome is not known");
            }
            return Err(Failure::from(error));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Notes that a caller was told a position, so that it reads its own writes.
pub(crate) fn note(principal: &Principal, position: Option<Position>) {
    if let Some(position) = position {
        principal.watermarks.raise(position);
    }
}

/// Adds `Everline-Position` to an answer.
pub(crate) fn set_position(headers: &mut HeaderMap, position: Option<Position>) {
    if let Some(value) = position.and_then(|position| HeaderValue::try_from(position.to_string()).ok()) {
        headers.insert("everline-position", value);
    }
}
