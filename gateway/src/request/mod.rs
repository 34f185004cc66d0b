//! What routes take out of requests: the caller, path and query, JSON bodies, conditions and keys.
//!
//! Invariant: whatever is wrong with a request is a [`Failure`](crate::failure::Failure) that says where.

mod body;
mod caller;
mod condition;
mod fields;
mod idempotency;
mod parameters;
mod prefer;

pub(crate) use body::JsonBody;
pub(crate) use caller::Caller;
pub(crate) use condition::{IfMatch, etag, is_known};
pub(crate) use fields::Fields;
pub(crate) use idempotency::{MessageKey, Write, WriteHeaders, Writing};
pub(crate) use parameters::{PathParams, Query};
pub(crate) use prefer::Prefer;

/// The most items of a page.
pub(crate) const MAX_LIMIT: u64 = 200;
/// The items of a page where nothing is said.
pub(crate) const DEFAULT_LIMIT: u64 = 50;
