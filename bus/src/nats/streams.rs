//! The streams and consumers: what they must be, made so, and read back.
//!
//! Old servers drop fields that they do not know without a word, and a stream of the same name may have been made by
//! somebody else. So nothing is believed before it is read back and compared, field by field.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::{Compression, Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use serde_json::json;
use std::time::Duration;

use domain::node_type::NodeType;

use super::NatsOptions;
use super::api::{ApiError, call};
use super::requests::Requests;
use super::subjects::{EVENTS_STREAM, EVENTS_SUBJECTS, TASKS_STREAM, TASKS_SUBJECTS, task, task_consumer};
use crate::error::BusError;

/// How long a stream knows the ids of messages, so that one that is sent again is stored once.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// How long a task may wait for a worker. One that is dropped is published again by its owner.
const TASKS_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The most bytes of waiting tasks; beyond, owners keep them.
const TASKS_MAX_BYTES: i64 = 1024 * 1024 * 1024;
/// How long a worker may take from the delivery to the acknowledgement, which it sends at once.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// Tasks that may be delivered and not acknowledged. Only what dead workers took along stays in that state.
const MAX_ACK_PENDING: i64 = 10_000;
/// Requests for tasks that may wait at the server, of all workers together.
const MAX_WAITING: i64 = 8_192;

/// What the stream of tasks must be.
pub(super) fn tasks_stream(options: &NatsOptions) -> Config {
    Config {
        name: TASKS_STREAM.to_owned(),
        subjects: vec![TASKS_SUBJECTS.to_owned()],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        max_age: TASKS_MAX_AGE,
        max_bytes: TASKS_MAX_BYTES,
        // A full queue refuses: what waits longest is not the least wanted.
        discard: DiscardPolicy::New,
        ..common(options)
    }
}

