//! The table of rate limits' buckets on Postgres, by its clock. Unlogged: it is not worth a write to the disk.

use async_trait::async_trait;
use sqlx::postgres::PgArguments;
use std::collections::HashMap;
use uuid::Uuid;

use super::PostgresLog;
use super::arguments::{add, column};
use crate::log::StoreError;
use crate::rate_counters::{RateCounters, Spent};
use crate::rows::{StoredRow, failed, limit};

/// Rows are taken in the order of their keys, so that two exchanges wait for each other but never in a circle. The
/// cost travels as the difference of the two times that are offered.
const EXCHANGE: &str = "
    with clock as materialized (select (extract(epoch from clock_timestamp()) * 1000000)::int8 as at)
    insert into rate_counters as known (key, full_at, seen_at)
    select spent.key, clock.at + spent.cost, clock.at
    from unnest($1::uuid[], $2::int8[]) as spent (key, cost), clock
    order by spent.key
    on conflict (key) do update set
        full_at = greatest(known.full_at, excluded.seen_at) + excluded.full_at - excluded.seen_at,
        seen_at = excluded.seen_at
    returning key, full_at - seen_at";

const FORGET: &str = "
    delete from rate_counters where key in (
        select key from rate_counters
        where full_at < (extract(epoch from clock_timestamp()) * 1000000)::int8
        limit $1 for update skip locked)";

#[async_trait]
impl RateCounters for PostgresLog {
    async fn exchange(&self, spent: &[Spent]) -> Result<Vec<i64>, StoreError> {
        let operation = "exchange the counts of rate limits";
        let mut arguments = PgArguments::default();
        let bound = column(&mut arguments, spent, |spent| spent.key)
            .and_then(|()| column(&mut arguments, spent, |spent| spent.cost_us));
        bound.map_err(|error| failed(operation)(sqlx::Error::Encode(error)))?;
        let rows = self.readers.run(EXCHANGE, arguments).await.map_err(failed(operation))?;
        let mut debts: HashMap<Uuid, i64> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let debt: Result<_, sqlx::Error> = (|| Ok((row.id(0)?, row.number(1)?)))();
            let (key, debt) = debt.map_err(failed(operation))?;
            debts.insert(key, debt);
        }
        Ok(spent.iter().map(|spent| debts.get(&spent.key).copied().unwrap_or(0)).collect())
    }

    async fn forget_full(&self, most: usize) -> Result<u64, StoreError> {
        let operation = "forget full buckets of rate limits";
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, limit(most))?;
        self.readers.execute(FORGET, arguments).await.map_err(failed(operation))
    }
}
