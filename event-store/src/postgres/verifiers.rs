//! The table of verifiers on Postgres. What changes a family takes its lock first, so that a family that is deleted
//! does not come back by a rotation that began before.

use async_trait::async_trait;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use domain::ids::TenantId;
use domain::time::Timestamp;

use super::PostgresLog;
use super::arguments::add;
use crate::log::StoreError;
use crate::queries::{
    self, DELETE_OF_PRINCIPAL, FIND_VERIFIER, FORGET_EXPIRED, FORGET_USES, MARK_VERIFIER, STORE_NEW_VERIFIER,
    STORE_VERIFIER, SWAP_HASH, TAKE_VERIFIER,
};
use crate::rows::{self, StoredRow, failed, limit};
use crate::verifiers::{Rotation, USES_KEPT_MS, Verifier, VerifierKind, Verifiers};

const LOCK_FAMILY: &str = "select pg_advisory_xact_lock(1163284304, hashtext($1::text))";
/// Notes uses: ids, times. In the order of the ids, so that two gateways do not wait for each other.
const NOTE_USES: &str = "
    insert into verifier_uses (id, used_at)
    select id, used_at from unnest($1::uuid[], $2::int8[]) as noted (id, used_at) order by id
    on conflict (id) do update set used_at = excluded.used_at where verifier_uses.used_at < excluded.used_at";
const DELETE_FAMILY: &str = "delete from verifiers where family = $1";

#[async_trait]
impl Verifiers for PostgresLog {
    async fn put(&self, verifier: &Verifier) -> Result<(), StoreError> {
        let operation = "store a verifier";
        let arguments = columns(verifier, operation)?;
        self.readers.execute(STORE_VERIFIER, arguments).await.map_err(failed(operation))?;
        Ok(())
    }

    async fn put_new(&self, verifiers: &[Verifier]) -> Result<bool, StoreError> {
        let operation = "store new verifiers";
        let Some((first, others)) = verifiers.split_first() else { return Ok(false) };
        let first = columns(first, operation)?;
        let others =
            others.iter().map(|verifier| columns(verifier, operation)).collect::<Result<Vec<_>, _>>()?;
        let session = self.readers.clone();
        let stored = self
            .readers
            .transaction(move |connection| {
                Box::pin(async move {
                    // Whoever inserts the same row waits here for the end of the transaction that has it.
                    let written =
                        session.statement(STORE_NEW_VERIFIER, first).execute(&mut *connection).await?;
                    if written.rows_affected() == 0 {
                        return Ok(false);
                    }
                    for arguments in others {
                        session.statement(STORE_VERIFIER, arguments).execute(&mut *connection).await?;
                    }
                    Ok(true)
                })
            })
            .await;
        stored.map_err(failed(operation))
    }

    async fn find(&self, kind: VerifierKind, lookup: &str) -> Result<Option<Verifier>, StoreError> {
        queries::verifier(&self.readers, kind, lookup).await
    }

    async fn rotate(&self, lookup: &str, next: &[Verifier], now: Timestamp) -> Result<Rotation, StoreError> {
        let operation = "rotate a refresh token";
        let Some(found) = self.find(VerifierKind::RefreshToken, lookup).await? else {
            return Ok(Rotation::Refused);
        };
        let Some(family) = found.family else { return Ok(Rotation::Refused) };
        let mut find = PgArguments::default();
        add(&mut find, operation, VerifierKind::RefreshToken.as_str())?;
        add(&mut find, operation, lookup)?;
        let used = columns(&Verifier { used_at: Some(now), ..found }, operation)?;
        let mut stored = vec![used];
        for verifier in next {
            stored.push(columns(verifier, operation)?);
        }
        let lock = one(family, operation)?;
        let delete = one(family, operation)?;
        let session = self.readers.clone();
        let rotated = self
            .readers
            .transaction(move |connection| {
                Box::pin(async move {
                    session.statement(LOCK_FAMILY, lock).execute(&mut *connection).await?;
                    // Looked at again: what was found before the lock may be used or gone.
                    let row = session.statement(FIND_VERIFIER, find).fetch_optional(&mut *connection).await?;
                    let Some(row) = row else { return Ok(Rotation::Refused) };
                    if row.optional_number(9)?.is_some() {
                        session.statement(DELETE_FAMILY, delete).execute(&mut *connection).await?;
                        return Ok(Rotation::Reused);
                    }
                    if row.optional_number(8)?.is_some_and(|expiry| expiry <= now.unix_ms()) {
                        return Ok(Rotation::Refused);
                    }
                    for arguments in stored {
                        session.statement(STORE_VERIFIER, arguments).execute(&mut *connection).await?;
                    }
                    Ok(Rotation::Rotated)
                })
            })
            .await;
        rotated.map_err(failed(operation))
    }

