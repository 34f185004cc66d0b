//! What the store holds that appends are judged against. Reads only; the writer's connection, so nothing changes
//! in between.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};
use std::collections::HashMap;
use uuid::Uuid;

use domain::ids::birth_bucket;

use crate::judge::{self, Known, Name, Probe};
use crate::log::{AppendAnswer, AppendError, Batch, Loser, StoreError};
use crate::queries::CLAIM_HOLDER;
use crate::rows::{self, count, failed};

/// How many values one probing statement takes.
const PROBE: usize = 500;

/// All appends that cannot be taken, ascending.
pub(super) async fn losers(
    connection: &mut SqliteConnection,
    batch: &Batch,
    probe: &Probe,
) -> Result<Vec<Loser>, AppendError> {
    judge::refuse_repeated_commands(batch)?;
    let mut known = Known {
        answers: answers(connection, batch).await?,
        versions: versions(connection, &probe.streams(batch)).await?,
        holders: holders(connection, batch).await?,
    };
    Ok(known.losers(batch, probe))
}

async fn answers(
    connection: &mut SqliteConnection,
    batch: &Batch,
) -> Result<HashMap<Uuid, AppendAnswer>, StoreError> {
    let mut found = HashMap::new();
    for appends in batch.appends.chunks(PROBE) {
        let text = format!(
            "select digest, answer, partition, \"offset\", command_id from commands where command_id in ({})",
            placeholders("?", appends.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for append in appends {
            query = query.bind(append.command_id);
        }
        let operation = "look for commands that were answered before";
        for row in query.fetch_all(&mut *connection).await.map_err(failed(operation))? {
            let id = row.try_get::<Uuid, _>(4).map_err(failed(operation))?;
            found.insert(id, rows::answer(&row)?);
        }
    }
    Ok(found)
}

async fn versions(
    connection: &mut SqliteConnection,
    streams: &[Uuid],
) -> Result<HashMap<Uuid, u64>, StoreError> {
    let mut found = HashMap::new();
    for streams in streams.chunks(PROBE) {
        let text = format!(
            "with probes (bucket, stream) as (values {})
             select p.stream, (select e.version from events e where e.bucket = p.bucket and e.stream = p.stream
                               order by e.version desc limit 1)
             from probes p",
            placeholders("(?,?)", streams.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for stream in streams {
            query = query.bind(i64::from(birth_bucket(*stream))).bind(*stream);
        }
        let operation = "look for the versions of streams";
        let version = |row: &SqliteRow| Ok((row.try_get::<Uuid, _>(0)?, row.try_get::<Option<i64>, _>(1)?));
        for row in query.fetch_all(&mut *connection).await.map_err(failed(operation))? {
            let (stream, version) = version(&row).map_err(failed(operation))?;
            found.insert(stream, count(version.unwrap_or(0), "the version of a stream")?);
        }
    }
    Ok(found)
}

async fn holders(
    connection: &mut SqliteConnection,
    batch: &Batch,
) -> Result<HashMap<Name, Uuid>, StoreError> {
    let mut found = HashMap::new();
    for append in &batch.appends {
        for claim in &append.claims {
            let holder: Option<Uuid> = sqlx::query_scalar(CLAIM_HOLDER)
                .bind(judge::owner_of(append, claim))
                .bind(claim.kind)
                .bind(claim.key.as_str())
                .fetch_optional(&mut *connection)
                .await
                .map_err(failed("look for the holder of a name"))?;
            if let Some(holder) = holder {
                found.insert(judge::name_of(append, claim), holder);
            }
        }
    }
    Ok(found)
}

fn placeholders(one: &str, times: usize) -> String {
    vec![one; times].join(",")
}
