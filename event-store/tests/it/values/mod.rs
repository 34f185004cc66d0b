//! Large values in a folder and in a bucket: the contract is kept as with values in the database, and what is these
//! places' own ([`failures`], [`moves`]).

mod failures;
mod moves;

use async_trait::async_trait;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;
use tempfile::TempDir;

use domain::blob::{Blob, INLINE_LIMIT, claim_check};
use domain::ids::TenantId;
use event_store::blobs::{BlobOptions, BlobPlace, Objects, S3Options, WithObjects};
use event_store::{Append, StoreError};
use test_services::S3Server;

use crate::contract::contract;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::support::{Store, append, stream};

/// Longer than any answer on this machine takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store whose large values are files.
struct FolderStore<S> {
    inner: S,
    folder: TempDir,
}

impl<S> FolderStore<S> {
    fn objects(&self) -> Objects {
        let place = BlobPlace::Folder(self.folder.path().join("values"));
        Objects::open(&BlobOptions { place, timeout: PATIENCE }).unwrap()
    }

    fn file(&self, tenant: &TenantId, sha256: &str) -> PathBuf {
        self.folder.path().join("values").join(key(tenant, sha256))
    }
}

#[async_trait]
impl<S: Store> Store for FolderStore<S> {
    type Log = WithObjects<S::Log>;

    async fn create() -> Self {
        Self { inner: S::create().await, folder: TempDir::new().unwrap() }
    }

    async fn open(&self) -> Self::Log {
        WithObjects::new(Arc::new(self.inner.open().await), Arc::new(self.objects()))
    }

    async fn damage_value(&self, tenant: &TenantId, sha256: &str) {
        let file = self.file(tenant, sha256);
        assert!(file.exists());
        std::fs::write(file, "{}").unwrap();
    }
}

/// A store whose large values are in a bucket.
struct BucketStore<S> {
    inner: S,
    server: S3Server,
}

/// How the bucket of a server is reached.
fn bucket(server: &S3Server) -> S3Options {
    S3Options {
        bucket: S3Server::BUCKET.to_owned(),
        prefix: "a/log of ours".to_owned(),
        endpoint: Some(server.url().to_owned()),
        region: S3Server::REGION.to_owned(),
        access_key_id: S3Server::ACCESS_KEY_ID.to_owned(),
        secret_access_key: S3Server::SECRET_ACCESS_KEY.to_owned(),
        session_token: None,
        path_style: true,
        allow_http: true,
    }
}

fn open(options: S3Options, timeout: Duration) -> Result<Objects, StoreError> {
    static TLS: Once = Once::new();
    TLS.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Objects::open(&BlobOptions { place: BlobPlace::S3(options), timeout })
}

#[async_trait]
impl<S: Store> Store for BucketStore<S> {
    type Log = WithObjects<S::Log>;

    async fn create() -> Self {
        Self { inner: S::create().await, server: S3Server::start().await.unwrap() }
    }

    async fn open(&self) -> Self::Log {
        let objects = open(bucket(&self.server), PATIENCE).unwrap();
        WithObjects::new(Arc::new(self.inner.open().await), Arc::new(objects))
    }

    async fn damage_value(&self, tenant: &TenantId, sha256: &str) {
        let key = bucket_key(tenant, sha256);
        assert!(self.server.keys().contains(&key), "{key} in {:?}", self.server.keys());
        self.server.replace(&key, "{}");
    }
}

fn key(tenant: &TenantId, sha256: &str) -> String {
    format!("{tenant}/{}/{sha256}", &sha256[..2])
}

fn bucket_key(tenant: &TenantId, sha256: &str) -> String {
    format!("a/log of ours/{}", key(tenant, sha256))
}

mod sqlite_and_folder {
    use super::*;
    contract!(FolderStore<SqliteStore>);
}

mod postgres_and_folder {
    use super::*;
    contract!(FolderStore<PostgresStore>);
}

mod sqlite_and_bucket {
    use super::*;
    contract!(BucketStore<SqliteStore>);
}

mod postgres_and_bucket {
    use super::*;
    contract!(BucketStore<PostgresStore>);
}

fn large(text: &str) -> Blob {
    claim_check(json!(text.repeat(INLINE_LIMIT))).1.unwrap()
}

fn with_value(blob: &Blob) -> Append {
    Append { blobs: vec![blob.clone()], ..append(stream(1), 0, 1) }
}

/// What is said of a failed store, with its causes.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Files of a folder, staging ones too.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}
