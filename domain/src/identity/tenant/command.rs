//! What can be asked of a tenant.

use serde::{Deserialize, Serialize};

use super::event::TenantSettings;

/// A command to a tenant; the envelope's tenant says which.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantCommand {
    /// Makes it.
    Create {
        /// For people.
        name: String,
        /// Its settings.
        settings: TenantSettings,
    },
    /// Changes what is given.
    Update {
        /// For people.
        name: Option<String>,
        /// All settings.
        settings: Option<TenantSettings>,
    },
    /// Nobody of it is recognised any more.
    Suspend {
        /// Why.
        reason: Option<String>,
    },
    /// Its users are recognised again.
    Resume,
}

impl TenantCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateTenant",
            Self::Update { .. } => "UpdateTenant",
            Self::Suspend { .. } => "SuspendTenant",
            Self::Resume => "ResumeTenant",
        }
    }
}
