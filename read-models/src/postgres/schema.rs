//! The schema `everline_read`: its versions, and looking at it from outside.
//!
//! Not sqlx's migrator: it takes a lock of the session, which a pooler in transaction mode gives to somebody else.

use super::{Lock, PgPools, PgTx};
use crate::ReadModelError;
use crate::sql::{Columns, Scope, Statement};
use crate::store::PostgresOptions;
use sqlx::migrate::MigrateError;

/// Schema versions, forward only.
const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../../migrations/postgres/0001_read_models.sql")),
    (2, include_str!("../../migrations/postgres/0002_nodes_and_dead_letters.sql")),
    (3, include_str!("../../migrations/postgres/0003_identity.sql")),
];

/// What a doctor wants to know of read models on Postgres that can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresFacts {
    /// The server's version as it says itself, such as `15.18`.
    pub server_version: String,
    /// The version of the schema; `None` before the first start.
    pub schema_version: Option<i64>,
    /// The version that this build makes.
    pub newest_schema_version: i64,
    /// Whether the role is a superuser's or has `bypassrls`: the server then keeps no tenant's rows from another's
    /// queries, and the conditions of the statements are all there is.
    pub passes_walls: bool,
}

/// Looks without changing anything. An error means that the database cannot be reached or read.
pub async fn inspect_postgres(options: &PostgresOptions) -> Result<PostgresFacts, ReadModelError> {
    let pools = PgPools::connect(&PostgresOptions { connections: 1, ..options.clone() }).await?;
    let version = Statement::new("select current_setting('server_version')");
    let row = pools.fetch_all(version).await.map_err(ReadModelError::database("ask for the version"))?.pop();
    let server_version = row.map_or(Ok(String::new()), |row| Columns::of(&row, "pg_settings").take())?;
    let schema_version = pools.schema_version().await?;
    let passes_walls = pools.passes_walls().await?;
    pools.close().await;
    Ok(PostgresFacts { server_version, schema_version, newest_schema_version: newest(), passes_walls })
}

fn newest() -> i64 {
    MIGRATIONS.iter().map(|(version, _)| *version).max().unwrap_or(0)
}

impl PgPools {
    /// Brings the schema up to date. One process does it, the others wait for it.
    pub(super) async fn migrate(&self) -> Result<(), ReadModelError> {
        let found = self.schema_version().await?;
        refuse_newer(found)?;
        if found == Some(newest()) {
            return Ok(());
        }
        let failed = || ReadModelError::database("migrate the schema");
        let mut tx = self.begin_locked(Lock::Schema).await.map_err(failed())?;
        // A crash that takes rows along is mended by the projection; one that takes the tables is not.
        tx.run_raw("set local synchronous_commit = on".to_owned()).await.map_err(failed())?;
        // Again, under the lock: another process may have done it. On the same connection: all others of a pooler may
        // be waiting for this lock.
        let found = tx.schema_version().await?;
        refuse_newer(found)?;
        if found.is_none() {
            // Somebody with more rights may have made the schema: `if not exists` would ask for those rights.
            let create = "do $$ begin if to_regnamespace('everline_read') is null then \
                create schema everline_read; end if; end $$; \
                create table if not exists everline_read.schema_versions \
                (version bigint not null primary key, migrated_at timestamptz not null default now())";
            tx.run_raw(create.to_owned()).await.map_err(failed())?;
        }
        for (version, sql) in
            MIGRATIONS.iter().filter(|(version, _)| found.is_none_or(|found| *version > found))
        {
            tx.run_raw((*sql).to_owned()).await.map_err(failed())?;
            let note = Statement::new("insert into schema_versions (version) values ($1)").bind(*version);
            tx.execute(note).await.map_err(failed())?;
        }
        tx.commit().await.map_err(failed())
    }

    /// Refuses a schema that is not there or not of this version.
    pub(super) async fn refuse_other_version(&self) -> Result<(), ReadModelError> {
        let found = self.schema_version().await?;
        refuse_newer(found)?;
        if found == Some(newest()) {
            return Ok(());
        }
        Err(ReadModelError::NotThere { found, newest: newest() })
    }

    /// Whether row-level security does not bind the role.
    pub(crate) async fn passes_walls(&self) -> Result<bool, ReadModelError> {
        let sql = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user";
        let row = self.fetch_all(Statement::new(sql)).await;
        let row = row.map_err(ReadModelError::database("ask what its role may do"))?.pop();
        row.map_or(Ok(false), |row| Columns::of(&row, "pg_roles").take())
    }

    async fn schema_version(&self) -> Result<Option<i64>, ReadModelError> {
        let mut tx =
            self.begin_read(&Scope::Untenanted).await.map_err(ReadModelError::database("read its schema"))?;
        tx.schema_version().await
    }
}

impl PgTx {
    async fn schema_version(&mut self) -> Result<Option<i64>, ReadModelError> {
        let failed = || ReadModelError::database("read the version of its schema");
        // Not `to_regclass`: in a transaction that has waited for a lock it may answer out of a cache from before.
        let exists = Statement::new(
            "select exists (select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = 'everline_read' and c.relname = 'schema_versions')",
        );
        let row = self.fetch_all(exists).await.map_err(failed())?.pop();
        if !row.map_or(Ok(false), |row| Columns::of(&row, "pg_class").take::<bool>())? {
            return Ok(None);
        }
        let version = Statement::new("select max(version) from everline_read.schema_versions");
        let row = self.fetch_all(version).await.map_err(failed())?.pop();
        row.map_or(Ok(None), |row| Columns::of(&row, "schema_versions").take())
    }
}

fn refuse_newer(found: Option<i64>) -> Result<(), ReadModelError> {
    match found {
        Some(version) if version > newest() => {
            Err(ReadModelError::Migration(MigrateError::VersionMissing(version)))
        }
        _ => Ok(()),
    }
}
