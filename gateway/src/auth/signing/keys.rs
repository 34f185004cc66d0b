//! The keys that sign access tokens: made here, sealed in the store, shared by all gateways.
//!
//! A key is a row whose lookup is the key before it, so of all gateways that find the newest too old one makes the next.
//! Invariants: a key is known to every gateway before its first token is checked, because who does not know a `kid`
//! reads the rows again; it stays in the set until the last token that it signed has expired. A row that is deleted by
//! hand is forgotten within [`REMEMBERED`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::TenantId;
use domain::time::{Clock, Timestamp};
use ed25519_dalek::SigningKey as SecretKey;
use event_store::log::StoreError;
use event_store::sealing::MasterKey;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::status;

/// What comes before the first key.
const FIRST: &str = "first";
/// For how long the rows are not read again while every `kid` is known.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often unknown `kid`s make the rows be read again: anybody can send one.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// For how long a key stays beyond the last token that it can have signed, in milliseconds.
const MARGIN_MS: u64 = 60 * 60 * 1000;
/// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The master key is not the one that this store was sealed with.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// A signing key does not open.
    #[error(
        "the master key does not open what is sealed in this store; set the one that it was sealed with, the same for all processes"
    )]
    Another,
    /// The store failed.
    #[error("the sealed keys could not be read")]
    Store(#[from] StoreError),
}

/// Whether a master key opens the signing keys of a store. Asked before anything is served: two gateways with different
/// keys would each refuse what the other signs.
///
/// # Errors
/// It does not, or the store failed.
pub async fn check_master_key(verifiers: &dyn Verifiers, key: &MasterKey) -> Result<(), MasterKeyError> {
    let rows = verifiers.list(VerifierKind::SigningKey, &TenantId::default_tenant()).await?;
    if rows.iter().all(|row| SigningKey::of_row(row, key).is_some()) {
        return Ok(());
    }
    Err(MasterKeyError::Another)
}

/// The public keys as clients see them (RFC 7517, RFC 8037).
#[derive(Debug, Serialize)]
pub(crate) struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Debug, Serialize)]
struct Jwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
    x: String,
}

/// One key.
pub(super) struct SigningKey {
    pub(super) kid: String,
    public: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// Without what it signs with.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The keys as they were last read, oldest first.
#[derive(Default)]
struct Ring {
    keys: Vec<Arc<SigningKey>>,
    read_at: Option<Instant>,
}

/// Reads and makes keys.
pub(super) struct SigningKeys {
    verifiers: Arc<dyn Verifiers>,
    clock: Arc<dyn Clock>,
    master_key: MasterKey,
    rotate_ms: u64,
    lifetime_ms: u64,
    ring: RwLock<Ring>,
    /// Held while the rows are read or written, so that one request does it for all that wait.
    reading: Mutex<()>,
}

impl SigningKey {
    pub(super) fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// The key of a row; `None` if the row does not open.
    fn of_row(row: &Verifier, master_key: &MasterKey) -> Option<Self> {
        let seed = master_key.open(&row.hash, &place(&row.principal)).ok()?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(seed.as_slice().try_into().ok()?);
        let public = public_of(&seed);
        if kid_of(&public) != row.principal {
            return None;
        }
        let mut pkcs8 = Zeroizing::new(PKCS8_HEAD.to_vec());
        pkcs8.extend_from_slice(&*seed);
        Some(Self {
            kid: row.principal.clone(),
            decoding: DecodingKey::from_ed_components(&public).ok()?,
            public,
            encoding: EncodingKey::from_ed_der(&pkcs8),
            created_at: row.created_at,
            expires_at: row.expires_at?,
        })
    }
}

impl SigningKeys {
    pub(super) fn new(
        verifiers: Arc<dyn Verifiers>,
        clock: Arc<dyn Clock>,
        master_key: MasterKey,
        rotate_ms: u64,
        lifetime_ms: u64,
    ) -> Self {
        Self {
            verifiers,
            clock,
            master_key,
            rotate_ms,
            lifetime_ms,
            ring: RwLock::default(),
            reading: Mutex::default(),
        }
    }

