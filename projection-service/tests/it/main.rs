//! The projection against a real log and real read models.

mod following;
mod rebuilding;
mod support;
mod trouble;
