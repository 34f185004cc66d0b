//! The rows: what a projection writes and a query returns.

use domain::execution::view::ExecutionView;
use domain::ids::{Partition, Position, TenantId};
use domain::time::Timestamp;
use uuid::Uuid;

use crate::ReadModelError;

/// A workflow with its latest definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The definition's `description`; `None` also where the definition is a claim check.
    pub description: Option<String>,
    /// The number of its latest definition, from 1.
    pub latest_version: u64,
    /// The version that new executions take.
    pub published_version: Option<u64>,
    /// Whether new executions are accepted.
    pub enabled: bool,
    /// Whether it is deleted. Lists leave those out.
    pub deleted: bool,
    /// The version of its stream, for `ETag`.
    pub etag: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its last event was recorded.
    pub updated_at: Timestamp,
    /// Who created it.
    pub created_by: String,
    /// The latest definition as JSON text, perhaps a claim check.
    pub definition: String,
}

/// One version of a workflow's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowVersionRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// The workflow.
    pub workflow_id: Uuid,
    /// The number, from 1.
    pub version: u64,
    /// SHA-256 of the document's JSON.
    pub hash: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Who stored it.
    pub created_by: String,
    /// The definition as JSON text, perhaps a claim check.
    pub definition: String,
}

/// An execution ready to be written: what filters need, and the whole view as JSON.
#[derive(Debug, Clone)]
pub struct ExecutionRow {
    pub(crate) tenant: TenantId,
    pub(crate) id: Uuid,
    pub(crate) partition: Partition,
    pub(crate) workflow_id: Uuid,
    pub(crate) workflow_name: String,
    pub(crate) status: &'static str,
    pub(crate) started_at: i64,
    pub(crate) finished_at: Option<i64>,
    pub(crate) priority: u8,
    pub(crate) version: u64,
    pub(crate) error: Option<String>,
    pub(crate) attributes: String,
    pub(crate) view: String,
}

impl ExecutionRow {
    /// The row of a view. The view is serialised here, once.
    pub fn new(
        tenant: &TenantId,
        partition: Partition,
        view: &ExecutionView,
    ) -> Result<Self, ReadModelError> {
        let encode = |source| ReadModelError::Encode { id: view.id, source };
        Ok(Self {
            tenant: tenant.clone(),
            id: view.id,
            partition,
            workflow_id: view.workflow_id,
            workflow_name: view.workflow_name.clone(),
            status: view.status.as_str(),
            started_at: view.started_at.unix_ms(),
            finished_at: view.finished_at.map(Timestamp::unix_ms),
            priority: view.priority,
            version: view.version,
            error: view.error.as_ref().map(|failure| failure.error.message.clone()),
            attributes: serde_json::to_string(&view.attributes).map_err(encode)?,
            view: serde_json::to_string(view).map_err(encode)?,
        })
    }

    /// The length of the view's JSON in bytes: what it weighs in a cache.
    pub fn view_bytes(&self) -> usize {
        self.view.len()
    }
}

/// A stream that a projection passes over since one of its events could not be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedStream {
    /// The stream.
    pub stream: Uuid,
    /// The first event that could not be folded.
    pub position: Position,
    /// Why not.
    pub reason: String,
    /// Later events of the stream that were passed over.
    pub skipped: u64,
}

/// A page of a list, and where the next one starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T, C = Uuid> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last. A page may be short, even empty, and still have a
    /// successor: a filter looks at a bounded number of rows per page.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// The page out of up to `limit + 1` fetched items, the last of which only tells that there is more.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> C) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}
