//! Why a worker could not be set up. How an attempt failed is a `NodeError`, not one of these.

/// The worker was not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client could not be made, usually because the system's certificates cannot be read.
    #[error("the worker's HTTP client could not be set up; check that CA certificates are installed")]
    HttpClient(#[source] reqwest::Error),
}
