//! Rebuilding next to what readers see: shadow tables, exchanged in one transaction.
//!
//! `start_rebuild` makes empty copies of the tables (`executions_next`, …) from the live ones' own definitions,
//! so that a migration never has to mention them. A shadow transaction writes there, with checkpoints of its
//! own; `swap_in` drops the live tables and renames the shadows. Readers keep what they were reading and see
//! the new tables with their next statement. A live writer finds another generation and starts afresh.

use sqlx::{AssertSqlSafe, Row};
use std::borrow::Cow;

use crate::ReadModelError;
use crate::positions::MAIN_PROJECTION;
use crate::store::ReadModels;
use crate::write::WriteTx;

/// The tables of the main projection.
const TABLES: [&str; 3] = ["workflows", "workflow_versions", "executions"];
/// What tells a shadow from its table.
const SHADOW: &str = "_next";
/// Index names are global in SQLite and stay when a table is renamed: they take turns with this ending.
const INDEX_TURN: &str = "_turn";

/// Which tables a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those that readers see.
    Live,
    /// Those of a rebuild.
    Shadow,
}

impl Side {
    /// The table's name on this side.
    pub(crate) fn table(self, name: &'static str) -> Cow<'static, str> {
        match self {
            Self::Live => Cow::Borrowed(name),
            Self::Shadow => Cow::Owned(format!("{name}{SHADOW}")),
        }
    }

    /// The projection's name on this side.
    pub(crate) fn projection(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Live => Cow::Borrowed(name),
            Self::Shadow => Cow::Owned(format!("{name}{SHADOW}")),
        }
    }
}

impl ReadModels {
    /// Makes empty shadow tables for the main projection; what an unfinished rebuild left is dropped.
    pub async fn start_rebuild(&self) -> Result<(), ReadModelError> {
        let mut tx = self.begin_shadow().await?;
        for table in TABLES {
            tx.execute(format!("drop table if exists {table}{SHADOW}")).await?;
            for sql in tx.definitions(table).await? {
                tx.execute(sql).await?;
            }
        }
        tx.clear(MAIN_PROJECTION).await?;
        tx.commit().await
    }

    /// Begins a transaction on the shadow tables, after [`ReadModels::start_rebuild`].
    pub async fn begin_shadow(&self) -> Result<WriteTx, ReadModelError> {
        self.begin_on(Side::Shadow).await
    }
}

impl WriteTx {
    /// The checkpoints of the main projection that readers see, whichever side this transaction writes.
    pub async fn live_checkpoints(&mut self) -> Result<Vec<(domain::ids::Partition, u64)>, ReadModelError> {
        let side = std::mem::replace(&mut self.side, Side::Live);
        let found = self.checkpoints(MAIN_PROJECTION).await;
        self.side = side;
        found
    }

    /// Puts the shadow tables in the place of the live ones, with their checkpoints and parked streams.
    ///
    /// The caller has caught up with [`WriteTx::live_checkpoints`] inside this transaction: no checkpoint may
    /// go back, or a reader would lose what it has seen. But for tables ahead of their log, which nobody serves from:
    /// this process has then no use for the old positions.
    pub async fn swap_in(&mut self) -> Result<(), ReadModelError> {
        for table in TABLES {
            self.execute(format!("drop table {table}")).await?;
            self.execute(format!("alter table {table}{SHADOW} rename to {table}")).await?;
        }
        for table in ["checkpoints", "parked_streams"] {
            let moves = [
                format!("delete from {table} where projection = '{MAIN_PROJECTION}'"),
                format!(
                    "update {table} set projection = '{MAIN_PROJECTION}' \
                     where projection = '{MAIN_PROJECTION}{SHADOW}'"
                ),
            ];
            for sql in moves {
                self.execute(sql).await?;
            }
        }
        self.execute(format!(
            "insert into projections (name, generation) values ('{MAIN_PROJECTION}', 1) \
             on conflict (name) do update set generation = projections.generation + 1"
        ))
        .await?;
        self.side = Side::Live;
        let reached = self.checkpoints(MAIN_PROJECTION).await?;
        let advances: Vec<_> =
            reached.into_iter().map(|(partition, to)| crate::Advance { partition, from: to, to }).collect();
        self.note_advances(MAIN_PROJECTION, &advances);
        Ok(())
    }

    /// Statements made of this crate's own names only.
    async fn execute(&mut self, sql: String) -> Result<(), ReadModelError> {
        sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .execute(&mut *self.tx)
            .await
            .map_err(ReadModelError::database("rebuild tables"))?;
        Ok(())
    }

    /// What creates the shadow of a table and of its indexes.
    async fn definitions(&mut self, table: &'static str) -> Result<Vec<String>, ReadModelError> {
        let rows = sqlx::query(
            "select type, name, sql from sqlite_master where tbl_name = $1 and sql is not null \
             order by type desc",
        )
        .bind(table)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(ReadModelError::database("read its own schema"))?;
        rows.iter()
            .map(|row| {
                let corrupt = || ReadModelError::corrupt::<sqlx::Error>("sqlite_master", table);
                let kind: &str = row.try_get(0).map_err(corrupt())?;
                let name: &str = row.try_get(1).map_err(corrupt())?;
                let sql: &str = row.try_get(2).map_err(corrupt())?;
                Ok(shadow_definition(kind, name, sql, table))
            })
            .collect()
    }
}

fn shadow_definition(kind: &str, name: &str, sql: &str, table: &str) -> String {
    let body = sql.find('(').map_or("", |at| &sql[at..]);
    if kind == "table" {
        return format!("create table {table}{SHADOW} {body}");
    }
    let turned = match name.strip_suffix(INDEX_TURN) {
        Some(plain) => plain.to_owned(),
        None => format!("{name}{INDEX_TURN}"),
    };
    format!("create index {turned} on {table}{SHADOW} {body}")
}
