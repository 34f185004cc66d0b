//! Reading the log, in the same words for every database. Each call is one statement, so one snapshot.
//!
//! Invariant: a page of a partition has no gap; one that had is reported as damage, never handed out.

use async_trait::async_trait;
use bytes::Bytes;
use std::future::Future;
use uuid::Uuid;

use domain::blob::BlobRef;
use domain::event::RecordedEvent;
use domain::ids::{Partition, TenantId, birth_bucket};
use domain::time::Timestamp;

use crate::blobs::verified;
use crate::judge::INSTALLATION;
use crate::log::{AppendAnswer, ChainReport, LogReader, PartitionHead, StoreError};
use crate::rows::{self, StoredRow, failed, integer, limit};
use crate::verifiers::{Verifier, VerifierKind};
use crate::verify;

/// What is bound to a statement that reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'v> {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(&'v str),
    /// An id.
    Id(Uuid),
}

/// What runs statements that read.
pub(crate) trait Queries: Sync {
    /// A row of this database.
    type Row: StoredRow + Send + Sync;

    /// All rows of a statement, whose values are `$1`, `$2` and so on.
    fn rows(
        &self,
        operation: &'static str,
        text: &'static str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;
}

macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "select partition, \"offset\", stream, version, tenant, type, schema_version, id, recorded_at, ",
            "correlation_id, causation_id, actor, traceparent, codec, key_id, data from events ",
            $rest
        )
    };
}

macro_rules! select_verifiers {
    ($rest:literal) => {
        concat!(
            "select kind, lookup, tenant, principal, name, hash, family, created_at, expires_at, used_at ",
            "from verifiers ",
            $rest
        )
    };
}

/// The stream that holds a name: tenant, kind, key.
pub(crate) const CLAIM_HOLDER: &str =
    "select stream from claims where tenant = $1 and kind = $2 and key = $3";

/// A verifier: kind, lookup.
pub(crate) const FIND_VERIFIER: &str = select_verifiers!("where kind = $1 and lookup = $2");