    /// The key that signs now; a new one if there is none, or the newest is too old.
    pub(super) async fn current(&self) -> Result<Arc<SigningKey>, Failure> {
        if let Some(key) = self.newest().filter(|key| self.is_fresh(key)) {
            return Ok(key);
        }
        let _reading = self.reading.lock().await;
        // Two rounds: another gateway may be faster, and then its key is the newest.
        for _ in 0..2 {
            self.read().await?;
            match self.newest() {
                Some(key) if self.is_fresh(&key) => return Ok(key),
                newest => self.make(newest.as_deref().map_or(FIRST, |key| &key.kid)).await?,
            }
        }
        self.read().await?;
        self.newest().ok_or_else(|| Failure::new(status::INTERNAL, "there is no key to sign tokens with"))
    }

    /// A key by its id.
    pub(super) async fn find(&self, kid: &str) -> Result<Option<Arc<SigningKey>>, Failure> {
        let now = self.clock.now();
        let (found, read_at) = self.look(kid);
        let trusted = if found.is_some() { REMEMBERED } else { ASKED_AGAIN };
        if read_at.is_some_and(|read_at| read_at.elapsed() < trusted) {
            return Ok(found.filter(|key| now < key.expires_at));
        }
        let _reading = self.reading.lock().await;
        // Whoever held the lock may have read since.
        if self.look(kid).1 == read_at {
            self.read().await?;
        }
        Ok(self.look(kid).0.filter(|key| now < key.expires_at))
    }

    pub(super) async fn jwks(&self) -> Result<Jwks, Failure> {
        self.current().await?;
        // Another gateway may have made one since.
        self.find("").await?;
        let now = self.clock.now();
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let good = ring.keys.iter().filter(|key| now < key.expires_at);
        let keys = good.map(|key| Jwk {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            usage: "sig",
            kid: key.kid.clone(),
            x: key.public.clone(),
        });
        Ok(Jwks { keys: keys.collect() })
    }

    fn newest(&self) -> Option<Arc<SigningKey>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).keys.last().cloned()
    }

    fn look(&self, kid: &str) -> (Option<Arc<SigningKey>>, Option<Instant>) {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        (ring.keys.iter().find(|key| key.kid == kid).cloned(), ring.read_at)
    }

    /// Whether a key may sign: it is young, and will outlive what it signs.
    fn is_fresh(&self, key: &SigningKey) -> bool {
        let now = self.clock.now();
        now < key.created_at.plus_ms(self.rotate_ms) && now.plus_ms(self.lifetime_ms) < key.expires_at
    }

    async fn read(&self) -> Result<(), Failure> {
        let rows = self.verifiers.list(VerifierKind::SigningKey, &TenantId::default_tenant()).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            match SigningKey::of_row(row, &self.master_key) {
                Some(key) => keys.push(Arc::new(key)),
                None => tracing::error!(
                    key.id = row.principal,
                    "a signing key does not open; all gateways must have the master key that it was sealed with"
                ),
            }
        }
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) =
            Ring { keys, read_at: Some(Instant::now()) };
        Ok(())
    }

    /// Makes the key after another, unless somebody has.
    async fn make(&self, after: &str) -> Result<(), Failure> {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(crate::random::bytes());
        let kid = kid_of(&public_of(&seed));
        let sealed = self.master_key.seal(&*seed, &place(&kid)).map_err(|error| {
            tracing::error!(%error, "a signing key could not be sealed");
            Failure::new(status::INTERNAL, "a signing key could not be sealed")
        })?;
        let now = self.clock.now();
        let row = Verifier {
            kind: VerifierKind::SigningKey,
            lookup: after.to_owned(),
            tenant: TenantId::default_tenant(),
            principal: kid.clone(),
            name: "EdDSA".to_owned(),
            hash: sealed,
            family: None,
            created_at: now,
            expires_at: Some(now.plus_ms(self.rotate_ms + self.lifetime_ms + MARGIN_MS)),
            used_at: None,
        };
        if self.verifiers.put_new(&[row]).await? {
            tracing::info!(key.id = kid, "made a new key for signing access tokens");
        }
        Ok(())
    }
}

/// What a key's seed is sealed for.
fn place(kid: &str) -> String {
    format!("signing_key:{kid}")
}

fn public_of(seed: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(SecretKey::from_bytes(seed).verifying_key().as_bytes())
}

/// The thumbprint of a public key (RFC 7638, RFC 8037).
fn kid_of(public: &str) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}
