//! Access tokens: JWTs (RFC 9068) that anybody can check with the keys of `/.well-known/jwks.json`.
//!
//! Owns: [`AccessTokens`], its keys ([`keys`]) and claims ([`claims`]). Invariants (RFC 8725): the key is found by `kid`
//! among our own and never taken from the token; a key has one algorithm, EdDSA, whatever the token says; a header has
//! `alg`, `typ` and `kid` and nothing else, so what we do not understand is refused; issuer, audience, type and times
//! are checked before anything is looked up. A good token says who it was made for, not that the session still goes on:
//! that is asked of the session's row. Deliberately absent: tokens of API keys, which stay opaque.

mod claims;
mod keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::TenantId;
use domain::time::{Clock, Timestamp};
use event_store::sealing::MasterKey;
use event_store::verifiers::Verifiers;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::GatewayConfig;
use crate::failure::Failure;
use crate::status;

use super::token::MAX_SECRET_BYTES;
pub(crate) use claims::Claims;
pub(crate) use keys::Jwks;
use keys::SigningKeys;
pub use keys::{MasterKeyError, check_master_key};

/// The type of our tokens (RFC 9068).
const TYPE: &str = "at+jwt";

/// What a token is made for.
pub(crate) struct Subject<'a> {
    pub(crate) user: Uuid,
    pub(crate) tenant: &'a TenantId,
    pub(crate) session: Uuid,
    /// The program that the user logs in with.
    pub(crate) client: &'a str,
}

/// Makes and checks access tokens.
pub(crate) struct AccessTokens {
    keys: SigningKeys,
    clock: Arc<dyn Clock>,
    issuer: String,
    audience: String,
    lifetime_ms: u64,
}

/// Why a token is refused. The caller is told nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is no JWT of ours")]
    Shape,
    #[error("its header is not one of ours")]
    Header,
    #[error("its key is not one of ours")]
    Key,
    #[error("its signature, issuer or audience is wrong")]
    Signature,
    #[error("its times are not now")]
    Time,
}

/// What a header has. Everything else is refused: `jku`, `jwk`, `x5u` would name a key, `crit` something that must be
/// understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: String,
    kid: String,
}

impl AccessTokens {
    pub(crate) fn new(
        verifiers: Arc<dyn Verifiers>,
        clock: Arc<dyn Clock>,
        master_key: MasterKey,
        config: &GatewayConfig,
    ) -> Self {
        let lifetime_ms = config.access_token_ms;
        Self {
            keys: SigningKeys::new(verifiers, clock.clone(), master_key, config.signing_key_ms, lifetime_ms),
            clock,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            lifetime_ms,
        }
    }

    /// Milliseconds for which a token is good.
    pub(crate) fn lifetime_ms(&self) -> u64 {
        self.lifetime_ms
    }

    /// Makes a token.
    pub(crate) async fn issue(&self, subject: Subject<'_>) -> Result<Zeroizing<String>, Failure> {
        let key = self.keys.current().await?;
        let now = self.clock.now().unix_ms();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: subject.user,
            exp: seconds(now + i64::try_from(self.lifetime_ms).unwrap_or(i64::MAX / 2)),
            nbf: seconds(now),
            iat: seconds(now),
            jti: Uuid::from_bytes(crate::random::bytes()),
            sid: subject.session,
            tenant: subject.tenant.as_str().to_owned(),
            client_id: subject.client.to_owned(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, key.encoding()).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Failure::new(status::INTERNAL, "the access token could not be signed")
        })?;
        Ok(Zeroizing::new(token))
    }

    /// What a token says, if it is one of ours and good now. `Ok(Err(_))`: it is not.
    pub(crate) async fn verify(&self, token: &str) -> Result<Result<Claims, Refused>, Failure> {
        let header = match header_of(token) {
            Ok(header) => header,
            Err(refused) => return Ok(Err(refused)),
        };
        let Some(key) = self.keys.find(&header.kid).await? else { return Ok(Err(Refused::Key)) };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
        // The times are judged below, by the clock that everything here goes by.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let Ok(data) = jsonwebtoken::decode::<Claims>(token, key.decoding(), &validation) else {
            return Ok(Err(Refused::Signature));
        };
        let now = self.clock.now();
        Ok(if data.claims.are_now(now) { Ok(data.claims) } else { Err(Refused::Time) })
    }

    /// The public keys, for `/.well-known/jwks.json`.
    pub(crate) async fn jwks(&self) -> Result<Jwks, Failure> {
        self.keys.jwks().await
    }
}

fn header_of(token: &str) -> Result<StrictHeader, Refused> {
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Shape);
    };
    if token.len() > MAX_SECRET_BYTES {
        return Err(Refused::Shape);
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Refused::Header)?;
    let header: StrictHeader = serde_json::from_slice(&header).map_err(|_| Refused::Header)?;
    let typ = header.typ.strip_prefix("application/").unwrap_or(&header.typ);
    if header.alg != "EdDSA" || !typ.eq_ignore_ascii_case(TYPE) {
        return Err(Refused::Header);
    }
    Ok(header)
}

fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1_000)
}

/// The moment of a time in seconds.
fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(seconds.saturating_mul(1_000))
}
