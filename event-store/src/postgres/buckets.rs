//! The tables of buckets: months of events, days of commands. Made ahead and when an append needs one, dropped when
//! past.
//!
//! Invariants: an append never waits for a table to be made by somebody else for long (attaching does not block it),
//! and never for one to be dropped; the number of tables that one append can cause is bounded.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Row};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::ids::birth_bucket;
use domain::time::Timestamp;

use super::session::Session;
use crate::log::{Batch, COMMAND_RETENTION_MS, StoreError};
use crate::rows::failed;

/// How many months of events are made ahead, and days of commands.
const MONTHS_AHEAD: i32 = 2;
const DAYS_AHEAD: i32 = 3;
/// How often past days are looked for.
const PAUSE: Duration = Duration::from_secs(60);

/// Which tables are known to be there.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    known: Mutex<Known>,
    dropping: Mutex<Option<(Instant, i32)>>,
}

#[derive(Debug, Default)]
struct Known {
    months: BTreeSet<i32>,
    days: BTreeSet<i32>,
}

impl Buckets {
    /// Makes the tables of the near future, by the database's clock.
    pub(super) async fn create_ahead(&self, session: &Session) -> Result<(), StoreError> {
        let operation = "read the database's clock";
        let text = "select (extract(epoch from clock_timestamp()) * 1000)::int8";
        let rows = session.run(text, PgArguments::default()).await.map_err(failed(operation))?;
        let now = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed(operation))?;
        self.create_from(session, Timestamp::from_unix_ms(now)).await
    }

    /// Makes the tables of the near future.
    async fn create_from(&self, session: &Session, now: Timestamp) -> Result<(), StoreError> {
        let (month, day) = (now.months_since_epoch(), day(now));
        let months = (month..=month + MONTHS_AHEAD).collect();
        let days = (day..=day + DAYS_AHEAD).collect();
        self.create(session, months, days).await
    }

    /// Makes the tables that a batch needs.
    pub(super) async fn create_for(&self, session: &Session, batch: &Batch) -> Result<(), StoreError> {
        let (mut months, mut days) = (BTreeSet::new(), BTreeSet::new());
        for append in &batch.appends {
            days.insert(day(append.decided_at));
            months.extend(append.streams.iter().map(|stream| birth_bucket(stream.stream)));
        }
        self.create(session, months, days).await
    }

    /// Nothing is known any more: a table that was thought to be there is not.
    pub(super) fn forget(&self) {
        *self.known() = Known::default();
    }

    async fn create(
        &self,
        session: &Session,
        mut months: BTreeSet<i32>,
        mut days: BTreeSet<i32>,
    ) -> Result<(), StoreError> {
        {
            let known = self.known();
            months.retain(|month| !known.months.contains(month));
            days.retain(|day| !known.days.contains(day));
        }
        if months.is_empty() && days.is_empty() {
            return Ok(());
        }
        let operation = "make tables for months and days";
        let mut arguments = PgArguments::default();
        let lists = [&months, &days].map(|set| set.iter().copied().collect::<Vec<i32>>());
        for list in lists {
            arguments.add(list).map_err(|error| failed(operation)(sqlx::Error::Encode(error)))?;
        }
        session.run("select everline_create_buckets($1, $2)", arguments).await.map_err(failed(operation))?;
        let mut known = self.known();
        known.months.extend(months);
        known.days.extend(days);
        Ok(())
    }

    /// Makes tables ahead and drops those of days whose commands need not be known any more, at most once a minute
    /// unless a day has passed.
    pub(super) async fn maintain(&self, session: &Session, now: Timestamp) -> Result<(), StoreError> {
        let kept_from = day(Timestamp::from_unix_ms(now.unix_ms() - COMMAND_RETENTION_MS as i64));
        {
            let mut last = self.dropping.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|(at, before)| at.elapsed() < PAUSE && before >= kept_from) {
                return Ok(());
            }
            *last = Some((Instant::now(), kept_from));
        }
        self.create_from(session, now).await?;
        let operation = "drop tables of past days";
        let mut arguments = PgArguments::default();
        arguments.add(kept_from).map_err(|error| failed(operation)(sqlx::Error::Encode(error)))?;
        match session.run("select everline_drop_days($1)", arguments).await {
            Ok(_) => {
                self.known().days.retain(|day| *day >= kept_from);
                Ok(())
            }
            // Somebody reads them, such as a backup.
            Err(error) if is_lock_timeout(&error) => {
                tracing::debug!("past commands are in use; dropping them later");
                Ok(())
            }
            Err(error) => Err(failed(operation)(error)),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // What is known is only ever too little or too much, which the database says.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bucket of a command.
pub(super) fn day(at: Timestamp) -> i32 {
    // Of the years 0 to 9999, to which a time is held, every day fits.
    i32::try_from(at.days_since_epoch()).unwrap_or(i32::MAX)
}

/// Whether a row had no table to go to.
pub(super) fn is_missing(error: &sqlx::Error) -> bool {
    // A violated check; the log's tables have no others.
    has_code(error, "23514")
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    has_code(error, "55P03")
}

pub(super) fn has_code(error: &sqlx::Error, wanted: &str) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == wanted)
}
