//! Large values as objects: `<tenant>/<first two digits of the hash>/<hash>`, a file of a folder or a key of a bucket.
//!
//! An object is the content alone, so that any tool can check it: its name is its SHA-256. Beside a content that is not
//! JSON lies `<hash>.type`, its media type, which only an export needs. Invariants: every request is bounded in time and
//! in number; writing the same again changes nothing, and mends what was damaged; what is read is verified; what has
//! another name than these is nobody's, and left alone.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, GetResult, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;

use domain::blob::{Blob, BlobRef, JSON_MEDIA_TYPE};
use domain::ids::TenantId;

use super::{MAX_BLOB_BYTES, verified};
use crate::log::StoreError;

/// How many requests are under way at once; further ones wait, within their time.
const REQUESTS: usize = 32;
/// How many of several values are stored or read at once; they are held in memory.
const VALUES: usize = 4;
/// The most bytes of a media type.
const MAX_TYPE_BYTES: u64 = 1024;
/// What the name of a media type's object ends with.
const TYPE: &str = ".type";

/// Objects of a folder or a bucket.
pub struct Objects {
    name: String,
    store: Arc<dyn ObjectStore>,
    timeout: Duration,
    requests: Semaphore,
}

/// Without the store, which may hold keys.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    tenant: TenantId,
    sha256: String,
    /// Whether its media type lies beside it.
    typed: bool,
}

impl Objects {
    pub(super) fn new(name: String, store: Arc<dyn ObjectStore>, timeout: Duration) -> Self {
        Self { name, store, timeout, requests: Semaphore::new(REQUESTS) }
    }

