//! Rebuilding next to what readers see: shadow tables, exchanged in one transaction.
//!
//! `start_rebuild` makes empty copies of the tables (`executions_next`, …) from the live ones' own definitions,
//! so that a migration never has to mention them. A shadow transaction writes there, with checkpoints of its
//! own; `swap_in` drops the live tables and renames the shadows. Readers keep what they were reading and see
//! the new tables with their next statement. A live writer finds another generation and starts afresh.

use std::borrow::Cow;

use crate::ReadModelError;
use crate::backend::Tx;
use crate::positions::MAIN_PROJECTION;
use crate::sql::Statement;
use crate::store::ReadModels;
use crate::write::WriteTx;

/// The tables of the main projection.
pub(crate) const TABLES: [&str; 11] = [
    "workflows",
    "workflow_versions",
    "workflow_shares",
    "executions",
    "execution_nodes",
    "dead_letters",
    "users",
    "api_keys",
    "tenants",
    "audit",
    "bulk_jobs",
];
/// What tells a shadow from its table.
pub(crate) const SHADOW: &str = "_next";

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
        match &mut tx.tx {
            Tx::Sqlite(tx) => tx.make_shadows().await?,
            Tx::Postgres(tx) => tx.make_shadows().await?,
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
    /// The checkpoints of the main projection that readers see, whichever side this transaction writes. They do
    /// not move until it ends.
    pub async fn live_checkpoints(&mut self) -> Result<Vec<(domain::ids::Partition, u64)>, ReadModelError> {
        if let Tx::Postgres(tx) = &mut self.tx {
            tx.lock_live().await?;
        }
        let side = std::mem::replace(&mut self.side, Side::Live);
        let found = self.checkpoints(MAIN_PROJECTION).await;
        self.side = side;
        found
    }

    /// Puts the shadow tables in the place of the live ones, with their checkpoints and parked streams.
    ///
    /// The caller has caught up with [`WriteTx::live_checkpoints`] inside this transaction: no checkpoint may
    /// go back, or a reader would lose what it has seen. But for tables ahead of their log, which nobody serves from:
    /// this process has then no use for the old positions. [`ReadModelError::Busy`] if somebody reads the live
    /// tables in a long transaction of Postgres: readers shall not wait behind this one, so it gives up early.
    pub async fn swap_in(&mut self) -> Result<(), ReadModelError> {
        match &mut self.tx {
            Tx::Sqlite(tx) => tx.swap_tables().await?,
            Tx::Postgres(tx) => tx.swap_tables().await?,
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
        self.tx.execute(Statement::new(sql)).await.map_err(ReadModelError::database("rebuild tables"))
    }
}
