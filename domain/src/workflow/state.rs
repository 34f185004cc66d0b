//! What a workflow's events add up to.
//!
//! | state | created | updated | published | enabled/disabled | deleted | restored |
//! |---|---|---|---|---|---|---|
//! | none | live | – | – | – | – | – |
//! | live | – | live | live | live | deleted | – |
//! | deleted | – | – | – | – | – | live |

use serde_json::Value;
use uuid::Uuid;

use crate::facts::WorkflowHead;

use super::event::WorkflowShared;

/// A folded workflow. `latest_version` 0 means that there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkflowState {
    /// The version of the stream.
    pub stream_version: u64,
    /// Its name.
    pub name: String,
    /// Every version, the first first.
    pub versions: Vec<DefinitionVersion>,
    /// The version that new executions take.
    pub published_version: Option<u64>,
    /// Whether new executions are refused.
    pub disabled: bool,
    /// Whether it is deleted.
    pub deleted: bool,
    /// The user to whom it belongs.
    pub owner: Option<Uuid>,
    /// Who else sees it.
    pub shared: WorkflowShared,
}

/// One stored definition.
#[derive(Debug, Clone, PartialEq)]
pub struct DefinitionVersion {
    /// SHA-256 of the document's JSON.
    pub hash: String,
    /// The document, perhaps a claim check.
    pub definition: Value,
}

impl WorkflowState {
    /// The number of the latest version; 0 if there is none.
    pub fn latest_version(&self) -> u64 {
        self.versions.len() as u64
    }

    /// A version by its number, from 1.
    pub fn version(&self, number: u64) -> Option<&DefinitionVersion> {
        self.versions.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// What executions must know of it; `None` before the first event.
    pub fn head(&self) -> Option<WorkflowHead> {
        (!self.versions.is_empty()).then(|| WorkflowHead {
            name: self.name.clone(),
            published_version: self.published_version,
            latest_version: self.latest_version(),
            enabled: !self.disabled,
            deleted: self.deleted,
            owner: self.owner,
            shared: self.shared.clone(),
        })
    }
}
