//! The secrets of users, as far as administrators deal with them: passwords given or imported, one-time tokens, and
//! the end of them all.
//!
//! Invariant: a user's event comes before their verifier, so no verifier stands for nobody.

use domain::ids::TenantId;
use domain::rejection::Problem;
use domain::time::Timestamp;
use event_store::log::StoreError;
use event_store::verifiers::{Verifier, VerifierKind};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::auth::password;
use crate::auth::token::{self, TokenHash};
use crate::failure::Failure;
use crate::status;

use super::User;

/// What a token is good for, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OneTime {
    /// Setting the first password.
    Invitation,
    /// Setting another password.
    PasswordReset,
}

impl OneTime {
    fn kind(self) -> VerifierKind {
        match self {
            Self::Invitation => VerifierKind::Invitation,
            Self::PasswordReset => VerifierKind::PasswordReset,
        }
    }

    fn lifetime_ms(self) -> u64 {
        match self {
            Self::Invitation => 7 * 24 * 60 * 60 * 1000,
            Self::PasswordReset => 24 * 60 * 60 * 1000,
        }
    }
}

/// What is wrong with a password for an e-mail.
pub(crate) fn check_password(pointer: &str, password: &str, email: &str) -> Option<Problem> {
    let rule = password::check_rules(password, email).err()?;
    Some(Problem { pointer: pointer.to_owned(), code: rule.code().into(), detail: rule.to_string() })
}

/// What is wrong with a hash from elsewhere.
pub(crate) fn imported_hash(pointer: &str, hash: &str) -> Option<Problem> {
    let detail = "a password's hash is one of argon2id (`$argon2id$…`) or bcrypt (`$2b$…`), of a usual cost";
    (!password::is_accepted_hash(hash)).then(|| Problem::new(pointer, "invalid_password_hash", detail))
}

/// Hashes a password off the async threads.
async fn hash(password: Zeroizing<String>, app: &App) -> Result<String, Failure> {
    let turn = app.evaluation_turn().await?;
    let failed = || Failure::new(status::INTERNAL, "the password could not be hashed");
    let hashed = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        password::hash(&password)
    });
    hashed.await.map_err(|_| failed())?.map_err(|_| failed())
}

/// What a password is stored as.
pub(crate) enum Secret {
    /// The password itself.
    Plain(Zeroizing<String>),
    /// A hash of it from elsewhere.
    Hash(String),
}

/// Stores a user's password. One that is there already stays, where `repeated` says that this was done before.
pub(crate) async fn put_password(
    app: &App,
    (tenant, id, email): (&TenantId, Uuid, &str),
    secret: Secret,
    repeated: bool,
) -> Result<(), Failure> {
    let hash = match secret {
        Secret::Plain(password) => hash(password, app).await?,
        Secret::Hash(hash) => hash,
    };
    let verifier = Verifier {
        kind: VerifierKind::Password,
        lookup: email.to_owned(),
        tenant: tenant.clone(),
        principal: id.to_string(),
        name: email.to_owned(),
        hash,
        family: None,
        created_at: app.clock.now(),
        expires_at: None,
        used_at: None,
    };
    if repeated {
        app.verifiers.put_new(&[verifier]).await?;
    } else {
        app.verifiers.put(&verifier).await?;
    }
    Ok(())
}

/// A token that is good for one thing once, in place of those that the user had for it; and when it expires.
pub(crate) async fn one_time(
    app: &App,
    user: &User,
    what: OneTime,
) -> Result<(Zeroizing<String>, Timestamp), Failure> {
    app.verifiers.delete_of_principal(what.kind(), &user.id.to_string()).await?;
    let token = token::fresh(token::ONE_TIME);
    let now = app.clock.now();
    let expires_at = now.plus_ms(what.lifetime_ms());
    let verifier = Verifier {
        kind: what.kind(),
        lookup: TokenHash::of(&token).hex().to_owned(),
        tenant: user.tenant.clone(),
        principal: user.id.to_string(),
        name: user.state.email.clone(),
        hash: String::new(),
        family: None,
        created_at: now,
        expires_at: Some(expires_at),
        used_at: None,
    };
    app.verifiers.put(&verifier).await?;
    Ok((token, expires_at))
}

/// Deletes all by which a user was recognised.
pub(crate) async fn forget_secrets(app: &App, user: Uuid) -> Result<(), StoreError> {
    for kind in VerifierKind::ALL {
        if !matches!(kind, VerifierKind::SigningKey | VerifierKind::StoreKey) {
            app.verifiers.delete_of_principal(*kind, &user.to_string()).await?;
        }
    }
    app.auth.forget_user(user);
    Ok(())
}
