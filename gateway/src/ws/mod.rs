//! WebSocket connections: subscriptions and commands over one socket.
//!
//! One task serves a connection: it reads messages, polls the tails of the subscriptions and runs commands; a
//! bounded outbox stands between it and the socket. Invariants: a client that does not read is cut off
//! with 4008 when its outbox stays full, and slows nobody but itself; a connection whose token is no longer good ends
//! with 4401; a process that stops closes with 1001.

mod connection;
mod messages;
mod outbox;

pub(crate) use connection::serve;

/// Close code: the process stops; connect again.
const GOING_AWAY: u16 = 1001;
/// Close code: the client does not read.
const SLOW: u16 = 4008;
/// Close code: no valid token.
const UNAUTHENTICATED: u16 = 4401;
