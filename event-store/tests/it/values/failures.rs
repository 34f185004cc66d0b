//! One value as it lies there, and what happens when its place fails, hangs, or has something else.

use std::sync::Arc;
use std::time::Duration;

use domain::ids::TenantId;
use event_store::blobs::{S3Options, WithObjects};
use event_store::{Append, AppendError, Log, LogReader, StoreError};
use test_services::{S3Fault, S3Server};

use super::{
    BucketStore, FolderStore, PATIENCE, bucket, bucket_key, files, key, large, open, said, with_value,
};
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::support::{Owner, Store, append, everything, only, stream, tenant};

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
    let text = format!("{:?} {:?}", bucket(&server), open(bucket(&server), PATIENCE).unwrap());
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