    /// The same objects with requests of their own: however many others make, these do not wait for them.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self::new(self.name.clone(), Arc::clone(&self.store), self.timeout)
    }

    /// Where they are, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a content, durably once this returns.
    ///
    /// # Errors
    /// It could not be stored in time; it may be there all the same, which harms nobody.
    pub async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        let BlobRef { sha256, media_type, .. } = &blob.reference;
        let path = place_of(tenant, sha256).filter(|_| blob.content.len() as u64 <= MAX_BLOB_BYTES);
        let Some(path) = path else {
            let reason = format!("its name is no hash, or it is longer than {MAX_BLOB_BYTES} bytes");
            return Err(self.failed("store the large value", sha256, reason));
        };
        self.request("store the large value", &path, async {
            if media_type != JSON_MEDIA_TYPE {
                self.store.put(&type_of(&path), media_type.clone().into()).await?;
            }
            self.store.put(&path, PutPayload::from_bytes(blob.content.clone())).await.map(drop)
        })
        .await
    }

    /// Stores several contents. After an error some of them may be there.
    pub(crate) async fn put_all(self: &Arc<Self>, values: Vec<(TenantId, Blob)>) -> Result<(), StoreError> {
        let put = |(tenant, blob)| {
            let objects = Arc::clone(self);
            async move { objects.put(&tenant, &blob).await }
        };
        stream::iter(values.into_iter().map(put)).buffer_unordered(VALUES).try_collect().await
    }

    /// The content with a hash; `None` if it is not there.
    ///
    /// # Errors
    /// It could not be read in time, or what is there under its name is something else.
    pub async fn get(&self, tenant: &TenantId, sha256: &str) -> Result<Option<Bytes>, StoreError> {
        // A value that only looks like a claim check may hold any text: it must not become a path.
        let Some(path) = place_of(tenant, sha256) else { return Ok(None) };
        let read = self.request("read the large value", &path, async {
            match self.store.get(&path).await {
                Ok(found) if found.meta.size > MAX_BLOB_BYTES => Ok(Some(Err(found.meta.size))),
                Ok(found) => whole(found).await.map(|content| Some(Ok(content))),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        match read.await? {
            None => Ok(None),
            Some(Ok(content)) => verified(tenant, sha256, content, &self.name).await.map(Some),
            Some(Err(bytes)) => Err(StoreError::DamagedBlob {
                tenant: tenant.clone(),
                sha256: sha256.to_owned(),
                place: self.name.clone(),
                found: format!("{bytes} bytes"),
            }),
        }
    }

    /// Writes a small object, reads it and removes it.
    ///
    /// # Errors
    /// One of these did not work, or something else was read.
    pub async fn probe(&self) -> Result<(), StoreError> {
        // No tenant's name has an underscore.
        let path = Path::from(format!("_everline-doctor-{}", Uuid::new_v4()));
        let content = Bytes::from(path.to_string());
        self.request("write the trial object", &path, async {
            self.store.put(&path, PutPayload::from_bytes(content.clone())).await.map(drop)
        })
        .await?;
        let read =
            self.request("read the trial object", &path, async { whole(self.store.get(&path).await?).await });
        let read = read.await;
        self.request("remove the trial object", &path, self.store.delete(&path)).await?;
        if read? != content {
            return Err(self.failed("read the trial object", path.as_ref(), "it is not what was written"));
        }
        Ok(())
    }

    /// Whether a content is there, without reading it.
    pub(crate) async fn has(&self, tenant: &TenantId, sha256: &str) -> Result<bool, StoreError> {
        let Some(path) = place_of(tenant, sha256) else { return Ok(false) };
        let look = async {
            match self.store.head(&path).await {
                Ok(_) => Ok(true),
                Err(Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.request("look for the large value", &path, look).await
    }

    /// The folders that hold the objects of tenants, in order.
    pub(crate) async fn folders(&self) -> Result<Vec<Path>, StoreError> {
        let mut folders = Vec::new();
        for tenant in self.folders_in(None).await? {
            if tenant_of(&tenant).is_some() {
                folders.extend(self.folders_in(Some(&tenant)).await?);
            }
        }
        Ok(folders)
    }

    /// The objects of one of these folders, in order.
    pub(crate) async fn names(&self, folder: &Path) -> Result<Vec<Name>, StoreError> {
        let listed: BTreeSet<Path> = self
            .request("list", folder, self.store.list(Some(folder)).map_ok(|meta| meta.location).try_collect())
            .await?;
        let name = |path: &Path| {
            let (tenant, sha256) = (tenant_of(path)?, path.filename()?.to_owned());
            let typed = listed.contains(&type_of(path));
            (place_of(&tenant, &sha256)? == *path).then_some(Name { tenant, sha256, typed })
        };
        Ok(listed.iter().filter_map(name).collect())
    }

    /// Objects with their tenants and media types, in the order of the names.
    pub(crate) fn read_all(
        self: &Arc<Self>,
        names: Vec<Name>,
    ) -> BoxStream<'static, Result<(TenantId, Blob), StoreError>> {
        let objects = Arc::clone(self);
        let read = move |name| {
            let objects = Arc::clone(&objects);
            async move { objects.read(&name).await }
        };
        stream::iter(names.into_iter().map(read)).buffered(VALUES).boxed()
    }

    async fn read(&self, name: &Name) -> Result<(TenantId, Blob), StoreError> {
        let Name { tenant, sha256, typed } = name;
        let missing = || self.failed("read the large value", sha256, "it is not there any more");
        let content = self.get(tenant, sha256).await?.ok_or_else(missing)?;
        let media_type = if *typed { self.media_type(tenant, sha256).await? } else { None };
        let media_type = media_type.unwrap_or_else(|| JSON_MEDIA_TYPE.to_owned());
        let reference = BlobRef { sha256: sha256.clone(), bytes: content.len() as u64, media_type };
        Ok((tenant.clone(), Blob { reference, content }))
    }

    async fn media_type(&self, tenant: &TenantId, sha256: &str) -> Result<Option<String>, StoreError> {
        let Some(path) = place_of(tenant, sha256).map(|path| type_of(&path)) else { return Ok(None) };
        let read = self.request("read the media type", &path, async {
            let found = self.store.get(&path).await?;
            if found.meta.size > MAX_TYPE_BYTES { Ok(Bytes::new()) } else { whole(found).await }
        });
        let text = String::from_utf8(read.await?.to_vec()).ok().filter(|text| !text.is_empty());
        text.map(Some).ok_or_else(|| self.failed("read the media type", path.as_ref(), "it is none"))
    }

    async fn folders_in(&self, folder: Option<&Path>) -> Result<Vec<Path>, StoreError> {
        let shown = folder.cloned().unwrap_or_else(|| Path::from("tenants"));
        let listed = self.request("list", &shown, self.store.list_with_delimiter(folder)).await?;
        let mut folders = listed.common_prefixes;
        folders.sort();
        Ok(folders)
    }

    /// One request, its repetitions included, within its time.
    async fn request<T>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        let in_turn = async {
            let _turn = self.requests.acquire().await;
            work.await
        };
        match tokio::time::timeout(self.timeout, in_turn).await {
            Ok(done) => done.map_err(|error| self.failed(operation, path.as_ref(), told(&error))),
            Err(_) => {
                let reason = format!("no answer within {} ms (blobs.timeout_ms)", self.timeout.as_millis());
                Err(self.failed(operation, path.as_ref(), reason))
            }
        }
    }

    fn failed(
        &self,
        operation: &'static str,
        object: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Objects {
            place: self.name.clone(),
            operation,
            object: object.to_owned(),
            source: source.into(),
        }
    }
}

/// What an error says, once: each of its many causes says what is below it again, but not the last one.
fn told(error: &Error) -> String {
    let text = error.to_string();
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    match causes.last().map(ToString::to_string) {
        Some(root) if !text.contains(&root) => format!("{text}: {root}"),
        _ => text,
    }
}

/// The bytes of an answer.
async fn whole(found: GetResult) -> Result<Bytes, Error> {
    found.bytes().await
}

/// Where a content of a tenant is; `None` if the hash is none.
fn place_of(tenant: &TenantId, sha256: &str) -> Option<Path> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_hash = sha256.len() == 64 && sha256.bytes().all(is_digit);
    is_hash.then(|| Path::from_iter([tenant.as_str(), &sha256[..2], sha256]))
}

/// Where the media type of a content is.
fn type_of(path: &Path) -> Path {
    Path::from(format!("{path}{TYPE}"))
}

/// Whose a path is.
fn tenant_of(path: &Path) -> Option<TenantId> {
    TenantId::try_from(path.parts().next()?.as_ref().to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hash_becomes_a_path() {
        let tenant = TenantId::try_from("acme".to_owned()).unwrap();
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(place_of(&tenant, &hash).unwrap().as_ref(), format!("acme/01/{hash}"));
        for other in [
            "",
            "../../../../etc/passwd",
            &hash[1..],
            &hash.to_uppercase(),
            &format!("{}/..", &hash[..61]),
            &format!("{}é", &hash[..62]),
        ] {
            assert_eq!(place_of(&tenant, other), None, "{other}");
        }
    }
}
