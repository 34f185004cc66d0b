//! The connection's rights: whether its caller is still recognised, and may still follow what it follows.

use std::time::Duration;
use tokio::time::Instant;

use crate::access::RightsChange;
use crate::app::App;
use crate::auth::Principal;
use crate::status;

use super::connection::Connection;
use super::ending::End;
use super::messages;

/// When a caller without an end would end; far enough.
const NEVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long to wait for a store that did not say whether a token is good.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// When the caller's token expires.
pub(super) fn expiry(app: &App, principal: &Principal) -> Instant {
    let left = principal.expires_at.map(|at| at.unix_ms().saturating_sub(app.clock.now().unix_ms()));
    let left = left.map_or(NEVER, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0).max(1)));
    Instant::now() + left.min(NEVER)
}

impl Connection {
    /// Looks the caller up again: its rights as they are now. A cache hit, where nothing has changed.
    pub(super) async fn recognise(&mut self) -> Result<(), End> {
        match self.app.auth.recognise(&self.token).await {
            Ok(principal) => {
                // Also where no change was heard of, because the feed was silent.
                self.unsure |= principal.grants != self.caller.principal.grants;
                self.caller.principal = principal;
                self.expires = expiry(&self.app, &self.caller.principal);
                Ok(())
            }
            Err(failure) if failure.code == status::UNAUTHENTICATED.code => Err(End::Unauthenticated),
            // A store that does not answer for a moment does not end connections.
            Err(_) => {
                self.expires = Instant::now() + ASK_AGAIN;
                self.unsure = true;
                Ok(())
            }
        }
    }

    /// Rights have changed: whoever is not recognised any more is sent away, what may not be followed any more ends.
    pub(super) async fn look_again(&mut self, change: &RightsChange) -> Result<(), End> {
        if !change.concerns(&self.caller.principal) {
            return Ok(());
        }
        self.recognise().await?;
        for (name, followed) in self.subscriptions.followed() {
            if !followed.may_be_concerned(change) {
                continue;
            }
            let Err(failure) = followed.check(&self.app, &self.caller.principal).await else { continue };
            if failure.status.is_client_error() {
                self.subscriptions.remove(&name);
                self.say(messages::error(None, Some(&name), &failure)).await?;
            } else {
                self.unsure = true;
            }
        }
        Ok(())
    }
}
