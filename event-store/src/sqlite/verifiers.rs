//! The table of verifiers on SQLite. Writes share the log's connection, so they wait for a batch at most.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use domain::ids::TenantId;
use domain::time::Timestamp;

use super::SqliteLog;
use crate::log::StoreError;
use crate::queries::{
    self, DELETE_OF_PRINCIPAL, FIND_VERIFIER, FORGET_EXPIRED, FORGET_USES, MARK_VERIFIER, NOTE_USE,
    STORE_NEW_VERIFIER, STORE_VERIFIER, SWAP_HASH, TAKE_VERIFIER,
};
use crate::rows::{self, failed, limit};
use crate::verifiers::{Rotation, USES_KEPT_MS, Verifier, VerifierKind, Verifiers};

#[async_trait]
impl Verifiers for SqliteLog {
    async fn put(&self, verifier: &Verifier) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        store(&mut writer.connection, STORE_VERIFIER, verifier).await?;
        Ok(())
    }

    async fn put_new(&self, verifiers: &[Verifier]) -> Result<bool, StoreError> {
        let Some((first, others)) = verifiers.split_first() else { return Ok(false) };
        let mut writer = self.writer.lock().await;
        let mut transaction = Self::begin(&mut writer.connection).await?;
        if store(&mut transaction, STORE_NEW_VERIFIER, first).await? == 0 {
            return Ok(false);
        }
        for verifier in others {
            store(&mut transaction, STORE_VERIFIER, verifier).await?;
        }
        transaction.commit().await.map_err(failed("store new verifiers"))?;
        Ok(true)
    }

    async fn find(&self, kind: VerifierKind, lookup: &str) -> Result<Option<Verifier>, StoreError> {
        queries::verifier(&self.readers, kind, lookup).await
    }

    async fn rotate(&self, lookup: &str, next: &[Verifier], now: Timestamp) -> Result<Rotation, StoreError> {
        let operation = "rotate a refresh token";
        let mut writer = self.writer.lock().await;
        // Everything is read and written in one transaction: between a look and a write of its own, another
        // refresh or a logout could delete the family, and the write would bring it back.
        let mut transaction = Self::begin(&mut writer.connection).await?;
        let found = sqlx::query(FIND_VERIFIER)
            .bind(VerifierKind::RefreshToken.as_str())
            .bind(lookup)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed(operation))?;
        let found = found.as_ref().map(rows::verifier).transpose()?;
        let Some((found, family)) = found.and_then(|found| found.family.map(|family| (found, family))) else {
            return Ok(Rotation::Refused);
        };
        if found.used_at.is_some() {
            delete_family(&mut transaction, family).await?;
            transaction.commit().await.map_err(failed(operation))?;
            return Ok(Rotation::Reused);
        }
        if found.expires_at.is_some_and(|expiry| expiry <= now) {
            return Ok(Rotation::Refused);
        }
        store(&mut transaction, STORE_VERIFIER, &Verifier { used_at: Some(now), ..found }).await?;
        for verifier in next {
            store(&mut transaction, STORE_VERIFIER, verifier).await?;
        }
        transaction.commit().await.map_err(failed(operation))?;
        Ok(Rotation::Rotated)
    }

    async fn delete_family(&self, family: Uuid) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        delete_family(&mut writer.connection, family).await
    }

    async fn delete(&self, kind: VerifierKind, lookup: &str) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let deleted = sqlx::query("delete from verifiers where kind = ? and lookup = ?")
            .bind(kind.as_str())
            .bind(lookup)
            .execute(&mut writer.connection)
            .await
            .map_err(failed("delete a verifier"))?;
        Ok(deleted.rows_affected() == 1)
    }

    async fn take(
        &self,
        kind: VerifierKind,
        lookup: &str,
        now: Timestamp,
    ) -> Result<Option<Verifier>, StoreError> {
        let mut writer = self.writer.lock().await;
        let taken = sqlx::query(TAKE_VERIFIER)
            .bind(kind.as_str())
            .bind(lookup)
            .bind(now.unix_ms())
            .fetch_optional(&mut writer.connection)
            .await
            .map_err(failed("take a verifier"))?;
        taken.as_ref().map(rows::verifier).transpose()
    }

    async fn mark_used(&self, kind: VerifierKind, lookup: &str, at: Timestamp) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let marked = sqlx::query(MARK_VERIFIER)
            .bind(kind.as_str())
            .bind(lookup)
            .bind(at.unix_ms())
            .execute(&mut writer.connection)
            .await
            .map_err(failed("note a verifier's use"))?;
        Ok(marked.rows_affected() == 1)
    }

    async fn swap_hash(
        &self,
        kind: VerifierKind,
        lookup: &str,
        from: &str,
        to: &str,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let swapped = sqlx::query(SWAP_HASH)
            .bind(kind.as_str())
            .bind(lookup)
            .bind(from)
            .bind(to)
            .execute(&mut writer.connection)
            .await
            .map_err(failed("replace a verifier's hash"))?;
        Ok(swapped.rows_affected() == 1)
    }

    async fn of_principal(&self, kind: VerifierKind, principal: &str) -> Result<Vec<Verifier>, StoreError> {
        queries::verifiers_of(&self.readers, kind, principal).await
    }

    async fn delete_of_principal(&self, kind: VerifierKind, principal: &str) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let deleted = sqlx::query(DELETE_OF_PRINCIPAL)
            .bind(kind.as_str())
            .bind(principal)
            .execute(&mut writer.connection)
            .await
            .map_err(failed("delete a principal's verifiers"))?;
        Ok(deleted.rows_affected())
    }

    async fn note_uses(&self, uses: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
        let operation = "note last uses";
        if uses.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock().await;
        let mut transaction = Self::begin(&mut writer.connection).await?;
        for (id, at) in uses {
            let noted = sqlx::query(NOTE_USE).bind(*id).bind(at.unix_ms());
            noted.execute(&mut *transaction).await.map_err(failed(operation))?;
        }
        transaction.commit().await.map_err(failed(operation))
    }

    async fn uses(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Timestamp)>, StoreError> {
        queries::uses(&self.readers, ids).await
    }

    async fn list(&self, kind: VerifierKind, tenant: &TenantId) -> Result<Vec<Verifier>, StoreError> {
        queries::verifiers(&self.readers, kind, tenant).await
    }

    async fn forget_expired(&self, now: Timestamp, most: usize) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let deleted = sqlx::query(FORGET_EXPIRED)
            .bind(now.unix_ms())
            .bind(limit(most))
            .execute(&mut writer.connection)
            .await
            .map_err(failed("forget expired verifiers"))?;
        sqlx::query(FORGET_USES)
            .bind(now.unix_ms() - USES_KEPT_MS as i64)
            .execute(&mut writer.connection)
            .await
            .map_err(failed("forget last uses"))?;
        Ok(deleted.rows_affected())
    }
}

/// Runs a statement that stores a verifier; returns how many rows it has written.
async fn store(
    connection: &mut SqliteConnection,
    statement: &'static str,
    verifier: &Verifier,
) -> Result<u64, StoreError> {
    let stored = sqlx::query(statement)
        .bind(verifier.kind.as_str())
        .bind(verifier.lookup.as_str())
        .bind(verifier.tenant.as_str())
        .bind(verifier.principal.as_str())
        .bind(verifier.name.as_str())
        .bind(verifier.hash.as_str())
        .bind(verifier.family)
        .bind(verifier.created_at.unix_ms())
        .bind(verifier.expires_at.map(Timestamp::unix_ms))
        .bind(verifier.used_at.map(Timestamp::unix_ms))
        .execute(connection)
        .await
        .map_err(failed("store a verifier"))?;
    Ok(stored.rows_affected())
}

async fn delete_family(connection: &mut SqliteConnection, family: Uuid) -> Result<u64, StoreError> {
    let deleted = sqlx::query("delete from verifiers where family = ?")
        .bind(family)
        .execute(connection)
        .await
        .map_err(failed("delete a family of verifiers"))?;
    Ok(deleted.rows_affected())
}
