//! Large values in a folder and in a bucket: the contract is kept as with values in the database, and what is these
//! places' own: what happens when one of them fails, and that values move with the log.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;
use tempfile::TempDir;

use domain::blob::{Blob, BlobRef, INLINE_LIMIT, claim_check, hex};
use domain::ids::TenantId;
use event_store::blobs::{BlobOptions, BlobPlace, Objects, S3Options, WithObjects};
use event_store::transfer::TransferError;
use event_store::{Append, AppendError, Log, LogReader, StoreError};
use test_services::{S3Fault, S3Server};

use crate::contract::contract;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::support::{Owner, Store, append, everything, only, stream, tenant};
use crate::transfer::{a_moved_log_is_the_same_and_goes_on, exported, import};

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

#[tokio::test]
async fn a_value_is_one_file_that_any_tool_can_check_and_others_cannot_read() {
    use std::os::unix::fs::PermissionsExt;
    let store = FolderStore::<SqliteStore>::create().await;
    let mut owner = Owner::of(&store).await;
    let (blob, again) = (large("x"), stream(1));
    owner.append(vec![with_value(&blob), with_value(&blob)]).await.unwrap();
    owner.append(vec![Append { blobs: vec![blob.clone()], ..append(again, 0, 1) }]).await.unwrap();
    let values = store.folder.path().join("values");
    let sha256 = &blob.reference.sha256;
    assert_eq!(files(&values), [key(&TenantId::default_tenant(), sha256)]);
    assert_eq!(std::fs::read(store.file(&TenantId::default_tenant(), sha256)).unwrap(), blob.content);
    assert_eq!(std::fs::metadata(values).unwrap().permissions().mode() & 0o777, 0o700);
    let inner = &**owner.log.inner();
    let stored = inner.read_blob(&TenantId::default_tenant(), &blob.reference).await.unwrap();
    assert_eq!(stored, None, "the database has no second copy");
}

#[tokio::test]
async fn an_append_whose_value_cannot_be_stored_writes_nothing_and_may_be_repeated() {
    let store = BucketStore::<SqliteStore>::create().await;
    let mut owner = Owner::of(&store).await;
    let (blob, other) = (large("x"), append(stream(2), 0, 2));
    let with = with_value(&blob);
    let before = everything(&*owner.log).await;
    for _ in 0..4 {
        store.server.fail_next("PUT", S3Fault::Status(503));
    }
    let error = owner.append(vec![with.clone(), other.clone()]).await.unwrap_err();
    let AppendError::Store(error) = error else { panic!("{error}") };
    let words = said(&error);
    assert!(words.contains(&blob.reference.sha256) && words.contains("503"), "{words}");
    assert!(!words.contains(S3Server::SECRET_ACCESS_KEY), "{words}");
    assert_eq!(everything(&*owner.log).await, before);
    owner.append(vec![with.clone(), other]).await.unwrap();
    let found = owner.log.read_blob(&with.tenant, &blob.reference).await.unwrap();
    assert_eq!(found, Some(blob.content));
}

#[tokio::test]
async fn an_append_to_a_folder_that_takes_nothing_writes_nothing_and_may_be_repeated() {
    let store = FolderStore::<PostgresStore>::create().await;
    let mut owner = Owner::of(&store).await;
    let with = with_value(&large("x"));
    // Also root cannot make a folder where a file is.
    let blocked = store.folder.path().join("values").join(with.tenant.as_str());
    std::fs::write(&blocked, "in the way").unwrap();
    let error = owner.append(vec![with.clone()]).await.unwrap_err();
    assert!(matches!(error, AppendError::Store(StoreError::Objects { .. })), "{error}");
    assert_eq!(owner.log.read_partition(with.partition, 0, 10).await.unwrap(), []);
    std::fs::remove_file(&blocked).unwrap();
    owner.append(vec![with]).await.unwrap();
}