    async fn delete_family(&self, family: Uuid) -> Result<u64, StoreError> {
        let operation = "delete a family of verifiers";
        let lock = one(family, operation)?;
        let delete = one(family, operation)?;
        let session = self.readers.clone();
        let deleted = self
            .readers
            .transaction(move |connection| {
                Box::pin(async move {
                    session.statement(LOCK_FAMILY, lock).execute(&mut *connection).await?;
                    Ok(session.statement(DELETE_FAMILY, delete).execute(connection).await?.rows_affected())
                })
            })
            .await;
        deleted.map_err(failed(operation))
    }

    async fn delete(&self, kind: VerifierKind, lookup: &str) -> Result<bool, StoreError> {
        let operation = "delete a verifier";
        let arguments = texts(&[kind.as_str(), lookup], operation)?;
        let text = "delete from verifiers where kind = $1 and lookup = $2";
        Ok(self.readers.execute(text, arguments).await.map_err(failed(operation))? == 1)
    }

    async fn take(
        &self,
        kind: VerifierKind,
        lookup: &str,
        now: Timestamp,
    ) -> Result<Option<Verifier>, StoreError> {
        let operation = "take a verifier";
        let mut arguments = texts(&[kind.as_str(), lookup], operation)?;
        add(&mut arguments, operation, now.unix_ms())?;
        let taken = self.readers.run(TAKE_VERIFIER, arguments).await.map_err(failed(operation))?;
        taken.first().map(rows::verifier).transpose()
    }

    async fn mark_used(&self, kind: VerifierKind, lookup: &str, at: Timestamp) -> Result<bool, StoreError> {
        let operation = "note a verifier's use";
        let mut arguments = texts(&[kind.as_str(), lookup], operation)?;
        add(&mut arguments, operation, at.unix_ms())?;
        Ok(self.readers.execute(MARK_VERIFIER, arguments).await.map_err(failed(operation))? == 1)
    }

    async fn swap_hash(
        &self,
        kind: VerifierKind,
        lookup: &str,
        from: &str,
        to: &str,
    ) -> Result<bool, StoreError> {
        let operation = "replace a verifier's hash";
        let arguments = texts(&[kind.as_str(), lookup, from, to], operation)?;
        Ok(self.readers.execute(SWAP_HASH, arguments).await.map_err(failed(operation))? == 1)
    }

    async fn of_principal(&self, kind: VerifierKind, principal: &str) -> Result<Vec<Verifier>, StoreError> {
        queries::verifiers_of(&self.readers, kind, principal).await
    }

    async fn delete_of_principal(&self, kind: VerifierKind, principal: &str) -> Result<u64, StoreError> {
        let operation = "delete a principal's verifiers";
        let arguments = texts(&[kind.as_str(), principal], operation)?;
        self.readers.execute(DELETE_OF_PRINCIPAL, arguments).await.map_err(failed(operation))
    }

    async fn note_uses(&self, uses: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
        let operation = "note last uses";
        if uses.is_empty() {
            return Ok(());
        }
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, uses.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
        add(&mut arguments, operation, uses.iter().map(|(_, at)| at.unix_ms()).collect::<Vec<_>>())?;
        self.readers.execute(NOTE_USES, arguments).await.map_err(failed(operation))?;
        Ok(())
    }

    async fn uses(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Timestamp)>, StoreError> {
        queries::uses(&self.readers, ids).await
    }

    async fn list(&self, kind: VerifierKind, tenant: &TenantId) -> Result<Vec<Verifier>, StoreError> {
        queries::verifiers(&self.readers, kind, tenant).await
    }

    async fn forget_expired(&self, now: Timestamp, most: usize) -> Result<u64, StoreError> {
        let operation = "forget expired verifiers";
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, now.unix_ms())?;
        add(&mut arguments, operation, limit(most))?;
        let forgotten = self.readers.execute(FORGET_EXPIRED, arguments).await.map_err(failed(operation))?;
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, now.unix_ms() - USES_KEPT_MS as i64)?;
        self.readers.execute(FORGET_USES, arguments).await.map_err(failed(operation))?;
        Ok(forgotten)
    }
}

fn one(family: Uuid, operation: &'static str) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    add(&mut arguments, operation, family)?;
    Ok(arguments)
}

/// Texts, in the order of the statement.
fn texts(values: &[&str], operation: &'static str) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        add(&mut arguments, operation, *value)?;
    }
    Ok(arguments)
}

/// All columns, in the order of the table.
fn columns(verifier: &Verifier, operation: &'static str) -> Result<PgArguments, StoreError> {
    let mut row = PgArguments::default();
    add(&mut row, operation, verifier.kind.as_str())?;
    add(&mut row, operation, verifier.lookup.as_str())?;
    add(&mut row, operation, verifier.tenant.as_str())?;
    add(&mut row, operation, verifier.principal.as_str())?;
    add(&mut row, operation, verifier.name.as_str())?;
    add(&mut row, operation, verifier.hash.as_str())?;
    add(&mut row, operation, verifier.family)?;
    add(&mut row, operation, verifier.created_at.unix_ms())?;
    add(&mut row, operation, verifier.expires_at.map(Timestamp::unix_ms))?;
    add(&mut row, operation, verifier.used_at.map(Timestamp::unix_ms))?;
    Ok(row)
}