/// Stores a verifier, in place of another with its kind and lookup: all columns in the table's order.
pub(crate) const STORE_VERIFIER: &str = "
    insert into verifiers (kind, lookup, tenant, principal, name, hash, family, created_at, expires_at, used_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    on conflict (kind, lookup) do update set
        tenant = excluded.tenant, principal = excluded.principal, name = excluded.name, hash = excluded.hash,
        family = excluded.family, created_at = excluded.created_at, expires_at = excluded.expires_at,
        used_at = excluded.used_at";

/// Stores a verifier unless one with its kind and lookup is there.
pub(crate) const STORE_NEW_VERIFIER: &str = "
    insert into verifiers (kind, lookup, tenant, principal, name, hash, family, created_at, expires_at, used_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    on conflict (kind, lookup) do nothing";

/// Uses a verifier up: kind, lookup, now.
pub(crate) const TAKE_VERIFIER: &str = "
    delete from verifiers where kind = $1 and lookup = $2 and (expires_at is null or expires_at > $3)
    returning kind, lookup, tenant, principal, name, hash, family, created_at, expires_at, used_at";

/// Notes a use of a verifier: kind, lookup, at.
pub(crate) const MARK_VERIFIER: &str = "
    update verifiers set used_at = $3 where kind = $1 and lookup = $2 and (used_at is null or used_at < $3)";

/// Replaces a verifier's hash: kind, lookup, from, to.
pub(crate) const SWAP_HASH: &str =
    "update verifiers set hash = $4 where kind = $1 and lookup = $2 and hash = $3";

/// Deletes the verifiers of a principal: kind, principal.
pub(crate) const DELETE_OF_PRINCIPAL: &str = "delete from verifiers where principal = $2 and kind = $1";

/// Notes one use: id, at.
pub(crate) const NOTE_USE: &str = "
    insert into verifier_uses (id, used_at) values ($1, $2)
    on conflict (id) do update set used_at = excluded.used_at where verifier_uses.used_at < excluded.used_at";

/// Deletes what was used too long ago: until.
pub(crate) const FORGET_USES: &str = "delete from verifier_uses where used_at <= $1";

/// Deletes the verifiers that expired: until, at most.
pub(crate) const FORGET_EXPIRED: &str = "delete from verifiers where (kind, lookup) in (
    select kind, lookup from verifiers where expires_at <= $1 order by expires_at limit $2)";

/// Moves a checkpoint that may not be there yet: reader, partition, from, to.
pub(crate) const FIRST_MOVE: &str = "
    insert into checkpoints (reader, partition, last_offset) values ($1, $2, $4)
    on conflict (reader, partition) do update set last_offset = excluded.last_offset
    where checkpoints.last_offset = $3";

/// Moves a checkpoint that is there: reader, partition, from, to.
pub(crate) const NEXT_MOVE: &str =
    "update checkpoints set last_offset = $4 where reader = $1 and partition = $2 and last_offset = $3";

/// What reads the log, with connections that it shares with nobody of another kind. All of them read alike.
pub(crate) trait Reads: Send + Sync {
    /// The connections.
    type Connections: Queries;

    /// The connections.
    fn connections(&self) -> &Self::Connections;

    /// How many partitions the log has.
    fn partition_count(&self) -> u16;
}

#[async_trait]
impl<T: Reads> LogReader for T {
    fn partitions(&self) -> u16 {
        self.partition_count()
    }

    async fn read_stream(
        &self,
        stream: Uuid,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        events_of_stream(self.connections(), stream, after_version, limit).await
    }

    async fn read_partition(
        &self,
        partition: Partition,
        after_offset: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        events_of_partition(self.connections(), partition, after_offset, limit).await
    }

    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        heads(self.connections()).await
    }

    async fn claim_holder(
        &self,
        tenant: &TenantId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        claim_holder(self.connections(), tenant.as_str(), kind, key).await
    }

    async fn installation_claim_holder(&self, kind: &str, key: &str) -> Result<Option<Uuid>, StoreError> {
        claim_holder(self.connections(), INSTALLATION, kind, key).await
    }

    async fn command_answer(
        &self,
        partition: Partition,
        command_id: Uuid,
    ) -> Result<Option<AppendAnswer>, StoreError> {
        command_answer(self.connections(), partition, command_id).await
    }

    async fn read_blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        read_blob(self.connections(), tenant, reference).await
    }

    async fn verify_chain(&self, partition: Partition) -> Result<ChainReport, StoreError> {
        verify::chain(self.connections(), partition).await
    }
}

/// Events of a stream.
async fn events_of_stream(
    queries: &impl Queries,
    stream: Uuid,
    after_version: u64,
    most: usize,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let text = select_events!("where bucket = $1 and stream = $2 and version > $3 order by version limit $4");
    let bucket = Value::Number(i64::from(birth_bucket(stream)));
    let values =
        [bucket, Value::Id(stream), Value::Number(integer(after_version)), Value::Number(limit(most))];
    rows::events(&queries.rows("read a stream", text, &values).await?)
}

/// Events of a partition after an offset, without a gap.
async fn events_of_partition(
    queries: &impl Queries,
    partition: Partition,
    after_offset: u64,
    most: usize,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let events = events_after(queries, partition, after_offset, most).await?;
    for (event, offset) in events.iter().zip(after_offset.saturating_add(1)..) {
        if event.position.offset != offset {
            return Err(rows::missing(partition, offset));
        }
    }
    Ok(events)
}

/// Events of a partition after an offset, gaps and all.
pub(crate) async fn events_after(
    queries: &impl Queries,
    partition: Partition,
    after_offset: u64,
    most: usize,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let text = select_events!("where partition = $1 and \"offset\" > $2 order by \"offset\" limit $3");
    let values = [i64::from(partition.0), integer(after_offset), limit(most)].map(Value::Number);
    rows::events(&queries.rows("read a partition", text, &values).await?)
}

/// The heads of all partitions.
async fn heads(queries: &impl Queries) -> Result<Vec<PartitionHead>, StoreError> {
    let text = "select p.partition, p.epoch,
        coalesce((select c.head from commits c where c.partition = p.partition order by c.head desc limit 1), 0)
        from partitions p order by p.partition";
    queries.rows("read its heads", text, &[]).await?.iter().map(rows::head).collect()
}

