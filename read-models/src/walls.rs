//! Whether one tenant ever sees what is another's: every query there is, over rows of two tenants.
//!
//! The first wall is the condition in each statement, the second that of the server. To see whether the second holds
//! by itself, the first is taken down here: `tenant = $n` becomes a condition that is always true, for statements of the
//! task within [`without_filters`]. There is no other way to do that, and none outside tests.

mod queries;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::backend::{Db, Dialect};
use crate::rebuild::TABLES;
use crate::sql::Statement;
use crate::store::{PostgresOptions, ReadModels};
use queries::{LEAKS, UNTENANTED, leaks};

tokio::task_local! {
    static WITHOUT_FILTERS: ();
}

/// Runs something whose statements lack the application's condition on the tenant.
async fn without_filters<T>(run: impl Future<Output = T>) -> T {
    WITHOUT_FILTERS.scope((), run).await
}

/// The statement as it is to be run in this task.
pub(crate) fn as_asked(statement: Statement, dialect: Dialect) -> Statement {
    if WITHOUT_FILTERS.try_with(|()| ()).is_err() {
        return statement;
    }
    let mut left = String::new();
    let mut rest = statement.sql.as_ref();
    while let Some(at) = rest.find("tenant = $") {
        let before =
            rest[..at].trim_end_matches(|letter: char| letter.is_alphanumeric() || ".".contains(letter));
        let after = &rest[at + "tenant = $".len()..];
        let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        let cast = if dialect == Dialect::Postgres { "::text" } else { "" };
        left.push_str(&format!("{before}${}{cast} is not null", &after[..digits]));
        rest = &after[digits..];
    }
    left.push_str(rest);
    Statement { sql: left.into(), ..statement }
}

#[test]
fn a_filter_is_taken_off_with_the_name_of_its_table() {
    let sql =
        "select 1 from w where w.tenant = $1 and x = $2 and exists (select 1 from s where tenant = $13)";
    let bare = WITHOUT_FILTERS.sync_scope((), || as_asked(Statement::new(sql), Dialect::Postgres));
    assert_eq!(
        bare.sql,
        "select 1 from w where $1::text is not null and x = $2 and exists (select 1 from s where $13::text is not null)"
    );
}

/// A role without any right but to make schemas: superusers pass through walls.
async fn plain_role(url: &str) -> String {
    let mut admin = PgConnection::connect(url).await.unwrap();
    let (address, database) = url.rsplit_once('/').unwrap();
    let (_, server) = address.rsplit_once('@').unwrap();
    let role = format!("plain_{database}");
    for sql in [format!("create role {role} login"), format!("grant create on database {database} to {role}")]
    {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    }
    format!("postgres://{role}@{server}/{database}")
}

/// Opens the read models of a plain role, over rows of two tenants.
async fn two_tenants(pooled: bool) -> (ReadModels, String) {
    let admin = test_services::database().await.unwrap();
    let options = PostgresOptions { pooled, ..PostgresOptions::new(plain_role(&admin).await) };
    let models = ReadModels::open_postgres(options).await.unwrap();
    let mut tx = models.begin().await.unwrap();
    rows::of_both(&mut tx).await;
    tx.commit().await.unwrap();
    (models, admin)
}

fn none() -> BTreeSet<&'static str> {
    BTreeSet::new()
}

async fn everything_is_kept_apart_by_the_server_alone(pooled: bool) {
    let (models, admin) = two_tenants(pooled).await;
    let Db::Postgres(pools) = &models.inner.db else { unreachable!("a server") };
    assert!(!pools.passes_walls().await.unwrap());
    assert_eq!(leaks(&models).await, none(), "with both walls");
    assert_eq!(without_filters(leaks(&models)).await, none(), "with the server's wall alone");

    // New tables have it too.
    models.start_rebuild().await.unwrap();
    let mut tx = models.begin_shadow().await.unwrap();
    rows::of_both(&mut tx).await;
    tx.swap_in().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(without_filters(leaks(&models)).await, none(), "after a rebuild");
    assert!(rows::own_are_found(&models).await, "its own rows are found");

    let mut admin = PgConnection::connect(&admin).await.unwrap();
    for table in TABLES {
        let sql = format!("alter table everline_read.{table} disable row level security");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    }
    assert_eq!(leaks(&models).await, none(), "with the filters alone");
    let all: BTreeSet<_> = LEAKS.iter().copied().collect();
    assert_eq!(
        without_filters(leaks(&models)).await,
        all,
        "with neither, every query shows what is not its tenant's"
    );
}

#[tokio::test]
async fn everything_is_kept_apart_by_the_server_alone_on_direct_connections() {
    everything_is_kept_apart_by_the_server_alone(false).await;
}

#[tokio::test]
async fn everything_is_kept_apart_by_the_server_alone_in_the_mode_for_poolers() {
    everything_is_kept_apart_by_the_server_alone(true).await;
}

#[tokio::test]
async fn everything_is_kept_apart_by_filters_in_a_file() {
    let models = ReadModels::open_temporary().await.unwrap();
    let mut tx = models.begin().await.unwrap();
    rows::of_both(&mut tx).await;
    tx.commit().await.unwrap();
    assert_eq!(leaks(&models).await, none());
    assert!(rows::own_are_found(&models).await, "its own rows are found");
    let all: BTreeSet<_> = LEAKS.iter().copied().collect();
    assert_eq!(without_filters(leaks(&models)).await, all, "without a filter, every query would");
}

#[tokio::test]
async fn every_table_with_tenants_has_its_wall_forced_before_and_after_a_rebuild() {
    let (models, admin) = two_tenants(false).await;
    let mut admin = PgConnection::connect(&admin).await.unwrap();
    let walls = "select c.relname::text, c.relrowsecurity and c.relforcerowsecurity, p.polname::text, \
        pg_get_expr(p.polqual, p.polrelid) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped \
        left join pg_policy p on p.polrelid = c.oid where n.nspname = 'everline_read' and c.relkind = 'r' order by 1";
    let mut seen = Vec::new();
    for round in 0..2 {
        let found: Vec<(String, bool, Option<String>, Option<String>)> =
            sqlx::query_as(walls).fetch_all(&mut admin).await.unwrap();
        let names: BTreeSet<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, TABLES.into_iter().collect(), "a new table belongs to the list and behind a wall");
        for (table, forced, policy, condition) in &found {
            assert!(forced, "{table} in round {round}");
            assert_eq!(policy.as_deref(), Some("tenant_wall"), "{table}");
            assert_eq!(condition, &found[0].3, "{table}");
        }
        seen.push(found);
        models.start_rebuild().await.unwrap();
        let mut tx = models.begin_shadow().await.unwrap();
        tx.swap_in().await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(seen[0], seen[1]);
}

/// The public queries of [`ReadModels`], as the sources have them.
fn public_queries() -> BTreeSet<String> {
    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let mut names = BTreeSet::new();
    for source in found {
        let mut within = false;
        for line in source.lines() {
            if line.starts_with("impl") {
                within = line == "impl ReadModels {";
            }
            let name = line.trim_start().strip_prefix("pub async fn ").filter(|_| within);
            names.extend(name.and_then(|name| name.split('(').next()).map(str::to_owned));
        }
    }
    names
}

#[test]
fn no_public_query_is_left_out() {
    let listed: BTreeSet<String> = LEAKS.iter().chain(UNTENANTED).map(|name| (*name).to_owned()).collect();
    assert_eq!(public_queries(), listed, "list a new query in walls/queries.rs");
}
