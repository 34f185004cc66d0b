//! Values move with the log, from any place to any.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use domain::blob::{Blob, BlobRef, hex};
use domain::ids::TenantId;
use event_store::transfer::{TransferError, VerifiersToo, export};
use event_store::{Log, LogReader, StoreError};
use test_services::S3Fault;

use super::{BucketStore, FolderStore, large};
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::support::{Store, at, tenant};
use crate::transfer::{a_moved_log_is_the_same_and_goes_on, exported, import};

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
    let error = export(&log, Vec::new(), at(9), VerifiersToo::Yes, &|_| ()).await.unwrap_err();
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
