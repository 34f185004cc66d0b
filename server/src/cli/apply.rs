//! Applying a definition by its name: create it, or store a new version if it changed.

use serde_json::{Value, json};
use std::time::Duration;

use crate::client::{Client, ClientError, segment};
use crate::exit::Failure;

/// How many workflows a name is looked for among.
const MAX_LISTED: usize = 100_000;
/// How often an update is tried again that somebody else was faster with.
const MAX_RACES: u32 = 3;
/// A name may be taken a moment before its workflow can be read.
const RACE_PAUSE: Duration = Duration::from_millis(50);

/// What applying did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Updated,
    Published,
    Unchanged,
}

impl Change {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Published => "published",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An applied definition.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) change: Change,
}

/// Creates the workflow of this definition, or brings the one of the same name up to it.
pub(super) async fn apply(client: &Client, definition: &Value) -> Result<Applied, Failure> {
    let name = definition.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut races = 0;
    loop {
        let attempt = match find(client, &name).await? {
            None => create(client, definition, &name).await,
            Some(id) => update(client, definition, &name, &id).await,
        };
        match attempt {
            // Created, renamed or updated by somebody else in between: look again.
            Err(ClientError::Refused(problem))
                if matches!(problem.status, 409 | 412) && races < MAX_RACES =>
            {
                tracing::debug!(
                    workflow.name = name,
                    code = problem.code,
                    "somebody else was faster; looking again"
                );
                races += 1;
                tokio::time::sleep(RACE_PAUSE * races).await;
            }
            attempt => return Ok(attempt?),
        }
    }
}

async fn create(client: &Client, definition: &Value, name: &str) -> Result<Applied, ClientError> {
    let created = client.post("/workflows", definition).await?;
    Ok(applied(&created.body, name, Change::Created))
}

async fn update(client: &Client, definition: &Value, name: &str, id: &str) -> Result<Applied, ClientError> {
    let path = format!("/workflows/{}", segment(id));
    let current = client.get(&path, &[]).await?;
    // `draft` is an instruction beside the definition, not a part of what is stored.
    let mut wanted = definition.clone();
    let draft = wanted.as_object_mut().and_then(|fields| fields.remove("draft")) == Some(Value::Bool(true));
    if current.body.get("definition") == Some(&wanted) {
        if draft || current.body.get("published_version") == current.body.get("version") {
            return Ok(applied(&current.body, name, Change::Unchanged));
        }
        let published = client.post(&format!("{path}/publish"), &json!({})).await?;
        return Ok(applied(&published.body, name, Change::Published));
    }
    let updated = client.put(&path, definition, current.etag.as_deref()).await?;
    Ok(applied(&updated.body, name, Change::Updated))
}

fn applied(body: &Value, name: &str, change: Change) -> Applied {
    Applied {
        id: body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        name: name.to_owned(),
        version: body.get("version").and_then(Value::as_u64).unwrap_or_default(),
        change,
    }
}

/// The id of the workflow with a name.
pub(super) async fn find(client: &Client, name: &str) -> Result<Option<String>, ClientError> {
    let items = client.list("/workflows", &[("name", name.to_owned())], MAX_LISTED).await?;
    let found = items.iter().find(|item| item.get("name").and_then(Value::as_str) == Some(name));
    Ok(found.and_then(|item| item.get("id")?.as_str()).map(str::to_owned))
}

/// The id of the workflow that a person means: by id, else by name.
pub(super) async fn resolve(client: &Client, name_or_id: &str) -> Result<String, Failure> {
    if domain::ids::parse_id(name_or_id).is_some() {
        return Ok(name_or_id.to_owned());
    }
    find(client, name_or_id)
        .await?
        .ok_or_else(|| Failure::Client(ClientError::NoSuchWorkflow { name: name_or_id.to_owned() }))
}
