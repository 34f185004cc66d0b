//! Large values: stored once per tenant, found by their hash.
//!
//! ```text
//!   Blobs, Log::append, LogReader::read_blob ─► WithObjects ─► Objects: a folder, S3      where there is a place for them
//!                                                    └───────► the log's database         what is not there, and the rest
//! ```
//!
//! Owns: the port [`Blobs`]; where else than in the log's database large values may lie ([`open`]), how they lie there
//! ([`objects`]), and the log whose values do ([`beside`]). Invariants: a value is stored before the append commits that
//! refers to it, so what a reader of the log is referred to is there; what is handed out has the hash that was asked
//! for, wherever it comes from; no tenant reaches another's. What lies in the database stays readable when a place
//! is set later. Deliberately absent: deletion, so that an append that fails leaves an unreferenced object at most;
//! moving values from one place to another, which [`crate::transfer`] does with the whole log.

pub mod beside;
pub mod objects;
pub mod open;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use domain::blob::{Blob, BlobRef, hex};
use domain::ids::TenantId;

use crate::log::{Log, StoreError};

pub use beside::WithObjects;
pub use objects::Objects;
pub use open::{BlobOptions, BlobPlace, S3Options};

/// The longest large value, in bytes. No caller makes such; what is longer is not of Everline.
pub const MAX_BLOB_BYTES: u64 = 1024 * 1024 * 1024;

/// From how many bytes on hashing is not done between other tasks.
const HEAVY_BYTES: usize = 1024 * 1024;

/// Where the contents of claim checks live. The log's database by default.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores a content. The same content twice is stored once.
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError>;

    /// The content of a claim check of this tenant.
    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError>;
}

#[async_trait]
impl<T: Log + ?Sized> Blobs for T {
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.write_blob(tenant, blob).await
    }

    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.read_blob(tenant, reference).await
    }
}

/// The content, if it is the one that the hash was made of.
pub(crate) async fn verified(
    tenant: &TenantId,
    sha256: &str,
    content: Bytes,
    place: &str,
) -> Result<Bytes, StoreError> {
    let hashed = content.clone();
    let digest = move || hex(&Sha256::digest(&hashed));
    let found = if content.len() < HEAVY_BYTES {
        digest()
    } else {
        // It cannot panic: hashing takes any bytes. A runtime that ends gives no answer, which is no match.
        tokio::task::spawn_blocking(digest).await.unwrap_or_default()
    };
    if found == sha256 {
        return Ok(content);
    }
    Err(StoreError::DamagedBlob {
        tenant: tenant.clone(),
        sha256: sha256.to_owned(),
        place: place.to_owned(),
        found: format!("a content of {} bytes with another hash", content.len()),
    })
}