/// What the stream of published events must be. `compressed` on servers that know how.
pub(super) fn events_stream(options: &NatsOptions, compressed: bool) -> Config {
    Config {
        name: EVENTS_STREAM.to_owned(),
        subjects: vec![EVENTS_SUBJECTS.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        max_age: options.events_max_age,
        max_bytes: i64::try_from(options.events_max_bytes).unwrap_or(i64::MAX),
        discard: DiscardPolicy::Old,
        duplicate_window: DUPLICATE_WINDOW.min(options.events_max_age),
        compression: compressed.then_some(Compression::S2),
        ..common(options)
    }
}

fn common(options: &NatsOptions) -> Config {
    Config {
        num_replicas: usize::from(options.replicas.max(1)),
        duplicate_window: DUPLICATE_WINDOW,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        // The server's own limit of a message rules.
        max_message_size: -1,
        allow_direct: true,
        ..Config::default()
    }
}

/// What the server keeps another way than asked, by the names of its fields.
pub(super) fn differences(wanted: &Config, held: &Config) -> Vec<&'static str> {
    let fields = [
        ("name", wanted.name == held.name),
        ("subjects", wanted.subjects == held.subjects),
        ("retention", wanted.retention == held.retention),
        ("storage", wanted.storage == held.storage),
        ("max_age", wanted.max_age == held.max_age),
        ("max_bytes", wanted.max_bytes == held.max_bytes),
        ("discard", wanted.discard == held.discard),
        ("duplicate_window", wanted.duplicate_window == held.duplicate_window),
        ("max_msg_size", wanted.max_message_size == held.max_message_size),
        ("num_replicas", wanted.num_replicas == held.num_replicas),
        ("compression", wanted.compression.is_none() || wanted.compression == held.compression),
    ];
    fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

/// Makes a stream what it must be, whether it is there or not.
pub(super) async fn ensure_stream(requests: &Requests, wanted: &Config) -> Result<(), BusError> {
    let name = &wanted.name;
    let operation = || format!("set up the stream {name}");
    let held = match info(requests, name).await {
        Ok(held) => held,
        Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => {
            let created = call::<Info>(requests, &format!("STREAM.CREATE.{name}"), wanted).await;
            created.map_err(|error| refusal(operation(), wanted, error))?;
            info(requests, name).await.map_err(BusError::of(operation()))?
        }
        Err(error) => return Err(BusError::of(operation())(error)),
    };
    let differing = differences(wanted, &held);
    if differing.is_empty() {
        return Ok(());
    }
    if let Some(field) = differing.iter().find(|field| ["retention", "storage"].contains(field)) {
        let source = format!(
            "it exists with another {field}, which cannot be changed; remove it (`nats stream rm {name}`) if it is not \
             needed, or give Everline a NATS account of its own"
        );
        return Err(BusError { operation: operation(), source: source.into() });
    }
    // What we do not set stays as it is, the placement for instance.
    let updated =
        Config { placement: held.placement.clone(), metadata: held.metadata.clone(), ..wanted.clone() };
    let update = call::<Info>(requests, &format!("STREAM.UPDATE.{name}"), &updated).await;
    update.map_err(|error| refusal(operation(), wanted, error))?;
    let held = info(requests, name).await.map_err(BusError::of(operation()))?;
    let differing = differences(wanted, &held);
    if differing.is_empty() {
        tracing::info!(nats.stream = %name, "the configuration of a stream was brought up to date");
        return Ok(());
    }
    let source = format!(
        "the server keeps another {} than asked; remove the stream, or correct it",
        differing.join(", ")
    );
    Err(BusError { operation: operation(), source: source.into() })
}

pub(super) async fn info(requests: &Requests, name: &str) -> Result<Config, ApiError> {
    call::<Info>(requests, &format!("STREAM.INFO.{name}"), &json!({})).await.map(|info| info.config)
}

fn refusal(operation: String, wanted: &Config, error: ApiError) -> BusError {
    let storage = [ErrorCode::INSUFFICIENT_RESOURCES, ErrorCode::STORAGE_RESOURCES_EXCEEDED];
    if storage.into_iter().any(|code| error.is(code)) {
        let source = format!(
            "the server has no room for {} bytes; give JetStream more storage (`max_file_store`), or lower the \
             stream's limit",
            wanted.max_bytes
        );
        return BusError { operation, source: source.into() };
    }
    BusError::of(operation)(error)
}

/// Makes the consumer of a type's tasks, if it is not there, and checks it. One subject per consumer: servers of 2.9
/// ignore a list of them, and the consumer would deliver everything.
pub(super) async fn ensure_consumer(requests: &Requests, node_type: NodeType) -> Result<(), BusError> {
    let (name, filter) = (task_consumer(node_type), task(node_type));
    let operation = || format!("set up the consumer {name} of {TASKS_STREAM}");
    let wanted = consumer::Config {
        durable_name: Some(name.clone()),
        name: Some(name.clone()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        filter_subject: filter.clone(),
        max_ack_pending: MAX_ACK_PENDING,
        max_waiting: MAX_WAITING,
        ..consumer::Config::default()
    };
    let subject = format!("CONSUMER.CREATE.{TASKS_STREAM}.{name}.{filter}");
    let body = json!({ "stream_name": TASKS_STREAM, "config": wanted });
    let made = call::<consumer::Info>(requests, &subject, &body).await;
    let held = made.map_err(BusError::of(operation()))?.config;
    let fields = [
        ("ack_policy", wanted.ack_policy == held.ack_policy),
        ("ack_wait", wanted.ack_wait == held.ack_wait),
        ("max_deliver", wanted.max_deliver == held.max_deliver),
        ("filter_subject", wanted.filter_subject == held.filter_subject),
        ("max_ack_pending", wanted.max_ack_pending == held.max_ack_pending),
        // Fixed when the consumer is made; one made by another release is good enough.
    ];
    match fields.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((field, _)) => {
            let source = format!("the server keeps another {field} than asked; remove the consumer");
            Err(BusError { operation: operation(), source: source.into() })
        }
    }
}
