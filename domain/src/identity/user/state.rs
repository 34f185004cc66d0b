//! What a user's events add up to.
//!
//! | state | created | activated | disabled | enabled | deleted | others |
//! |---|---|---|---|---|---|---|
//! | none | active or invited | – | – | – | – | – |
//! | invited | – | active | disabled | – | deleted | invited |
//! | active | – | – | disabled | – | deleted | active |
//! | disabled | – | – | – | active | deleted | disabled |
//! | deleted | – | – | – | – | – | – |

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Whether a user is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// There is none.
    #[default]
    None,
    /// Known, without a password yet.
    Invited,
    /// Recognised.
    Active,
    /// Not recognised until enabled.
    Disabled,
    /// Gone.
    Deleted,
}

impl UserStatus {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Invited => "invited",
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }
}

/// A folded user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserState {
    /// The version of the stream; 0 before they were made.
    pub version: u64,
    /// Normal form.
    pub email: String,
    /// For people.
    pub name: Option<String>,
    /// The name of the role.
    pub role: String,
    /// Whether they run the installation.
    pub operator: bool,
    /// Whether they are recognised.
    pub status: UserStatus,
    /// Whether the e-mail is known to reach them.
    pub email_verified: bool,
    /// Whether a second factor is needed.
    pub totp: bool,
    /// Providers through which they come in: name and fingerprint.
    pub identities: BTreeSet<(String, String)>,
}
