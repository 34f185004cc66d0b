//! The table of readers' checkpoints on SQLite. Writes share the log's connection, so they wait for a batch at
//! most.

use async_trait::async_trait;

use domain::ids::Partition;

use super::{SqliteLog, count, failed, integer};
use crate::checkpoints::Checkpoints;
use crate::log::StoreError;

#[async_trait]
impl Checkpoints for SqliteLog {
    async fn checkpoint(&self, reader: &str, partition: Partition) -> Result<u64, StoreError> {
        let offset: Option<i64> =
            sqlx::query_scalar("select last_offset from checkpoints where reader = ? and partition = ?")
                .bind(reader)
                .bind(i64::from(partition.0))
                .fetch_optional(&self.readers)
                .await
                .map_err(failed("read a checkpoint"))?;
        count(offset.unwrap_or(0), "a checkpoint")
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
        let statement = if from == 0 {
            "insert into checkpoints (reader, partition, last_offset) values (?1, ?2, ?4)
             on conflict (reader, partition) do update set last_offset = excluded.last_offset where last_offset = ?3"
        } else {
            "update checkpoints set last_offset = ?4 where reader = ?1 and partition = ?2 and last_offset = ?3"
        };
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
