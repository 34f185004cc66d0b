//! The table of readers' checkpoints on SQLite. Writes share the log's connection, so they wait for a batch at
//! most.

use async_trait::async_trait;

use domain::ids::Partition;

use super::SqliteLog;
use crate::checkpoints::Checkpoints;
use crate::log::StoreError;
use crate::queries::{self, FIRST_MOVE, NEXT_MOVE};
use crate::rows::{failed, integer};

#[async_trait]
impl Checkpoints for SqliteLog {
    async fn checkpoint(&self, reader: &str, partition: Partition) -> Result<u64, StoreError> {
        queries::checkpoint(&self.readers, reader, partition).await
    }

    async fn move_checkpoint(
        &self,
        reader: &str,
        partition: Partition,
        from: u64,
        to: u64,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        // A reader that has never been here is at 0: its first move is an insert, which loses against another's.
        let statement = if from == 0 { FIRST_MOVE } else { NEXT_MOVE };
        let moved = sqlx::query(statement)
            .bind(reader)
            .bind(i64::from(partition.0))
            .bind(integer(from))
            .bind(integer(to))
            .execute(&mut writer.connection)
            .await
            .map_err(failed("move a checkpoint"))?;
        Ok(moved.rows_affected() == 1)
    }
}