#[tokio::test]
async fn an_append_that_fails_after_its_value_was_stored_leaves_an_unreferenced_object_at_most() {
    let store = FolderStore::<SqliteStore>::create().await;
    let mut owner = Owner::of(&store).await;
    let blob = large("x");
    let taken = stream(1);
    owner.append(vec![append(taken, 0, 1)]).await.unwrap();
    let late = Append { blobs: vec![blob.clone()], ..append(taken, 0, 1) };
    let before = everything(&*owner.log).await;
    only(owner.refused(vec![late]).await);
    assert_eq!(everything(&*owner.log).await, before);
    let sha256 = blob.reference.sha256.clone();
    assert!(store.file(&TenantId::default_tenant(), &sha256).exists());
    // Nobody is in the way of whoever comes with the same value.
    owner.append(vec![with_value(&blob)]).await.unwrap();
    drop(owner);
    let found = store.open().await.read_blob(&TenantId::default_tenant(), &blob.reference).await.unwrap();
    assert_eq!(found, Some(blob.content));
}

#[tokio::test]
async fn an_append_that_is_cut_off_while_its_value_is_stored_writes_nothing() {
    let store = BucketStore::<SqliteStore>::create().await;
    let mut owner = Owner::of(&store).await;
    let with = with_value(&large("x"));
    store.server.fail_next("PUT", S3Fault::Silence);
    let (log, batch) = (owner.log.clone(), owner.batch(vec![with.clone()]));
    let under_way = tokio::spawn(async move { log.append(batch).await });
    while !store.server.requests().iter().any(|request| request.starts_with("PUT")) {
        tokio::task::yield_now().await;
    }
    under_way.abort();
    assert!(under_way.await.unwrap_err().is_cancelled());
    assert_eq!(everything(&*owner.log).await.1, []);
    assert_eq!(store.server.keys(), [] as [&str; 0]);
    owner.append(vec![with]).await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_stumbles_is_asked_again() {
    let store = BucketStore::<SqliteStore>::create().await;
    let owner = Owner::of(&store).await;
    let blob = large("x");
    store.server.fail_next("PUT", S3Fault::Status(500));
    // Stored, and told otherwise: storing it again is no other thing.
    store.server.fail_next("PUT", S3Fault::DoneAnd(500));
    owner.log.write_blob(&tenant("a"), &blob).await.unwrap();
    store.server.fail_next("GET", S3Fault::Status(500));
    let found = owner.log.read_blob(&tenant("a"), &blob.reference).await.unwrap();
    assert_eq!(found, Some(blob.content));
    assert_eq!(store.server.keys(), [bucket_key(&tenant("a"), &blob.reference.sha256)]);
}

#[tokio::test]
async fn a_bucket_that_says_nothing_is_given_up_in_time() {
    let store = BucketStore::<SqliteStore>::create().await;
    let timeout = Duration::from_millis(300);
    let objects = open(bucket(&store.server), timeout).unwrap();
    let log = WithObjects::new(Arc::new(store.inner.open().await), Arc::new(objects));
    for _ in 0..20 {
        store.server.fail_next("PUT", S3Fault::Silence);
    }
    let begun = std::time::Instant::now();
    let error = log.write_blob(&tenant("a"), &large("x")).await.unwrap_err();
    assert!(said(&error).contains("300 ms (blobs.timeout_ms)"), "{}", said(&error));
    assert!(begun.elapsed() < PATIENCE);
    store.server.heal();
    log.write_blob(&tenant("a"), &large("x")).await.unwrap();
}

#[tokio::test]
async fn a_bucket_with_another_key_refuses_in_words() {
    let server = S3Server::start().await.unwrap();
    let wrong = S3Options { secret_access_key: "hunter2".to_owned(), ..bucket(&server) };
    let error = open(wrong, PATIENCE).unwrap().probe().await.unwrap_err();
    assert!(said(&error).contains("SignatureDoesNotMatch"), "{}", said(&error));
    assert!(!said(&error).contains("hunter2"));
    let missing = S3Options { bucket: "nowhere".to_owned(), ..bucket(&server) };
    let error = open(missing, PATIENCE).unwrap().probe().await.unwrap_err();
    assert!(said(&error).contains("NoSuchBucket"), "{}", said(&error));
    let plain = S3Options { allow_http: false, ..bucket(&server) };
    assert!(matches!(open(plain, PATIENCE), Err(StoreError::Unfit { .. })));
    let text = format!("{:?}", bucket(&server));
    assert!(!text.contains(S3Server::SECRET_ACCESS_KEY) && !text.contains(S3Server::ACCESS_KEY_ID), "{text}");
}

#[tokio::test]
async fn a_trial_leaves_nothing_behind() {
    let server = S3Server::start().await.unwrap();
    let objects = open(bucket(&server), PATIENCE).unwrap();
    objects.probe().await.unwrap();
    assert_eq!(server.keys(), [] as [&str; 0]);
    assert_eq!(server.requests().len(), 3, "{:?}", server.requests());
    let store = FolderStore::<SqliteStore>::create().await;
    store.objects().probe().await.unwrap();
    assert_eq!(files(store.folder.path()), [] as [&str; 0]);
}

#[tokio::test]
async fn values_stored_before_there_was_a_folder_stay_readable_and_are_not_copied() {
    let store = FolderStore::<PostgresStore>::create().await;
    let (old, new) = (large("old"), large("new"));
    let bare = store.inner.open().await;
    bare.write_blob(&tenant("a"), &old).await.unwrap();
    let log = store.open().await;
    log.write_blob(&tenant("a"), &new).await.unwrap();
    for blob in [&old, &new] {
        let found = log.read_blob(&tenant("a"), &blob.reference).await.unwrap();
        assert_eq!(found.as_ref(), Some(&blob.content));
    }
    assert!(!store.file(&tenant("a"), &old.reference.sha256).exists());
    assert_eq!(bare.read_blob(&tenant("a"), &new.reference).await.unwrap(), None);
}

#[tokio::test]
async fn values_of_the_database_are_read_while_the_bucket_is_away_and_others_are_not_said_to_be_missing() {
    let store = BucketStore::<SqliteStore>::create().await;
    let log = store.open().await;
    let (old, new) = (large("old"), large("new"));
    log.inner().write_blob(&tenant("a"), &old).await.unwrap();
    log.write_blob(&tenant("a"), &new).await.unwrap();
    let away = || (0..4).for_each(|_| store.server.fail_next("GET", S3Fault::Status(503)));
    away();
    assert_eq!(log.read_blob(&tenant("a"), &old.reference).await.unwrap(), Some(old.content));
    store.server.heal();
    away();
    let error = log.read_blob(&tenant("a"), &new.reference).await.unwrap_err();
    assert!(matches!(error, StoreError::Objects { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_object_is_mended_by_storing_the_value_again() {
    let store = BucketStore::<SqliteStore>::create().await;
    let log = store.open().await;
    let blob = large("x");
    log.write_blob(&tenant("a"), &blob).await.unwrap();
    store.damage_value(&tenant("a"), &blob.reference.sha256).await;
    let error = log.read_blob(&tenant("a"), &blob.reference).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("tenant a is damaged: s3://values/a/log of ours at http://127.0.0.1"), "{words}");
    log.write_blob(&tenant("a"), &blob).await.unwrap();
    assert_eq!(log.read_blob(&tenant("a"), &blob.reference).await.unwrap(), Some(blob.content));
}

#[tokio::test]
async fn a_log_moves_with_its_values_from_any_place_to_any() {
    let folder = || FolderStore::<SqliteStore>::create();
    let bucket = || BucketStore::<SqliteStore>::create();
    a_moved_log_is_the_same_and_goes_on(&SqliteStore::create().await, &folder().await).await;
    a_moved_log_is_the_same_and_goes_on(&folder().await, &bucket().await).await;
    a_moved_log_is_the_same_and_goes_on(&bucket().await, &SqliteStore::create().await).await;
}

#[tokio::test]
async fn a_log_moves_with_its_values_between_databases() {
    let (from, to) =
        (BucketStore::<PostgresStore>::create().await, FolderStore::<PostgresStore>::create().await);
    a_moved_log_is_the_same_and_goes_on(&from, &to).await;
}

/// A log with values in the database, in the folder, and one in both.
async fn scattered() -> (FolderStore<SqliteStore>, Vec<(TenantId, Blob)>) {
    let store = FolderStore::<SqliteStore>::create().await;
    let log = store.open().await;
    let text = Bytes::from_static(b"not JSON, and small");
    let reference = BlobRef {
        sha256: hex(&Sha256::digest(&text)),
        bytes: text.len() as u64,
        media_type: "text/plain; charset=utf-8".to_owned(),
    };
    let text = Blob { reference, content: text };
    let mut values = Vec::new();
    for (index, name) in ["a", "b", "default"].into_iter().enumerate() {
        for number in 0..9 {
            let blob = large(&format!("{number}{}", index % 2));
            match number % 3 {
                0 => log.inner().write_blob(&tenant(name), &blob).await.unwrap(),
                1 => log.write_blob(&tenant(name), &blob).await.unwrap(),
                _ => {
                    log.inner().write_blob(&tenant(name), &blob).await.unwrap();
                    log.write_blob(&tenant(name), &blob).await.unwrap();
                }
            }
            values.push((tenant(name), blob));
        }
        log.write_blob(&tenant(name), &text).await.unwrap();
        values.push((tenant(name), text.clone()));
    }
    (store, values)
}

#[tokio::test]
async fn an_export_has_every_value_once_wherever_it_lies_and_nobody_elses_files() {
    let (store, values) = scattered().await;
    let root = store.folder.path().join("values");
    for stranger in ["README", "a/README", "a/00/README", "Not A Tenant/00", "a/zz"] {
        let path = root.join(stranger);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "somebody else's").unwrap();
    }
    let export = exported(&store.open().await).await;
    let to = BucketStore::<SqliteStore>::create().await;
    let log = to.open().await;
    let counts = import(&log, &export).await.unwrap();
    assert_eq!(counts.blobs, values.len() as u64);
    for (tenant, blob) in &values {
        let found = log.read_blob(tenant, &blob.reference).await.unwrap();
        assert_eq!(found.as_ref(), Some(&blob.content));
        assert_eq!(log.inner().read_blob(tenant, &blob.reference).await.unwrap(), None);
    }
    // Media types come along too: what is exported again is the same.
    let back = SqliteStore::create().await;
    import(&back.open().await, &exported(&log).await).await.unwrap();
    let types: Vec<(String, i64)> =
        sqlx::query_as("select media_type, count(*) from blobs group by 1 order by 1")
            .fetch_all(&mut back.raw().await)
            .await
            .unwrap();
    assert_eq!(types, [("application/json".to_owned(), 27), ("text/plain; charset=utf-8".to_owned(), 3)]);
}

#[tokio::test]
async fn a_damaged_object_is_not_exported() {
    let (store, values) = scattered().await;
    let (tenant, blob) = &values[4];
    store.damage_value(tenant, &blob.reference.sha256).await;
    let log = store.open().await;
    let error = event_store::transfer::export(
        &log,
        Vec::new(),
        crate::support::at(9),
        event_store::transfer::VerifiersToo::Yes,
        &|_| (),
    );
    let error = error.await.unwrap_err();
    assert!(matches!(error, TransferError::Store(StoreError::DamagedBlob { .. })), "{error}");
    assert!(error.to_string().contains(&blob.reference.sha256), "{error}");
}

#[tokio::test]
async fn an_import_whose_values_cannot_be_stored_leaves_the_log_empty_and_may_be_repeated() {
    let (from, values) = scattered().await;
    let export = exported(&from.open().await).await;
    let to = BucketStore::<SqliteStore>::create().await;
    let log = to.open().await;
    (0..40).for_each(|_| to.server.fail_next("PUT", S3Fault::Status(400)));
    let error = import(&log, &export).await.unwrap_err();
    assert!(matches!(error, TransferError::Store(StoreError::Objects { .. })), "{error}");
    to.server.heal();
    assert_eq!(import(&log, &export).await.unwrap().blobs, values.len() as u64);
}
