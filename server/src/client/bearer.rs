//! With what requests are sent: nothing, an API key, or a session that renews itself.

use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::credentials::{Credentials, StoredSession};
use super::{Client, ClientError};
use crate::secret::Secret;

/// A token that has less than this left is renewed before it is sent.
const MARGIN: Duration = Duration::from_secs(30);

/// With what requests are sent.
#[derive(Debug, Clone)]
pub enum Bearer {
    /// Nothing.
    Nobody,
    /// A key or token as it is.
    Key(Secret),
    /// The stored session on the client's server.
    Session(Credentials),
}

impl From<Option<Secret>> for Bearer {
    fn from(key: Option<Secret>) -> Self {
        key.map_or(Self::Nobody, Self::Key)
    }
}

impl StoredSession {
    /// From the answer to a login or a refresh.
    pub fn from_answer(answer: &Value) -> Option<Self> {
        let text = |pointer: &str| answer.pointer(pointer)?.as_str().map(str::to_owned);
        Some(Self {
            email: text("/user/email")?,
            tenant: text("/user/tenant").unwrap_or_default(),
            access_token: text("/access_token")?,
            refresh_token: text("/refresh_token")?,
            expires_at: now() + answer.get("expires_in")?.as_u64()?,
        })
    }

    fn is_fresh(&self) -> bool {
        self.expires_at > now() + MARGIN.as_secs()
    }
}

impl Client {
    /// What to send as a bearer token now.
    pub(super) async fn bearer(&self) -> Result<Option<Secret>, ClientError> {
        match &self.bearer {
            Bearer::Nobody => Ok(None),
            Bearer::Key(key) => Ok(Some(key.clone())),
            Bearer::Session(credentials) => {
                let stored = credentials.session(&self.base).map_err(unusable)?;
                let stored = stored.ok_or_else(|| self.logged_out())?;
                if stored.is_fresh() {
                    return Ok(Some(Secret::new(stored.access_token)));
                }
                self.renewed(credentials, &stored.access_token).await.map(Some)
            }
        }
    }

    /// The next token after one that the server refused; `None` if there can be none.
    pub(super) async fn after_refusal(&self, refused: &Secret) -> Result<Option<Secret>, ClientError> {
        match &self.bearer {
            Bearer::Nobody | Bearer::Key(_) => Ok(None),
            Bearer::Session(credentials) => self.renewed(credentials, refused.expose()).await.map(Some),
        }
    }

    /// The token that follows `old`: what another process has got meanwhile, or a new one.
    async fn renewed(&self, credentials: &Credentials, old: &str) -> Result<Secret, ClientError> {
        let (credentials, server, old) = (credentials.clone(), self.base.clone(), old.to_owned());
        let anonymous = Self { bearer: Bearer::Nobody, ..self.clone() };
        let runtime = tokio::runtime::Handle::current();
        // The lock is held over the request, on a thread that may block.
        let renewing = tokio::task::spawn_blocking(move || {
            let locked = credentials.lock().map_err(unusable)?;
            let stored = locked.session(&server).map_err(unusable)?;
            let stored = stored.ok_or_else(|| anonymous.logged_out())?;
            if stored.access_token != old && stored.is_fresh() {
                return Ok(Secret::new(stored.access_token));
            }
            let body = json!({"refresh_token": stored.refresh_token});
            let answer = runtime.block_on(anonymous.post("/auth/refresh", &body));
            let answer = answer.map_err(|error| match error {
                ClientError::Refused(problem) if problem.status == 401 => anonymous.logged_out(),
                ClientError::NoKey => anonymous.logged_out(),
                error => error,
            })?;
            let next = StoredSession::from_answer(&answer.body);
            let next = next.ok_or_else(|| ClientError::NotEverline { url: server.clone() })?;
            let token = Secret::new(next.access_token.as_str());
            locked.renew(&server, next).map_err(unusable)?;
            Ok(token)
        });
        renewing.await.map_err(|error| ClientError::Credentials(error.to_string()))?
    }

    fn logged_out(&self) -> ClientError {
        ClientError::LoggedOut { url: self.base.clone() }
    }
}

fn unusable(error: anyhow::Error) -> ClientError {
    ClientError::Credentials(format!("{error:#}"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
