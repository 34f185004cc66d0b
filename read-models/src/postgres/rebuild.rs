//! Shadow tables on Postgres, and their exchange without a queue of readers behind it.
//!
//! A rename needs each table alone. Were it to wait for somebody's long read (a `pg_dump` holds its locks to the
//! end), every later reader would wait behind it. So it waits a tenth of a second, lets go, and tries a few times;
//! then it tells the caller, who may come again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{PgTx, answer};
use crate::ReadModelError;
use crate::rebuild::{SHADOW, TABLES};
use sqlx::Row as _;

/// How often a swap tries to get the tables for itself.
const SWAP_TRIES: u32 = 5;
/// Between two tries, for the readers that had to wait.
const SWAP_PAUSE: Duration = Duration::from_millis(150);
/// SQLSTATE of a lock that did not come in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The names of a table's indexes by what they index.
type Indexes = BTreeMap<String, String>;

impl PgTx {
    pub(crate) async fn make_shadows(&mut self) -> Result<(), ReadModelError> {
        for table in TABLES {
            let sql = format!(
                "drop table if exists {table}{SHADOW}; create table {table}{SHADOW} (like {table} including all); {}",
                wall_of(&format!("{table}{SHADOW}"))
            );
            self.run_raw(sql).await.map_err(ReadModelError::database("make shadow tables"))?;
        }
        Ok(())
    }

    pub(crate) async fn swap_tables(&mut self) -> Result<(), ReadModelError> {
        self.lock_live().await?;
        let failed = || ReadModelError::database("swap tables");
        // The planner knows nothing of new tables until autovacuum comes by. The wide columns are in no condition.
        let analyze = format!(
            "analyze executions{SHADOW} (tenant, id, workflow_id, status, started_at, parent_id, origin_id); \
             analyze execution_nodes{SHADOW} (tenant, execution_id, parent, iteration, node_id)"
        );
        self.run_raw(analyze).await.map_err(failed())?;
        self.lock_tables().await?;
        for table in TABLES {
            self.swap_table(table).await.map_err(failed())?;
        }
        Ok(())
    }

    /// Gets all tables for this transaction alone, or gives up.
    async fn lock_tables(&mut self) -> Result<(), ReadModelError> {
        let failed = || ReadModelError::database("lock tables for their exchange");
        let shadows = TABLES.map(|table| format!("{table}{SHADOW}"));
        let lock = format!(
            "savepoint exchange; set local lock_timeout = '100ms'; \
             lock table {}, {} in access exclusive mode",
            TABLES.join(", "),
            shadows.join(", ")
        );
        for tried in 1.. {
            match self.run_raw(lock.clone()).await {
                Ok(()) => break,
                Err(error) if is_lock_timeout(&error) => {}
                Err(error) => return Err(failed()(error)),
            }
            self.run_raw("rollback to savepoint exchange".to_owned()).await.map_err(failed())?;
            if tried == SWAP_TRIES {
                return Err(ReadModelError::Busy);
            }
            tokio::time::sleep(SWAP_PAUSE).await;
        }
        self.run_raw("set local lock_timeout = '10s'".to_owned()).await.map_err(failed())
    }

    /// The indexes of the shadow, which have names that Postgres made up, get those of the live table.
    async fn swap_table(&mut self, table: &str) -> Result<(), sqlx::Error> {
        let live = self.indexes_of(table).await?;
        let shadow = self.indexes_of(&format!("{table}{SHADOW}")).await?;
        self.run_raw(format!("drop table {table}; alter table {table}{SHADOW} rename to {table}")).await?;
        for (indexed, made_up) in shadow {
            if let Some(name) = live.get(&indexed) {
                self.run_raw(format!(r#"alter index "{made_up}" rename to "{name}""#)).await?;
            }
        }
        Ok(())
    }

    async fn indexes_of(&mut self, table: &str) -> Result<Indexes, sqlx::Error> {
        let query = sqlx::query(
            "select concat_ws(' ', x.indisunique, x.indisprimary, pg_get_expr(x.indpred, x.indrelid), \
                 (select string_agg(pg_get_indexdef(x.indexrelid, n, true), ',' order by n) \
                  from generate_series(1, x.indnatts::int) n)), \
                 i.relname::text \
             from pg_index x join pg_class i on i.oid = x.indexrelid where x.indrelid = to_regclass($1)",
        );
        let found = query.bind(table).persistent(!self.pooled).fetch_all(&mut *self.tx);
        answer(found).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// What puts a table behind the second wall: a copy does not have that of its original. Keep in step with the
/// migration.
fn wall_of(table: &str) -> String {
    format!(
        "alter table {table} enable row level security, force row level security; \
         create policy tenant_wall on {table} \
         using (tenant = (select current_setting('everline.tenant', true)) \
         or (select current_setting('everline.tenant', true) = '*'))"
    )
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(LOCK_NOT_AVAILABLE))
}
