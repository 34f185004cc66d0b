//! Looking at a NATS server without changing anything: for people who ask whether it is fit.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::Config;

use super::NatsOptions;
use super::connect::{Echo, Endpoint, Link};
use super::lifetime::Lifetime;
use super::requests::Requests;
use super::streams::{differences, events_stream, info, tasks_stream};
use crate::error::BusError;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsReport {
    /// Its version, such as `2.9.10`.
    pub server_version: String,
    /// Our streams, those that are not there yet too.
    pub streams: Vec<StreamReport>,
}

/// How a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub exists: bool,
    /// The fields of its configuration that are not what the options ask for.
    pub differing: Vec<&'static str>,
}

/// Looks at the server and our streams. Nothing is created.
///
/// # Errors
/// It cannot be reached, is too old, or has no JetStream.
pub async fn inspect(options: &NatsOptions) -> Result<NatsReport, BusError> {
    let endpoint = Endpoint::parse(&options.url)?;
    let link = Link::open(&endpoint, &options.connection_name("inspect"), Echo::Yes).await?;
    let lifetime = Lifetime::new();
    let report = look(&endpoint, &link, options, &lifetime).await;
    lifetime.end().await;
    // Said politely; if the server does not hear it, it finds out.
    let _ = link.client.drain().await;
    report
}

async fn look(
    endpoint: &Endpoint,
    link: &Link,
    options: &NatsOptions,
    lifetime: &Lifetime,
) -> Result<NatsReport, BusError> {
    link.check_version(endpoint)?;
    let requests = Requests::start(link.clone(), lifetime).await?;
    let mut streams = Vec::new();
    for wanted in [tasks_stream(options), events_stream(options, link.at_least(2, 10))] {
        streams.push(stream(&requests, &wanted).await?);
    }
    Ok(NatsReport { server_version: link.version(), streams })
}

async fn stream(requests: &Requests, wanted: &Config) -> Result<StreamReport, BusError> {
    let name = wanted.name.clone();
    match info(requests, &name).await {
        Ok(held) => Ok(StreamReport { name, exists: true, differing: differences(wanted, &held) }),
        Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => {
            Ok(StreamReport { name, exists: false, differing: Vec::new() })
        }
        Err(error) => Err(BusError::of(format!("look at the stream {name}"))(error)),
    }
}
