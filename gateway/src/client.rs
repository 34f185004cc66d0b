//! From where a request comes.

use std::net::IpAddr;
use std::sync::Arc;

/// A client's address and program, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// The address of the connection, or what a trusted proxy says of it.
    pub(crate) ip: Option<IpAddr>,
    /// `User-Agent`, at most 200 bytes.
    pub(crate) user_agent: Option<Arc<str>>,
}
