//! The messages of the WebSocket, read and written.

use axum::extract::ws::Message;
use domain::ids::{Position, parse_id};
use domain::rejection::Problem;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::executing::ExecutionAnswer;
use crate::failure::Failure;
use crate::live::{EventFilter, FeedFilter, LiveEvent, Resume};
use crate::request::Fields;
use crate::status;

use super::commands::CommandMessage;

/// The longest id that a client gives.
const MAX_ID_CHARS: usize = 64;

/// What a client asks for.
pub(super) enum ClientMessage {
    /// Its token.
    Auth(Zeroizing<String>),
    /// A subscription under a name of its own.
    Subscribe(String, Channel),
    /// The end of a subscription.
    Unsubscribe(String),
    /// A sign of life.
    Ping(Option<Value>),
    /// A command; the id comes back with its answer.
    Command(Value, Box<CommandMessage>),
}

/// What can be subscribed to.
pub(super) enum Channel {
    /// An execution's events after a version.
    Execution { execution: Uuid, after_version: u64, filter: Option<EventFilter> },
    /// The tenant's events after a position.
    Events { after_position: Option<String>, filter: FeedFilter },
}

/// A message that was not understood, with the id it may have had.
pub(super) struct Misunderstood {
    pub(super) id: Option<Value>,
    pub(super) failure: Box<Failure>,
}

/// Reads a message.
pub(super) fn read(text: &str) -> Result<ClientMessage, Misunderstood> {
    let failed = |id: Option<Value>| move |failure: Failure| Misunderstood { id, failure: Box::new(failure) };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let detail = format!("the message is not JSON: {error}");
        failed(None)(Failure::new(status::INVALID_JSON, detail))
    })?;
    let id = value.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
    let body = CommandMessage::body_of(&value);
    let mut fields = Fields::open(value).map_err(failed(id.clone()))?;
    let kind = fields.required_text("type");
    let message = match kind.as_str() {
        "auth" => ClientMessage::Auth(Zeroizing::new(fields.required_text("token"))),
        "ping" => ClientMessage::Ping(fields.any("id")),
        "unsubscribe" => ClientMessage::Unsubscribe(fields.required_text("id")),
        "subscribe" => {
            let name = fields.required_text("id");
            if name.is_empty() || name.chars().count() > MAX_ID_CHARS {
                fields.report(
                    "/id",
                    "out_of_range",
                    format!("a subscription's id has 1 to {MAX_ID_CHARS} characters"),
                );
            }
            let channel = read_channel(&mut fields).map_err(failed(id.clone()))?;
            ClientMessage::Subscribe(name, channel)
        }
        "command" => {
            fields.any("id");
            let command = CommandMessage::read(body, &mut fields);
            ClientMessage::Command(id.clone().unwrap_or_default(), Box::new(command))
        }
        _ => {
            let detail = "use auth, subscribe, unsubscribe, ping or command";
            fields.report("/type", "unknown_type", detail);
            ClientMessage::Ping(None)
        }
    };
    fields.finish().map_err(failed(id))?;
    Ok(message)
}

fn read_channel(fields: &mut Fields) -> Result<Channel, Failure> {
    match fields.required_text("channel").as_str() {
        "events" => {
            let after_position = fields.text("after_position");
            let filter = FeedFilter {
                category: fields.text("category"),
                event_type: fields.text("event_type"),
                expression: read_filter(fields)?,
            };
            return Ok(Channel::Events { after_position, filter });
        }
        "execution" => {}
        "agent_tokens" | "workflow_draft" => {
            fields.report(
                "/channel",
                "not_supported_yet",
                "this release has the channels execution and events",
            );
        }
        _ => fields.report("/channel", "unknown_channel", "use execution or events"),
    }
    Ok(Channel::Execution {
        execution: required_id(fields, "execution_id"),
        after_version: fields.number("after_version", 0, u64::MAX).unwrap_or(0),
        filter: read_filter(fields)?,
    })
}

fn read_filter(fields: &mut Fields) -> Result<Option<EventFilter>, Failure> {
    fields.text("filter").map(|text| EventFilter::parse(&text, "/filter")).transpose()
}

pub(super) fn required_id(fields: &mut Fields, name: &'static str) -> Uuid {
    let text = fields.required_text(name);
    parse_id(&text).unwrap_or_else(|| {
        fields.report(&format!("/{name}"), "invalid_id", "ids are UUIDv7");
        Uuid::nil()
    })
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ServerMessage<'a> {
    CaughtUp {
        subscription: &'a str,
        resume: Value,
    },
    Passed {
        subscription: &'a str,
        resume: Value,
    },
    Ended {
        subscription: &'a str,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Value>,
    },
    Result {
        id: Value,
        #[serde(flatten)]
        answer: &'a ExecutionAnswer,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription: Option<&'a str>,
        code: &'a str,
        status: u16,
        title: &'a str,
        detail: &'a str,
        #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
        errors: &'a [Problem],
    },
}

