//! What an access token says (RFC 9068, section 2.2).

use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::moment;

/// How far the clocks of two gateways may be apart, in milliseconds.
const LEEWAY_MS: u64 = 5_000;

/// The claims of a token. Times are seconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Who made it.
    pub(crate) iss: String,
    /// For whom it is meant.
    pub(crate) aud: String,
    /// The user.
    pub(crate) sub: Uuid,
    /// From when on it is not accepted.
    pub(crate) exp: i64,
    /// Before which it is not accepted.
    pub(crate) nbf: i64,
    /// When it was made.
    pub(crate) iat: i64,
    /// Its own id.
    pub(crate) jti: Uuid,
    /// The session.
    pub(crate) sid: Uuid,
    /// The user's tenant.
    pub(crate) tenant: String,
    /// The program that the user logged in with.
    pub(crate) client_id: String,
}

impl Claims {
    /// Whether it is good at this moment, give or take [`LEEWAY_MS`].
    pub(crate) fn are_now(&self, now: Timestamp) -> bool {
        let begun = now.plus_ms(LEEWAY_MS);
        moment(self.nbf) <= begun && moment(self.iat) <= begun && now < self.until().plus_ms(LEEWAY_MS)
    }

    /// From when on it is not accepted.
    pub(crate) fn until(&self) -> Timestamp {
        moment(self.exp)
    }
}
