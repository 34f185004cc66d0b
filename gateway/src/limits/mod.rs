//! Rate limits per address, user, key and tenant.

use http::HeaderMap;

use crate::app::App;
use crate::auth::Principal;
use crate::client::Client;
use crate::failure::Failure;

/// What an answer says of the limits that its request counted in (`RateLimit`, `RateLimit-Policy`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {}

impl Standing {
    /// Adds the headers.
    pub(crate) fn write(&self, _headers: &mut HeaderMap) {}
}

/// Counts a request of an address, before anybody is recognised.
pub(crate) fn admit_address(_app: &App, _client: &Client) -> Result<Standing, Failure> {
    Ok(Standing::default())
}

/// Counts a request of a recognised caller.
pub(crate) fn admit_principal(_app: &App, _principal: &Principal) -> Result<Standing, Failure> {
    Ok(Standing::default())
}
