//! Nodes and owners on Postgres, by its clock.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use uuid::Uuid;

use domain::ids::Partition;

use super::PostgresLog;
use super::arguments::add;
use crate::log::StoreError;
use crate::ownership::{LiveNode, Membership, NodeBeat, Ownership, PartitionOwner};
use crate::rows::{self, StoredRow, count, failed, integer};

/// The statement's own row is not among those it reads, so it is added. Rows that another beat removes are skipped.
const BEAT: &str = "
    with forgotten as (
        delete from nodes where node in (
            select node from nodes where alive_until < clock_timestamp() - interval '1 hour' and node <> $1
            for update skip locked)
    ), beat as (
        insert into nodes (node, name, draining, alive_until)
        values ($1, $2, $3, clock_timestamp() + $4::int8 * interval '1 millisecond')
        on conflict (node) do update set
            name = excluded.name, draining = excluded.draining, alive_until = excluded.alive_until
    )
    select $1 as node, $2 as name, $3 as draining, null::int4 as partition, null::int8 as epoch
    union all
    select node, name, draining, null, null from nodes where alive_until > clock_timestamp() and node <> $1
    union all
    select owner, null, null, partition, epoch from partitions";

const MEMBERSHIP: &str = "
    select node, name, draining, null::int4 as partition, null::int8 as epoch
    from nodes where alive_until > clock_timestamp()
    union all
    select owner, null, null, partition, epoch from partitions";

#[async_trait]
impl Ownership for PostgresLog {
    async fn beat(&self, beat: &NodeBeat) -> Result<Membership, StoreError> {
        let operation = "say that this process lives";
        let lease = u64::try_from(beat.lease.as_millis()).unwrap_or(u64::MAX);
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, beat.node)?;
        add(&mut arguments, operation, beat.name.as_str())?;
        add(&mut arguments, operation, beat.draining)?;
        add(&mut arguments, operation, integer(lease))?;
        let found = self.own.run(BEAT, arguments).await.map_err(failed(operation))?;
        membership(&found, operation)
    }

    async fn membership(&self) -> Result<Membership, StoreError> {
        let operation = "read who lives and owns";
        let found = self.readers.run(MEMBERSHIP, PgArguments::default()).await.map_err(failed(operation))?;
        membership(&found, operation)
    }

    async fn release(&self, partition: Partition, epoch: u64) -> Result<(), StoreError> {
        let operation = "give a partition up";
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, i32::from(partition.0))?;
        add(&mut arguments, operation, integer(epoch))?;
        let text = "update partitions set owner = null where partition = $1 and epoch = $2";
        self.own.execute(text, arguments).await.map_err(failed(operation))?;
        Ok(())
    }

    async fn leave(&self, node: Uuid) -> Result<(), StoreError> {
        let operation = "forget a node";
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, node)?;
        self.own.execute("delete from nodes where node = $1", arguments).await.map_err(failed(operation))?;
        Ok(())
    }
}

/// Rows without a partition are nodes, those with one owners.
fn membership(found: &[PgRow], operation: &'static str) -> Result<Membership, StoreError> {
    let mut membership = Membership::default();
    for row in found {
        match row.optional_number(3).map_err(failed(operation))? {
            Some(number) => {
                let epoch = row.number(4).map_err(failed(operation))?;
                membership.owners.push(PartitionOwner {
                    partition: rows::partition(number)?,
                    epoch: count(epoch, "an epoch")?,
                    node: row.optional_id(0).map_err(failed(operation))?,
                });
            }
            None => {
                let node: Result<(Uuid, String, bool), sqlx::Error> =
                    (|| Ok((row.id(0)?, row.text(1)?.to_owned(), row.try_get(2)?)))();
                let (node, name, draining) = node.map_err(failed(operation))?;
                membership.nodes.push(LiveNode { node, name, draining });
            }
        }
    }
    membership.nodes.sort_by_key(|node| node.node);
    membership.owners.sort_by_key(|owner| owner.partition);
    Ok(membership)
}
