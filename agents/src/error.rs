//! Why a worker could not be set up. How an attempt failed is a `NodeError`, not one of these.

/// The worker was not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client could not be made, neither with the system's certificates nor with those in the program.
    #[error("the worker's HTTP client could not be set up")]
    HttpClient(#[source] reqwest::Error),
}
