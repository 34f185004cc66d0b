//! A user: an e-mail, a role in one tenant, and what became of them. Their secrets are verifiers beside the log.

pub mod command;
mod decide;
pub mod event;
mod evolve;
pub mod state;

pub use decide::{claim_taken, decide, not_found};
pub use evolve::evolve;
pub use state::{UserState, UserStatus};

/// The kind of claim by which an e-mail belongs to one user of the installation.
pub const EMAIL_CLAIM: &str = "user_email";
