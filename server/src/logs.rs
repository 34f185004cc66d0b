//! Log lines: to standard error, filtered, for people or as JSON.
//!
//! Standard output belongs to results. Spans carry `trace_id`; the gateway opens one per request.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogFormat};

/// The variable that sets the filter, for commands that do not read the configuration.
pub const FILTER_VARIABLE: &str = "EVERLINE_LOG";

/// The client of NATS is not heard unless the filter names it.
const NOISY: &str = "async_nats=off";

/// Starts logging. Later calls change nothing.
///
/// # Errors
/// The filter is not in the syntax of `tracing`.
pub fn start(filter: &str, format: LogFormat) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        ConfigError::single(
            "log",
            format!("`{filter}` is not a log filter ({error}); try `info,gateway=debug`"),
        )
    })?;
    let filter = match NOISY.parse() {
        // What the bus has to say of its connections it says itself; the client calls each of them an error.
        Ok(quiet) if !filter.to_string().contains("async_nats") => filter.add_directive(quiet),
        _ => filter,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second subscriber is refused, as in tests that start several processes' worth of parts in one.
    let _ = match format {
        LogFormat::Pretty => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    Ok(())
}

/// Starts logging for a command that only asks a server: warnings, unless `EVERLINE_LOG` says otherwise.
///
/// # Errors
/// As [`start`].
pub fn start_for_client() -> Result<(), ConfigError> {
    let filter = std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty());
    start(filter.as_deref().unwrap_or("warn"), LogFormat::Pretty)
}
