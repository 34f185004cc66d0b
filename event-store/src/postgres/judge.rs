//! What the store holds that appends are judged against.
//!
//! Read before the append, without its locks: if nothing has been appended to the partitions since their ends were
//! read, which the append compares, then what was read later still holds. Names are compared by the append itself,
//! since those of a tenant may be asked for from other partitions.

use sqlx::postgres::PgArguments;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

use domain::ids::birth_bucket;

use super::arguments::add;
use super::session::Session;
use crate::judge::{self, Known, Name, Probe};
use crate::log::{AppendAnswer, AppendError, Batch, Loser, StoreError};
use crate::rows::{self, StoredRow, count, failed};

/// Who held a name before a batch, and who does after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameChange<'b> {
    pub(super) tenant: &'b str,
    pub(super) kind: &'static str,
    pub(super) key: &'b str,
    pub(super) before: Option<Uuid>,
    pub(super) after: Option<Uuid>,
}

/// All appends that cannot be taken, ascending.
pub(super) async fn losers(
    session: &Session,
    batch: &Batch,
    probe: &Probe,
) -> Result<Vec<Loser>, AppendError> {
    Ok(known(session, batch, probe).await?.losers(batch, probe))
}

/// What a batch is judged against.
pub(super) async fn known(session: &Session, batch: &Batch, probe: &Probe) -> Result<Known, AppendError> {
    judge::refuse_repeated_commands(batch)?;
    Ok(Known {
        answers: answers(session, batch).await?,
        versions: versions(session, &probe.streams(batch)).await?,
        holders: holders(session, &names(batch)).await?,
    })
}

/// What becomes of every name of a batch, also of those that stay as they are: that must still be so.
pub(super) fn name_changes<'b>(
    batch: &'b Batch,
    before: &HashMap<Name, Uuid>,
    after: &HashMap<Name, Uuid>,
) -> Vec<NameChange<'b>> {
    let mut changes: BTreeMap<(&str, &'static str, &str), NameChange<'b>> = BTreeMap::new();
    for append in &batch.appends {
        for claim in &append.claims {
            let name = judge::name_of(append, claim);
            let (tenant, kind, key) = (judge::owner_of(append, claim), claim.kind, claim.key.as_str());
            let (before, after) = (before.get(&name).copied(), after.get(&name).copied());
            changes.insert((tenant, kind, key), NameChange { tenant, kind, key, before, after });
        }
    }
    changes.into_values().collect()
}

/// The names that a batch takes or gives back, each once.
fn names(batch: &Batch) -> Vec<(&str, &'static str, &str)> {
    let names: BTreeSet<(&str, &'static str, &str)> = batch
        .appends
        .iter()
        .flat_map(|append| {
            append.claims.iter().map(|claim| (judge::owner_of(append, claim), claim.kind, claim.key.as_str()))
        })
        .collect();
    names.into_iter().collect()
}

async fn answers(session: &Session, batch: &Batch) -> Result<HashMap<Uuid, AppendAnswer>, StoreError> {
    let operation = "look for commands that were answered before";
    let text =
        "select digest, answer, partition, \"offset\", command_id from commands where command_id = any ($1)";
    let ids: Vec<Uuid> = batch.appends.iter().map(|append| append.command_id).collect();
    let mut arguments = PgArguments::default();
    add(&mut arguments, operation, ids)?;
    let found = session.run(text, arguments).await.map_err(failed(operation))?;
    found.iter().map(|row| Ok((row.id(4).map_err(failed(operation))?, rows::answer(row)?))).collect()
}

async fn versions(session: &Session, streams: &[Uuid]) -> Result<HashMap<Uuid, u64>, StoreError> {
    let operation = "look for the versions of streams";
    let text = "
        select p.stream, e.version from unnest($1, $2) as p (bucket, stream)
        cross join lateral (select e.version from events e where e.bucket = p.bucket and e.stream = p.stream
                            order by e.version desc limit 1) e";
    if streams.is_empty() {
        return Ok(HashMap::new());
    }
    let buckets: Vec<i32> = streams.iter().map(|stream| birth_bucket(*stream)).collect();
    let mut arguments = PgArguments::default();
    add(&mut arguments, operation, buckets)?;
    add(&mut arguments, operation, streams)?;
    let found = session.run(text, arguments).await.map_err(failed(operation))?;
    let mut versions = HashMap::with_capacity(found.len());
    for row in &found {
        let values = || -> Result<(Uuid, i64), sqlx::Error> { Ok((row.id(0)?, row.number(1)?)) };
        let (stream, version) = values().map_err(failed(operation))?;
        versions.insert(stream, count(version, "the version of a stream")?);
    }
    Ok(versions)
}

async fn holders(
    session: &Session,
    names: &[(&str, &'static str, &str)],
) -> Result<HashMap<Name, Uuid>, StoreError> {
    let operation = "look for the holders of names";
    let text = "
        select n.place, c.stream from unnest($1, $2, $3) with ordinality as n (tenant, kind, key, place)
        cross join lateral (select c.stream from claims c where c.tenant = n.tenant and c.kind = n.kind
                            and c.key = n.key limit 1) c";
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let mut arguments = PgArguments::default();
    add(&mut arguments, operation, names.iter().map(|name| name.0).collect::<Vec<_>>())?;
    add(&mut arguments, operation, names.iter().map(|name| name.1).collect::<Vec<_>>())?;
    add(&mut arguments, operation, names.iter().map(|name| name.2).collect::<Vec<_>>())?;
    let found = session.run(text, arguments).await.map_err(failed(operation))?;
    let mut holders = HashMap::new();
    for row in &found {
        let place = row.number(0).map_err(failed(operation))?;
        let name = usize::try_from(place - 1).ok().and_then(|place| names.get(place));
        if let Some((tenant, kind, key)) = name {
            let stream = row.id(1).map_err(failed(operation))?;
            holders.insert(((*tenant).to_owned(), *kind, (*key).to_owned()), stream);
        }
    }
    Ok(holders)
}
