//! Why the bus did not do what it was asked.

/// An operation of the bus that failed.
#[derive(Debug, thiserror::Error)]
#[error("the bus could not {operation}")]
pub struct BusError {
    /// What it was to do, such as `connect to NATS at 127.0.0.1:4222`: no secrets.
    pub operation: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl BusError {
    /// For `map_err`.
    pub fn of<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        operation: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self { operation: operation.into(), source: source.into() }
    }
}
