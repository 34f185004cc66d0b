//! All providers, and the way of a login through one of them.

use domain::ids::TenantId;
use event_store::verifiers::{Verifier, VerifierKind};
use http::{HeaderMap, HeaderValue};

use super::outbound::Outbound;
use super::pending::{LIFETIME_MS, Pending};
use super::provider::Provider;
use super::{Arrival, Callback, Question, accounts};
use crate::app::App;
use crate::auth::token::TokenHash;
use crate::config::GatewayConfig;
use crate::failure::Failure;
use crate::{origin, status};

/// The configured providers.
pub(crate) struct Providers(Vec<Provider>);

impl Providers {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        if config.oidc.is_empty() {
            return Self(Vec::new());
        }
        match Outbound::new() {
            Ok(outbound) => {
                let provider = |(name, config): (&String, _)| Provider::new(name, config, outbound.clone());
                Self(config.oidc.iter().map(provider).collect())
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "no provider can be called, so nobody logs in through one");
                Self(Vec::new())
            }
        }
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|provider| provider.name.as_str())
    }

    /// Begins a login.
    pub(crate) async fn ask(
        &self,
        app: &App,
        name: &str,
        headers: &HeaderMap,
        redirect: Option<String>,
    ) -> Result<Question, Failure> {
        let provider = self.find(name)?;
        let until_ms = app.clock.now().plus_ms(LIFETIME_MS).unix_ms();
        let callback = callback_url(app, provider, headers)?;
        let (location, pending) = provider.question(callback, redirect, until_ms).await?;
        let location = HeaderValue::try_from(location).map_err(|_| {
            Failure::new(status::PROVIDER_UNAVAILABLE, "the provider's address is not usable")
        })?;
        let secure = origin::is_secure(&app.config);
        Ok(Question { location, cookie: pending.cookie(&app.master_key, name, secure)? })
    }

    /// Ends a login with the provider's answer.
    pub(crate) async fn answer(
        &self,
        app: &App,
        name: &str,
        headers: &HeaderMap,
        callback: Callback,
    ) -> Result<Arrival, Failure> {
        let provider = self.find(name)?;
        let missing = |what: &str| Failure::parameter(what, format!("the provider's answer has no `{what}`"));
        let state = callback.state.ok_or_else(|| missing("state"))?;
        let now = app.clock.now();
        let pending = Pending::of(&app.master_key, name, &state, headers, now.unix_ms())?;
        provider.check_issuer(callback.iss.as_deref()).await?;
        if let Some(error) = callback.error {
            let said: String = error.chars().filter(|c| !c.is_control()).take(100).collect();
            let detail = format!("the provider did not let you in: {said}");
            return Err(Failure::new(status::LOGIN_REFUSED, detail));
        }
        let code = callback.code.ok_or_else(|| missing("code"))?;
        use_up(app, &state).await?;
        let redirect_url = callback_url(app, provider, headers)?;
        let identity = provider.identity(redirect_url, code, &pending).await?;
        let user = accounts::find(app, provider, &identity).await?;
        let cookie = Pending::forget(&state, origin::is_secure(&app.config))?;
        Ok(Arrival { user, redirect: pending.redirect, cookie })
    }

    fn find(&self, name: &str) -> Result<&Provider, Failure> {
        self.0.iter().find(|provider| provider.name == name).ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            let detail = format!("there is no provider `{shown}`; see GET /api/v1/auth/oidc");
            Failure::new(status::PROVIDER_NOT_FOUND, detail)
        })
    }
}

fn callback_url(app: &App, provider: &Provider, headers: &HeaderMap) -> Result<String, Failure> {
    match &provider.config.redirect_url {
        Some(url) => Ok(url.clone()),
        None => {
            Ok(format!("{}/api/v1/auth/oidc/{}/callback", origin::of(&app.config, headers)?, provider.name))
        }
    }
}

/// Of all answers to one question, one is taken, whichever replica gets it.
async fn use_up(app: &App, state: &str) -> Result<(), Failure> {
    let now = app.clock.now();
    let used = Verifier {
        kind: VerifierKind::LoginState,
        lookup: TokenHash::of(state).hex().to_owned(),
        tenant: TenantId::default_tenant(),
        principal: String::new(),
        name: String::new(),
        hash: String::new(),
        family: None,
        created_at: now,
        expires_at: Some(now.plus_ms(LIFETIME_MS)),
        used_at: Some(now),
    };
    if app.verifiers.put_new(&[used]).await? {
        return Ok(());
    }
    Err(Failure::new(status::LOGIN_STATE_INVALID, "this answer was used before; begin the login again"))
}
