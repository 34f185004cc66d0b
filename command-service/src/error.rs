//! Why the command-service stops, and how errors are told to logs.

use domain::ids::Partition;
use event_store::StoreError;

/// Why the command-service stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum CommandServiceError {
    /// The store could not be used at the start.
    #[error("the command-service could not {operation}")]
    Start {
        /// What it was doing.
        operation: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Another process has taken a partition over.
    #[error(
        "partition {partition} was taken over under epoch {current}; this process held {offered} and stops"
    )]
    Fenced {
        /// The partition.
        partition: Partition,
        /// The epoch of this process.
        offered: u64,
        /// The epoch of the new owner.
        current: u64,
    },
    /// A task of the service panicked.
    #[error("a task of the command-service ended unexpectedly: {0}")]
    Task(String),
}

/// An error with its causes, for logs.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
