//! The first administrator, made when a store has none.

use domain::identity::bootstrap_admin_id;
use domain::ids::TenantId;
use domain::time::Clock;
use event_store::log::StoreError;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use std::fmt;
use zeroize::Zeroizing;

use super::password::{self, PasswordError};
use super::token::{self, TokenHash};
use domain::identity::normal_email;

/// An administrator about to be stored. Its secrets exist only here; save or show them, then call [`NewAdmin::store`].
pub struct NewAdmin {
    /// The e-mail to log in with.
    pub email: String,
    /// The password, if none was given.
    pub generated_password: Option<Zeroizing<String>>,
    /// An API key, `evl_…`.
    pub api_key: Zeroizing<String>,
    key: Verifier,
    login: Verifier,
}

impl NewAdmin {
    /// Makes the key and the password valid, unless another process was faster: then it answers `false`, and nothing
    /// of this administrator is stored. Whoever has lost the secrets before this starts over; afterwards nobody can
    /// make them again.
    pub async fn store(&self, verifiers: &dyn Verifiers) -> Result<bool, AdminError> {
        Ok(verifiers.put_new(&[self.login.clone(), self.key.clone()]).await?)
    }
}

/// Whether a text is an API key that is valid.
pub async fn is_api_key(verifiers: &dyn Verifiers, text: &str) -> Result<bool, AdminError> {
    Ok(verifiers.find(VerifierKind::ApiKey, TokenHash::of(text).hex()).await?.is_some())
}

/// Without the secrets: they must not reach a log.
impl fmt::Debug for NewAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAdmin").field("email", &self.email).finish_non_exhaustive()
    }
}

/// The administrator could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The e-mail cannot be one.
    #[error("`{0}` is not an e-mail address; set another for the first administrator")]
    Email(String),
    /// The password is too long or too short.
    #[error("the first administrator's password must have 8 to 1024 bytes")]
    PasswordLength,
    /// The password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error("the first administrator could not be stored")]
    Store(#[from] StoreError),
}

/// Whether an administrator can have this e-mail and password, asked before there is a store.
pub fn check_admin(email: &str, password: Option<&str>) -> Result<(), AdminError> {
    let email = normal_email(email);
    if email.len() > 254
        || !email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
    {
        return Err(AdminError::Email(email.chars().take(64).collect()));
    }
    if password.is_some_and(|given| !(8..=password::MAX_PASSWORD_BYTES).contains(&given.len())) {
        return Err(AdminError::PasswordLength);
    }
    Ok(())
}

/// Prepares the first administrator of the tenant `default`, with an API key, unless the tenant has a user. The
/// same call at every start is right: once an administrator is stored it answers `None`.
pub async fn prepare_admin(
    verifiers: &dyn Verifiers,
    clock: &dyn Clock,
    email: &str,
    password: Option<Zeroizing<String>>,
) -> Result<Option<NewAdmin>, AdminError> {
    let tenant = TenantId::default_tenant();
    if !verifiers.list(VerifierKind::Password, &tenant).await?.is_empty() {
        return Ok(None);
    }
    check_admin(email, password.as_ref().map(|given| given.as_str()))?;
    let email = normal_email(email);
    let generated_password = password.is_none().then(|| token::fresh(""));
    let secret = password.or_else(|| generated_password.clone()).unwrap_or_default();
    let hash = tokio::task::spawn_blocking(move || password::hash(&secret))
        .await
        .map_err(|_| PasswordError::interrupted())??;

    let now = clock.now();
    let api_key = token::fresh(token::API_KEY);
    let key = Verifier {
        kind: VerifierKind::ApiKey,
        lookup: TokenHash::of(&api_key).hex().to_owned(),
        tenant: tenant.clone(),
        principal: bootstrap_admin_id().to_string(),
        name: email.clone(),
        hash: String::new(),
        family: None,
        created_at: now,
        expires_at: None,
        used_at: None,
    };
    let login = Verifier { kind: VerifierKind::Password, lookup: email.clone(), hash, ..key.clone() };
    Ok(Some(NewAdmin { email, generated_password, api_key, key, login }))
}