/// The stream that holds a name.
async fn claim_holder(
    queries: &impl Queries,
    owner: &str,
    kind: &str,
    key: &str,
) -> Result<Option<Uuid>, StoreError> {
    let operation = "look for the holder of a name";
    let values = [owner, kind, key].map(Value::Text);
    let rows = queries.rows(operation, CLAIM_HOLDER, &values).await?;
    rows.first().map(|row| row.id(0)).transpose().map_err(failed(operation))
}

/// The answer to a command.
async fn command_answer(
    queries: &impl Queries,
    partition: Partition,
    command_id: Uuid,
) -> Result<Option<AppendAnswer>, StoreError> {
    let text =
        "select digest, answer, partition, \"offset\" from commands where command_id = $1 and partition = $2";
    let values = [Value::Id(command_id), Value::Number(i64::from(partition.0))];
    let rows = queries.rows("look for a command's answer", text, &values).await?;
    rows.first().map(rows::answer).transpose()
}

/// The content of a claim check.
async fn read_blob(
    queries: &impl Queries,
    tenant: &TenantId,
    reference: &BlobRef,
) -> Result<Option<Bytes>, StoreError> {
    let operation = "read a large value";
    let text = "select content from blobs where tenant = $1 and sha256 = $2";
    let values = [tenant.as_str(), reference.sha256.as_str()].map(Value::Text);
    let rows = queries.rows(operation, text, &values).await?;
    match rows.first().map(|row| row.bytes(0)).transpose().map_err(failed(operation))? {
        None => Ok(None),
        Some(content) => {
            verified(tenant, &reference.sha256, content.into(), "the log's database").await.map(Some)
        }
    }
}

/// How far a reader is.
pub(crate) async fn checkpoint(
    queries: &impl Queries,
    reader: &str,
    partition: Partition,
) -> Result<u64, StoreError> {
    let operation = "read a checkpoint";
    let text = "select last_offset from checkpoints where reader = $1 and partition = $2";
    let values = [Value::Text(reader), Value::Number(i64::from(partition.0))];
    let rows = queries.rows(operation, text, &values).await?;
    let offset = rows.first().map(|row| row.number(0)).transpose().map_err(failed(operation))?;
    rows::count(offset.unwrap_or(0), "a checkpoint")
}

/// A verifier.
pub(crate) async fn verifier(
    queries: &impl Queries,
    kind: VerifierKind,
    lookup: &str,
) -> Result<Option<Verifier>, StoreError> {
    let values = [kind.as_str(), lookup].map(Value::Text);
    let rows = queries.rows("find a verifier", FIND_VERIFIER, &values).await?;
    rows.first().map(rows::verifier).transpose()
}

/// The verifiers of a tenant.
pub(crate) async fn verifiers(
    queries: &impl Queries,
    kind: VerifierKind,
    tenant: &TenantId,
) -> Result<Vec<Verifier>, StoreError> {
    let text = select_verifiers!("where kind = $1 and tenant = $2 order by created_at, lookup");
    let values = [kind.as_str(), tenant.as_str()].map(Value::Text);
    let rows = queries.rows("list verifiers", text, &values).await?;
    rows.iter().map(rows::verifier).collect()
}

/// The verifiers of a principal.
pub(crate) async fn verifiers_of(
    queries: &impl Queries,
    kind: VerifierKind,
    principal: &str,
) -> Result<Vec<Verifier>, StoreError> {
    let text = select_verifiers!("where principal = $2 and kind = $1 order by created_at, lookup");
    let values = [Value::Text(kind.as_str()), Value::Text(principal)];
    let rows = queries.rows("list a principal's verifiers", text, &values).await?;
    rows.iter().map(rows::verifier).collect()
}

/// When something was last used.
pub(crate) async fn uses(queries: &impl Queries, ids: &[Uuid]) -> Result<Vec<(Uuid, Timestamp)>, StoreError> {
    let operation = "read last uses";
    let mut uses = Vec::new();
    for id in ids {
        let text = "select used_at from verifier_uses where id = $1";
        let rows = queries.rows(operation, text, &[Value::Id(*id)]).await?;
        if let Some(row) = rows.first() {
            uses.push((*id, Timestamp::from_unix_ms(row.number(0).map_err(rows::failed(operation))?)));
        }
    }
    Ok(uses)
}
