//! What a user's stream is made of.

use serde::{Deserialize, Serialize};

/// How a password came to be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordChange {
    /// The user knew the old one.
    Changed,
    /// With a token that an administrator had made.
    Reset,
}

/// `user.created`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserCreated {
    /// Normal form.
    pub email: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name of the role.
    pub role: String,
    /// Whether a password is still to be set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invited: bool,
    /// Whether they run the installation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
}

/// `user.renamed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRenamed {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `user.role_changed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRoleChanged {
    /// The name of the role.
    pub role: String,
}

/// `user.activated`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserActivated {}

/// `user.email_verified`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserEmailVerified {}

/// `user.disabled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDisabled {}

/// `user.enabled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserEnabled {}

/// `user.deleted`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDeleted {
    /// The e-mail that is free again.
    pub email: String,
}

/// `user.password_changed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserPasswordChanged {
    /// How.
    pub how: PasswordChange,
}

/// `user.totp_enabled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserTotpEnabled {}

/// `user.totp_disabled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserTotpDisabled {}

/// `user.identity_linked`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserIdentityLinked {
    /// The name of the provider.
    pub provider: String,
    /// Hexadecimal SHA-256 of issuer and subject.
    pub fingerprint: String,
}
