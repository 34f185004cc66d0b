//! A workflow as clients see it, after a write or from its read model.

use bus::CommandReply;
use domain::ids::TenantId;
use domain::time::Timestamp;
use domain::workflow::event::{ShareAccess, Visibility};
use read_models::WorkflowRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::config::ms;
use crate::failure::Failure;
use crate::large_values::Unpacker;
use crate::reading::read_error;
use crate::request::Caller;
use crate::status;

/// A workflow. What is not known at once after a write is left out.
#[derive(Debug, Serialize)]
pub(crate) struct WorkflowAnswer {
    pub(crate) id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    description: Option<String>,
    /// The number of the latest definition.
    version: u64,
    published_version: Option<u64>,
    enabled: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    /// The user to whom it belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Uuid>,
    /// Whether everybody of the tenant sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<Visibility>,
    /// What those who see it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<ShareAccess>,
    /// Who sees it beside its owner, by name; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shared_with: Option<Vec<Uuid>>,
    #[serde(skip)]
    pub(crate) etag: u64,
}

/// What the decider answers.
#[derive(Deserialize)]
struct Head {
    id: Uuid,
    version: u64,
    published_version: Option<u64>,
    enabled: bool,
    deleted: bool,
    etag: u64,
    at: Timestamp,
}

impl WorkflowAnswer {
    /// From the read model.
    pub(crate) fn of_row(row: WorkflowRow, definition: Option<Value>) -> Self {
        let described = definition.as_ref().and_then(|document| text(document, "description"));
        Self {
            id: row.id,
            name: Some(row.name),
            description: row.description.or(described),
            version: row.latest_version,
            published_version: row.published_version,
            enabled: row.enabled,
            deleted: row.deleted,
            definition,
            created_at: Some(row.created_at),
            updated_at: row.updated_at,
            created_by: Some(row.created_by),
            owner: row.owner,
            visibility: Some(row.visibility),
            access: Some(row.shared_access),
            shared_with: None,
            etag: row.etag,
        }
    }

    fn of_head(head: Head, definition: Option<Value>) -> Self {
        Self {
            id: head.id,
            name: definition.as_ref().and_then(|document| text(document, "name")),
            description: definition.as_ref().and_then(|document| text(document, "description")),
            version: head.version,
            published_version: head.published_version,
            enabled: head.enabled,
            deleted: head.deleted,
            definition,
            created_at: None,
            updated_at: head.at,
            created_by: None,
            owner: None,
            visibility: None,
            access: None,
            shared_with: None,
            etag: head.etag,
        }
    }
}

/// The workflow that a command has created. A repeated command gives the same.
pub(crate) fn created(
    reply: &CommandReply,
    document: Value,
    caller: &Caller,
) -> Result<WorkflowAnswer, Failure> {
    let mut answer = WorkflowAnswer::of_head(head(reply)?, Some(document));
    answer.created_at = Some(answer.updated_at);
    answer.created_by = Some(caller.principal.actor.as_str().to_owned());
    Ok(answer)
}

/// The workflow as a command has left it. What the command did not say and never changes, its origin and the definition of
/// a version, comes from the read model, so that a repeated command gives the same.
pub(crate) async fn changed(
    app: &App,
    reply: &CommandReply,
    tenant: &TenantId,
) -> Result<WorkflowAnswer, Failure> {
    let head = head(reply)?;
    let (id, version) = (head.id, head.version);
    if let Some(position) = reply.position
        && !app.models.wait_for(&[(position.partition, position.offset)], ms(app.config.read_wait_ms)).await
    {
        // The write has happened; its answer says what is known of it.
        return Ok(WorkflowAnswer::of_head(head, None));
    }
    let row = app.models.workflow(tenant, id).await.map_err(read_error)?;
    let stored = app.models.workflow_version(tenant, id, version).await.map_err(read_error)?;
    let mut definition = stored.and_then(|row| serde_json::from_str(&row.definition).ok());
    if let Some(definition) = &mut definition {
        Unpacker::new(app, tenant).unpack(definition).await?;
    }
    let mut answer = WorkflowAnswer::of_head(head, definition);
    if let Some(row) = row {
        answer.name = answer.name.or(Some(row.name));
        answer.created_at = Some(row.created_at);
        answer.created_by = Some(row.created_by);
    }
    Ok(answer)
}

fn head(reply: &CommandReply) -> Result<Head, Failure> {
    Head::deserialize(&reply.answer)
        .map_err(|_| Failure::new(status::INTERNAL, "the workflow's decider answered in another shape"))
}

fn text(document: &Value, field: &str) -> Option<String> {
    document.get(field).and_then(Value::as_str).map(str::to_owned)
}
