//! The table of readers' checkpoints on Postgres.

use async_trait::async_trait;
use sqlx::postgres::PgArguments;

use domain::ids::Partition;

use super::PostgresLog;
use super::arguments::add;
use crate::checkpoints::Checkpoints;
use crate::log::StoreError;
use crate::queries::{self, FIRST_MOVE, NEXT_MOVE};
use crate::rows::{failed, integer};

#[async_trait]
impl Checkpoints for PostgresLog {
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
        let operation = "move a checkpoint";
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, reader)?;
        add(&mut arguments, operation, i32::from(partition.0))?;
        add(&mut arguments, operation, integer(from))?;
        add(&mut arguments, operation, integer(to))?;
        let statement = if from == 0 { FIRST_MOVE } else { NEXT_MOVE };
        let moved = self.readers.execute(statement, arguments).await.map_err(failed(operation))?;
        Ok(moved == 1)
    }
}
