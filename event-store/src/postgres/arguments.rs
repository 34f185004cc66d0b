//! What is bound to the statements of an append: a list per column.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgBindIterExt, PgHasArrayType};
use sqlx::{Arguments, Encode, Postgres, Type};
use std::collections::BTreeMap;
use uuid::Uuid;

use domain::blob::Blob;
use domain::decision::Wakeup;
use domain::event::RecordedEvent;
use domain::ids::{TenantId, birth_bucket};

use super::buckets::day;
use super::judge::NameChange;
use crate::chain::{CommitContent, Hash};
use crate::log::{Append, Batch, StoreError};
use crate::plan::{Plan, Tails};
use crate::rows::{failed, integer};

/// Adds a value.
pub(super) fn add<'v, T: Encode<'v, Postgres> + Type<Postgres>>(
    arguments: &mut PgArguments,
    operation: &'static str,
    value: T,
) -> Result<(), StoreError> {
    arguments.add(value).map_err(|error| failed(operation)(sqlx::Error::Encode(error)))
}

/// A column of a list of rows, borrowed from the rows.
pub(super) fn column<'r, R, T>(
    arguments: &mut PgArguments,
    rows: &'r [R],
    value: impl Fn(&'r R) -> T,
) -> Result<(), BoxDynError>
where
    T: Encode<'r, Postgres> + Type<Postgres> + PgHasArrayType,
{
    arguments.add(rows.iter().map(value).bind_iter())
}

/// What the caller knows of the ends of partitions, and the commits it adds.
pub(super) fn ends_arguments(
    to: &mut PgArguments,
    tails: &Tails,
    commits: &[(CommitContent, Hash)],
) -> Result<(), BoxDynError> {
    let tails: Vec<_> = tails.iter().collect();
    column(to, &tails, |(partition, _)| i32::from(partition.0))?;
    column(to, &tails, |(_, tail)| integer(tail.epoch))?;
    column(to, &tails, |(_, tail)| integer(tail.offset))?;
    column(to, &tails, |(_, tail)| &tail.hash[..])?;

    column(to, commits, |(commit, _)| i32::from(commit.partition.0))?;
    column(to, commits, |(commit, _)| integer(commit.last))?;
    column(to, commits, |(commit, _)| integer(commit.epoch))?;
    column(to, commits, |(commit, _)| integer(commit.last - commit.first + 1))?;
    column(to, commits, |(commit, _)| &commit.root[..])?;
    column(to, commits, |(_, hash)| &hash[..])?;
    column(to, commits, |(commit, _)| commit.committed_at.unix_ms())
}

/// The columns of events.
pub(super) fn events(to: &mut PgArguments, events: &[RecordedEvent]) -> Result<(), BoxDynError> {
    column(to, events, |event| i32::from(event.position.partition.0))?;
    column(to, events, |event| integer(event.position.offset))?;
    column(to, events, |event| birth_bucket(event.stream))?;
    column(to, events, |event| event.stream)?;
    column(to, events, |event| integer(event.version))?;
    column(to, events, |event| event.tenant.as_str())?;
    column(to, events, |event| &*event.event_type)?;
    column(to, events, |event| i32::from(event.schema_version))?;
    column(to, events, |event| event.id)?;
    column(to, events, |event| event.recorded_at.unix_ms())?;
    column(to, events, |event| event.correlation_id)?;
    column(to, events, |event| event.causation_id)?;
    column(to, events, |event| event.actor.as_str())?;
    column(to, events, |event| event.traceparent.as_deref())?;
    column(to, events, |event| i32::try_from(event.codec.number()).unwrap_or(i32::MAX))?;
    column(to, events, |event| event.key_id.as_deref())?;
    column(to, events, |event| &event.data[..])
}

/// Everything else that an append writes.
pub(super) fn plan_arguments(
    to: &mut PgArguments,
    plan: &Plan<'_>,
    batch: &Batch,
    names: &[NameChange<'_>],
) -> Result<(), BoxDynError> {
    events(to, &plan.events)?;
    let commands = &plan.commands;
    column(to, commands, |(append, _)| append.command_id)?;
    column(to, commands, |(_, stored)| stored.digest.as_ref().map(|digest| &digest[..]))?;
    column(to, commands, |(_, stored)| &stored.answer[..])?;
    column(to, commands, |(_, stored)| i32::from(stored.position.partition.0))?;
    column(to, commands, |(_, stored)| integer(stored.position.offset))?;
    column(to, commands, |(append, _)| day(append.decided_at))?;

    wakeup_arguments(to, batch)?;

    column(to, names, |change| change.tenant)?;
    column(to, names, |change| change.kind)?;
    column(to, names, |change| change.key)?;
    column(to, names, |change| change.before)?;
    column(to, names, |change| change.after)?;

    // Each once and in one order for all: two appends that store the same ones do not wait for each other.
    let blobs: BTreeMap<(&str, &str), (&TenantId, &Blob)> = batch
        .appends
        .iter()
        .flat_map(|append| append.blobs.iter().map(move |blob| (&append.tenant, blob)))
        // Of two with the same content the first is kept, as the table does it.
        .rev()
        .map(|(tenant, blob)| ((tenant.as_str(), blob.reference.sha256.as_str()), (tenant, blob)))
        .collect();
    blob_arguments(to, &blobs.into_values().collect::<Vec<_>>())
}

fn wakeup_arguments(to: &mut PgArguments, batch: &Batch) -> Result<(), BoxDynError> {
    let mut wakeups: Vec<(&Append, Uuid, &Wakeup, String)> = Vec::new();
    for append in &batch.appends {
        if let Some(stream) = append.streams.first() {
            let rows = append.wakeups.iter();
            wakeups.extend(rows.map(|wakeup| (append, stream.stream, wakeup, wakeup.kind.to_string())));
        }
    }
    column(to, &wakeups, |(append, ..)| i32::from(append.partition.0))?;
    column(to, &wakeups, |(_, _, wakeup, _)| wakeup.due_at.unix_ms())?;
    column(to, &wakeups, |(_, stream, ..)| *stream)?;
    column(to, &wakeups, |(.., kind)| kind.as_str())?;
    column(to, &wakeups, |(_, stream, ..)| birth_bucket(*stream))?;
    column(to, &wakeups, |(append, ..)| append.tenant.as_str())
}

/// Large values.
pub(super) fn blob_arguments(to: &mut PgArguments, blobs: &[(&TenantId, &Blob)]) -> Result<(), BoxDynError> {
    column(to, blobs, |(tenant, _)| tenant.as_str())?;
    column(to, blobs, |(_, blob)| blob.reference.sha256.as_str())?;
    column(to, blobs, |(_, blob)| blob.reference.media_type.as_str())?;
    column(to, blobs, |(_, blob)| &blob.content[..])
}