impl ServerMessage<'_> {
    fn write(&self) -> Message {
        Message::text(serde_json::to_string(self).expect("messages are plain data"))
    }
}

/// The history of a subscription is told.
pub(super) fn caught_up(subscription: &str, resume: &Resume) -> Message {
    ServerMessage::CaughtUp { subscription, resume: value_of(resume) }.write()
}

/// A filter has left out what lies before.
pub(super) fn passed(subscription: &str, resume: &Resume) -> Message {
    ServerMessage::Passed { subscription, resume: value_of(resume) }.write()
}

fn value_of(resume: &Resume) -> Value {
    match resume {
        Resume::Version(version) => Value::from(*version),
        Resume::Token(token) => Value::from(&**token),
    }
}

/// Nothing can follow in a subscription, so it is over.
pub(super) fn ended(subscription: &str) -> Message {
    ServerMessage::Ended { subscription }.write()
}

/// The answer to a ping.
pub(super) fn pong(id: Option<Value>) -> Message {
    ServerMessage::Pong { id }.write()
}

/// The answer to a command.
pub(super) fn result(id: Value, answer: &ExecutionAnswer) -> Message {
    ServerMessage::Result { id, answer, position: answer.position }.write()
}

/// What went wrong with a message or a subscription.
pub(super) fn error(id: Option<Value>, subscription: Option<&str>, failure: &Failure) -> Message {
    ServerMessage::Error {
        id,
        subscription,
        code: &failure.code,
        status: failure.status.as_u16(),
        title: failure.title,
        detail: &failure.detail,
        errors: &failure.errors,
    }
    .write()
}

/// What stands before the event in the messages of a subscription.
pub(super) fn event_prefix(subscription: &str) -> String {
    let name = Value::from(subscription);
    format!("{{\"type\":\"event\",\"subscription\":{name},\"resume\":")
}

/// An event of a subscription. The event itself was serialised once for all its readers.
pub(super) fn event(prefix: &str, resume: &Resume, event: &LiveEvent) -> Message {
    use std::fmt::Write;
    let json = event.json();
    let mut text = String::with_capacity(prefix.len() + json.len() + 80);
    text.push_str(prefix);
    match resume {
        Resume::Version(version) => write!(text, "{version}"),
        // Tokens are base64url: nothing to escape.
        Resume::Token(token) => write!(text, "\"{token}\""),
    }
    .expect("writing to a String cannot fail");
    text.push_str(",\"event\":");
    text.push_str(&json);
    text.push('}');
    Message::text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> (Option<Value>, Vec<(String, String)>) {
        let Err(Misunderstood { id, failure }) = read(text) else { panic!("`{text}` is understood") };
        (id, failure.errors.into_iter().map(|p| (p.pointer, p.code.into_owned())).collect())
    }

    #[test]
    fn a_subscription_is_read() {
        let id = "0190b2c4-7d5e-7abc-8def-0123456789ab";
        let text = format!(
            r#"{{"type":"subscribe","id":"s1","channel":"execution","execution_id":"{id}","after_version":3}}"#
        );
        match read(&text) {
            Ok(ClientMessage::Subscribe(name, Channel::Execution { execution, after_version, .. })) => {
                assert_eq!((name.as_str(), execution.to_string().as_str(), after_version), ("s1", id, 3));
            }
            _ => panic!("not a subscription"),
        }
    }

    #[test]
    fn what_is_not_understood_says_where() {
        assert_eq!(failure("[").1, vec![]);
        let (id, errors) =
            failure(r#"{"type":"subscribe","id":"s1","channel":"execution","execution_id":"x","afer":1}"#);
        assert_eq!(id, Some(Value::from("s1")));
        let pairs: Vec<_> = errors.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
        assert_eq!(pairs, [("/execution_id", "invalid_id"), ("/afer", "unknown_field")]);
        assert_eq!(failure(r#"{"type":"dance"}"#).1[0].1, "unknown_type");
        assert_eq!(failure(r#"{"type":"command","id":1,"name":"dance","execution_id":"0190b2c4-7d5e-7abc-8def-0123456789ab"}"#).1[0].1, "unknown_command");
    }

    #[test]
    fn names_are_escaped_in_messages() {
        let prefix = event_prefix("a\"b");
        assert!(prefix.contains(r#""subscription":"a\"b""#));
    }
}
