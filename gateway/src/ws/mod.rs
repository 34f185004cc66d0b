//! WebSocket connections: subscriptions and commands over one socket.
//!
//! One task serves a connection: it reads messages and writes what comes; a bounded outbox stands between it and the
//! socket. The tails of its subscriptions and its commands run in tasks of their own, which end with it, because they
//! use the log's few connections and must never wait to be polled. Invariants: a client that does not read is cut off
//! with 4008 when its outbox stays full, and slows nobody but itself; a connection whose token is no longer good ends
//! with 4401, and a subscription whose caller may not follow it any more ends with an error; a process that stops closes with 1001.

mod commands;
mod connection;
mod ending;
mod messages;
mod outbox;
mod rights;
mod subscriptions;

pub(crate) use connection::serve;

/// Close code: the process stops; connect again.
const GOING_AWAY: u16 = 1001;
/// Close code: what came is no WebSocket frame.
const BROKEN_PROTOCOL: u16 = 1002;
/// Close code: a text is not UTF-8.
const NOT_UTF8: u16 = 1007;
/// Close code: the message is too large.
const TOO_LARGE: u16 = 1009;
/// Close code: the client does not read.
const SLOW: u16 = 4008;
/// Close code: no valid token.
const UNAUTHENTICATED: u16 = 4401;
