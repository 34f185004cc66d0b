//! What can be asked of a user.

use serde::{Deserialize, Serialize};

/// A command to a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserCommand {
    /// Makes them.
    Create {
        /// Normal form.
        email: String,
        /// For people.
        name: Option<String>,
        /// The name of a role: built in, or one of the tenant's, which the sender has looked up.
        role: String,
        /// Whether they are known but have not set a password yet.
        invited: bool,
        /// Whether they run the installation: may manage tenants. Only the first administrator is made so.
        operator: bool,
    },
    /// Another name.
    Rename {
        /// For people; none takes it away.
        name: Option<String>,
    },
    /// Another role.
    ChangeRole {
        /// The name of a role that the sender has looked up.
        role: String,
    },
    /// An invited user has set a password, or come in through a provider.
    Activate,
    /// The e-mail is known to reach them.
    VerifyEmail,
    /// Not recognised until enabled.
    Disable,
    /// Recognised again.
    Enable,
    /// Gone; the e-mail is free again.
    Delete,
    /// The password's verifier was replaced.
    ChangePassword {
        /// By whom and why.
        how: super::event::PasswordChange,
    },
    /// A second factor is needed from now on.
    EnableTotp,
    /// No second factor is needed any more.
    DisableTotp,
    /// They may come in through a provider.
    LinkIdentity {
        /// The name of the provider in the configuration.
        provider: String,
        /// Hexadecimal SHA-256 of issuer and subject.
        fingerprint: String,
    },
}

impl UserCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateUser",
            Self::Rename { .. } => "RenameUser",
            Self::ChangeRole { .. } => "ChangeUserRole",
            Self::Activate => "ActivateUser",
            Self::VerifyEmail => "VerifyUserEmail",
            Self::Disable => "DisableUser",
            Self::Enable => "EnableUser",
            Self::Delete => "DeleteUser",
            Self::ChangePassword { .. } => "ChangeUserPassword",
            Self::EnableTotp => "EnableUserTotp",
            Self::DisableTotp => "DisableUserTotp",
            Self::LinkIdentity { .. } => "LinkUserIdentity",
        }
    }
}
