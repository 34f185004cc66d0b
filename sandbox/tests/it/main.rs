//! The sandbox with real workers.

mod bombs;
mod isolation;
mod pool;
mod support;
mod values;
