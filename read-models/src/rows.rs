//! The rows: what a projection writes and a query returns.

use domain::execution::event::NodeError;
use domain::execution::view::{ExecutionView, NodePlace, NodeView};
use domain::ids::{Partition, Position, TenantId};
use domain::node_type::NodeType;
use domain::time::Timestamp;
use domain::workflow::event::{ShareAccess, Visibility};
use serde::{Deserialize, Serialize};
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
    /// The user to whom it belongs; nobody's are those from before there were owners.
    pub owner: Option<Uuid>,
    /// Whether everybody of the tenant sees it.
    pub visibility: Visibility,
    /// What those may do who see it without owning it.
    pub shared_access: ShareAccess,
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
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) origin_id: Option<Uuid>,
    pub(crate) owner: Option<Uuid>,
}

impl ExecutionRow {
    /// The row of a view, of nobody's yet. The view is serialised here, once.
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
            parent_id: view.parent.as_ref().map(|parent| parent.execution_id),
            origin_id: view.forked_from.as_ref().map(|fork| fork.execution_id),
            owner: None,
        })
    }

    /// The same, belonging to a user. It counts when the row is new: an execution stays whose it is.
    pub fn owned_by(self, owner: Option<Uuid>) -> Self {
        Self { owner, ..self }
    }

    /// The length of the view's JSON in bytes: what it weighs in a cache.
    pub fn view_bytes(&self) -> usize {
        self.view.len()
    }
}

/// A node inside a loop or a branch, ready to be written.
#[derive(Debug, Clone)]
pub struct NodeRow {
    pub(crate) tenant: TenantId,
    pub(crate) execution_id: Uuid,
    pub(crate) place: NodePlace,
    pub(crate) view: String,
}

impl NodeRow {
    /// The row of a node in a body; `None` for one of the top level, which is in its execution's row.
    pub fn new(
        tenant: &TenantId,
        execution_id: Uuid,
        node: &NodeView,
    ) -> Result<Option<Self>, ReadModelError> {
        let Some(place) = NodePlace::of(&node.id) else { return Ok(None) };
        let encode = |source| ReadModelError::Encode { id: execution_id, source };
        let view = serde_json::to_string(node).map_err(encode)?;
        Ok(Some(Self { tenant: tenant.clone(), execution_id, place, view }))
    }
}

/// A dead letter: a node that ran out of attempts. The JSON of the row is that of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The id of the event that says so.
    pub id: Uuid,
    /// The execution that failed with it.
    pub execution_id: Uuid,
    /// Its workflow.
    pub workflow_id: Uuid,
    /// The workflow's name when it started.
    pub workflow_name: String,
    /// Path of the node.
    pub node_id: String,
    /// Its run.
    pub run: u32,
    /// Its last attempt.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// The last error.
    pub error: NodeError,
    /// When.
    pub dead_lettered_at: Timestamp,
    /// When it was tried again.
    #[serde(default)]
    pub redriven_at: Option<Timestamp>,
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

    /// The same; without a further item, the next page starts where the scan of this one ended.
    pub(crate) fn or_from(self, floor: Option<C>) -> Self {
        Self { next: self.next.or(floor), ..self }
    }
}
