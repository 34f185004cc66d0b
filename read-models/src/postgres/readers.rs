//! Connections that read, each with the tenant that it works for.
//!
//! A connection keeps its tenant (`set_config`) and is remembered with it, so that only another tenant's statement costs
//! a question more. sqlx's pool gives no name to its connections: those that are idle are kept here instead, and the
//! pool beneath makes and tests them. Invariants: a connection whose tenant is not known for sure (a cancelled call, an
//! error) goes back to the pool, which asks it whether it lives, and is told its tenant before anything else; there are
//! never more than the pool has room for, since whoever takes one has a permit. What was idle for long is tested by the
//! pool before it is used.

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{PgConnection, Postgres};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{ACQUIRE_TIMEOUT, answer, query, rows};
use crate::error::is_outage;
use crate::sql::{Row, Scope, Statement};

/// After this long without use a connection is tested before the next.
const TRUSTED: Duration = Duration::from_secs(1);
/// After this long the pool makes a new one, so that a server that was added is found.
const LIFETIME: Duration = Duration::from_secs(600);

/// The readers' pool.
pub(super) struct Readers {
    pub(super) pool: PgPool,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Reader>>,
}

/// A connection with its tenant.
struct Reader {
    connection: PoolConnection<Postgres>,
    tenant: Option<String>,
    since: Instant,
    used: Instant,
}

impl Readers {
    pub(super) fn new(pool: PgPool) -> Self {
        let permits = Arc::new(Semaphore::new(pool.options().get_max_connections() as usize));
        Self { pool, permits, idle: Mutex::default() }
    }

    /// Reads what is committed, as the statement's tenant.
    pub(super) async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        let _permit = self.permit().await?;
        if let Some(reader) = self.take() {
            match self.read(reader, statement.clone()).await {
                // The server has closed what was idle here. A fresh connection tells whether it is away.
                Err(error) if is_outage(&error) => self.forget_idle(),
                read => return read,
            }
        }
        let connection = self.pool.acquire().await?;
        let now = Instant::now();
        let reader = Reader { connection, tenant: None, since: now, used: now };
        self.read(reader, statement).await
    }

    async fn read(&self, mut reader: Reader, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        let read = answer(async {
            reader.work_for(&statement.scope).await?;
            Ok(rows(query(statement).fetch_all(&mut *reader.connection).await?))
        });
        let read = read.await?;
        self.give_back(reader);
        Ok(read)
    }

    /// Room for one connection in the pool, which is not among the idle ones.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(ACQUIRE_TIMEOUT, permit).await {
            Ok(permit) => permit.map_err(|_| sqlx::Error::PoolClosed),
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// Room for a transaction: an idle connection goes back to the pool for it.
    pub(super) async fn permit_for_transaction(&self) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        let permit = self.permit().await?;
        drop(self.pop());
        Ok(permit)
    }

    /// An idle connection that can be used as it is.
    fn take(&self) -> Option<Reader> {
        let reader = self.pop()?;
        // Dropped otherwise: the pool tests it.
        (reader.used.elapsed() < TRUSTED && reader.since.elapsed() < LIFETIME).then_some(reader)
    }

    fn pop(&self) -> Option<Reader> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, reader: Reader) {
        if !self.permits.is_closed() {
            let reader = Reader { used: Instant::now(), ..reader };
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
    }

    fn forget_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    pub(super) async fn close(&self) {
        self.permits.close();
        self.forget_idle();
        self.pool.close().await;
    }
}

impl Reader {
    /// Tells the server for which tenant it works from here on, if that is another than before.
    async fn work_for(&mut self, scope: &Scope) -> Result<(), sqlx::Error> {
        let Some(tenant) = scope.setting().filter(|tenant| self.tenant.as_deref() != Some(*tenant)) else {
            return Ok(());
        };
        set_tenant(&mut self.connection, tenant).await?;
        self.tenant = Some(tenant.to_owned());
        Ok(())
    }
}

async fn set_tenant(connection: &mut PgConnection, tenant: &str) -> Result<(), sqlx::Error> {
    let set = sqlx::query("select set_config('everline.tenant', $1, false)").bind(tenant);
    set.execute(connection).await.map(|_| ())
}
