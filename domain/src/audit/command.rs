//! What can be asked of an audit.

use serde::{Deserialize, Serialize};

use super::event::AuditEntry;

/// A command to a tenant's audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditCommand {
    /// Records entries, in their order.
    Record {
        /// At most [`super::MAX_ENTRIES`].
        entries: Vec<AuditEntry>,
    },
}

impl AuditCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Record { .. } => "RecordAudit",
        }
    }
}
