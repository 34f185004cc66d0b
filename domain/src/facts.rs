//! What a decider may know besides state and command: the time, and immutable things that it asked for.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

use crate::access::Authority;
use crate::blob::BlobRef;
use crate::decision::Need;
use crate::execution::{ExecutionState, Recording};
use crate::ids::TenantId;
use crate::time::Timestamp;
use crate::workflow::definition::Definition;
use crate::workflow::event::WorkflowShared;

/// A thing that may not have been fetched yet, or may not exist.
#[derive(Debug, Clone, Default)]
pub enum Fact<T> {
    /// Not fetched: ask with a [`Need`].
    #[default]
    Unknown,
    /// Fetched: there is none.
    Absent,
    /// Fetched.
    Is(Arc<T>),
}

/// The head of a workflow's stream, as far as executions care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowHead {
    /// Its name.
    pub name: String,
    /// The version that new executions take.
    pub published_version: Option<u64>,
    /// The latest version.
    pub latest_version: u64,
    /// Whether new executions are accepted.
    pub enabled: bool,
    /// Whether it is deleted.
    pub deleted: bool,
    /// The user to whom it belongs.
    pub owner: Option<Uuid>,
    /// Who else sees it.
    pub shared: WorkflowShared,
}

/// A tenant's variables at a version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables {
    /// The version of the variables stream; 0 if nothing was ever set.
    pub version: u64,
    /// Name to value.
    pub values: Map<String, Value>,
}

/// Another execution as of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Its state at that version.
    pub state: ExecutionState,
    /// The version of its last event when it was asked for.
    pub latest_version: u64,
    /// How many forks led to it; 0 if it is none.
    pub depth: u32,
    /// The last version of each child that it waited for, as of that event.
    pub children: HashMap<Uuid, u64>,
}

/// What a decider is given.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The time of the decision, which becomes the events' time.
    pub now: Timestamp,
    /// The command being decided; what looks random is derived from it.
    pub command_id: Uuid,
    /// The aggregate.
    pub stream: Uuid,
    /// Whose it is.
    pub tenant: TenantId,
    /// With which right a caller from outside acts.
    pub authority: Option<Box<Authority>>,
    /// The workflow that a start names.
    pub workflow: Fact<WorkflowHead>,
    /// The definition of the execution, or of the start.
    pub definition: Fact<Definition>,
    /// The tenant's variables, at the version asked for.
    pub variables: Fact<Variables>,
    /// Contents of claim checks, by their SHA-256.
    pub blobs: HashMap<String, Arc<Value>>,
    /// What a fork comes from.
    pub origin: Fact<Origin>,
    /// What a fork that replays has on record.
    pub recording: Fact<Recording>,
}

impl Facts {
    /// Nothing known but time and command.
    pub fn new(now: Timestamp, command_id: Uuid, stream: Uuid, tenant: TenantId) -> Self {
        Self {
            now,
            command_id,
            stream,
            tenant,
            authority: None,
            workflow: Fact::Unknown,
            definition: Fact::Unknown,
            variables: Fact::Unknown,
            blobs: HashMap::new(),
            origin: Fact::Unknown,
            recording: Fact::Unknown,
        }
    }

    /// The value itself, or the content of the claim check that stands for it.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> Result<Cow<'a, Value>, Need> {
        match BlobRef::from_value(value) {
            None => Ok(Cow::Borrowed(value)),
            Some(reference) => match self.blobs.get(&reference.sha256) {
                Some(content) => Ok(Cow::Borrowed(content)),
                None => Err(Need::Blob(reference)),
            },
        }
    }
}
