//! Promises about what is kept beside the events: wakeups, commands, blobs, verifiers.

use serde_json::json;
use uuid::Uuid;

use domain::blob::{BlobRef, INLINE_LIMIT, claim_check};
use domain::ids::{Partition, TenantId};
use domain::time::Timestamp;
use event_store::log::{COMMAND_RETENTION_MS, WakeupCursor};
use event_store::verifiers::{Rotation, Verifier, VerifierKind, Verifiers};
use event_store::{Checkpoints, Log, LogReader, StoreError};

use crate::support::{Owner, Store, append, at, ending, stream, tenant, wakeup};

const FINAL: &[&str] = &["execution.completed", "execution.failed"];

async fn due(log: &impl Log, after: i64, until: i64, limit: usize) -> Vec<(i64, Uuid)> {
    let found = log
        .wakeups(Partition(1), &WakeupCursor::after_time(at(after)), at(until), FINAL, limit)
        .await
        .unwrap();
    found.into_iter().map(|w| ((w.wakeup.due_at.unix_ms() - at(0).unix_ms()) / 1000, w.stream)).collect()
}

pub(crate) async fn wakeups_of_ended_streams_are_left_out(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (ended, going, ending_later) = (stream(1), stream(1), stream(1));
    let appends = vec![
        ending(wakeup(append(ended, 0, 3), 10), "execution.completed"),
        wakeup(append(going, 0, 3), 20),
        wakeup(ending(append(ending_later, 0, 1), "execution.failed"), 30),
        append(ending_later, 1, 1),
    ];
    owner.append(appends).await.unwrap();
    assert_eq!(due(&*owner.log, 0, 100, 10).await, [(20, going), (30, ending_later)]);
    owner.append(vec![ending(append(ending_later, 2, 1), "execution.failed")]).await.unwrap();
    assert_eq!(due(&*owner.log, 0, 100, 10).await, [(20, going)]);
    let all =
        owner.log.wakeups(Partition(1), &WakeupCursor::after_time(at(0)), at(100), &[], 10).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].tenant, TenantId::default_tenant());
}

pub(crate) async fn wakeups_are_read_between_two_times_in_order(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let streams: Vec<Uuid> = (0..5).map(|_| stream(1)).collect();
    let appends =
        streams.iter().zip([50, 10, 40, 20, 30]).map(|(s, second)| wakeup(append(*s, 0, 1), second));
    let mut appends: Vec<_> = appends.collect();
    appends.push(wakeup(append(stream(2), 0, 1), 25));
    owner.append(appends).await.unwrap();
    assert_eq!(due(&*owner.log, 10, 40, 10).await, [(20, streams[3]), (30, streams[4]), (40, streams[2])]);
    assert_eq!(due(&*owner.log, 0, 100, 2).await, [(10, streams[1]), (20, streams[3])]);
}

pub(crate) async fn the_same_wakeup_twice_is_one(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(1);
    owner.append(vec![wakeup(wakeup(append(stream, 0, 1), 10), 10)]).await.unwrap();
    owner.append(vec![wakeup(append(stream, 1, 1), 10)]).await.unwrap();
    assert_eq!(due(&*owner.log, 0, 100, 10).await, [(10, stream)]);
}

pub(crate) async fn wakeups_of_the_same_time_are_paged_to_the_last(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let appends = (0..5).map(|_| wakeup(append(stream(1), 0, 1), 10)).collect();
    owner.append(appends).await.unwrap();
    let mut cursor = WakeupCursor::after_time(at(0));
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let page = owner.log.wakeups(Partition(1), &cursor, at(100), FINAL, 2).await.unwrap();
        seen.extend(page.iter().map(|row| row.stream));
        match page.last() {
            Some(last) => cursor = WakeupCursor::after_row(last),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
}

pub(crate) async fn a_checkpoint_moves_only_from_where_it_is(store: impl Store) {
    let owner = Owner::of(&store).await;
    let (one, other) = (Partition(1), Partition(2));
    assert_eq!(owner.log.checkpoint("relay", one).await.unwrap(), 0);
    assert!(owner.log.move_checkpoint("relay", one, 0, 5).await.unwrap());
    assert!(!owner.log.move_checkpoint("relay", one, 0, 7).await.unwrap(), "another instance was faster");
    assert!(!owner.log.move_checkpoint("relay", other, 3, 7).await.unwrap(), "it never was at 3");
    assert!(owner.log.move_checkpoint("relay", one, 5, 9).await.unwrap());
    assert_eq!(owner.log.checkpoint("relay", one).await.unwrap(), 9);
    assert_eq!(owner.log.checkpoint("other", one).await.unwrap(), 0);
}

pub(crate) async fn past_wakeups_and_old_commands_are_forgotten_in_steps(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let old: Vec<_> = (1..=5).map(|second| wakeup(append(stream(1), 0, 1), second)).collect();
    owner.append(old.clone()).await.unwrap();
    let much_later = at(0).plus_ms(2 * COMMAND_RETENTION_MS);
    let mut young = append(stream(1), 0, 1);
    young.decided_at = much_later;
    owner.append(vec![young.clone()]).await.unwrap();
    let forget = |until: i64, now: Timestamp| owner.log.forget_past(Partition(1), at(until), now, 2);
    assert!(forget(3, at(0)).await.unwrap(), "a full step may have left rows");
    assert!(!forget(3, at(0)).await.unwrap());
    assert_eq!(due(&*owner.log, 0, 100, 10).await.iter().map(|w| w.0).collect::<Vec<_>>(), [4, 5]);
    let known = async |append: &event_store::Append| {
        owner.log.command_answer(Partition(1), append.command_id).await.unwrap().is_some()
    };
    assert!(known(&old[0]).await, "a command is known for a day at least");
    while forget(3, much_later).await.unwrap() {}
    for append in &old {
        assert!(!known(append).await);
    }
    assert!(known(&young).await);
}

pub(crate) async fn a_blob_is_read_by_its_tenant_only(store: impl Store) {
    let owner = Owner::of(&store).await;
    let (_, blob) = claim_check(json!("x".repeat(INLINE_LIMIT)));
    let blob = blob.unwrap();
    for _ in 0..2 {
        owner.log.write_blob(&tenant("a"), &blob).await.unwrap();
    }
    assert_eq!(owner.log.read_blob(&tenant("a"), &blob.reference).await.unwrap(), Some(blob.content.clone()));
    assert_eq!(owner.log.read_blob(&tenant("b"), &blob.reference).await.unwrap(), None);
}

pub(crate) async fn a_blob_of_an_append_comes_with_it(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (_, blob) = claim_check(json!("x".repeat(INLINE_LIMIT)));
    let blob = blob.unwrap();
    let mut with = append(stream(1), 0, 1);
    with.blobs = vec![blob.clone(), blob.clone()];
    owner.append(vec![with.clone()]).await.unwrap();
    assert_eq!(owner.log.read_blob(&with.tenant, &blob.reference).await.unwrap(), Some(blob.content));
}

pub(crate) async fn a_blob_of_some_megabytes_comes_back_after_reopening(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (_, blob) = claim_check(json!("größ☂".repeat(700_000)));
    let blob = blob.unwrap();
    let mut with = append(stream(1), 0, 1);
    with.blobs = vec![blob.clone()];
    owner.append(vec![with.clone()]).await.unwrap();
    drop(owner);
    let log = store.open().await;
    assert!(log.read_blob(&with.tenant, &blob.reference).await.unwrap() == Some(blob.content));
}

pub(crate) async fn a_damaged_blob_is_an_error_and_never_data(store: impl Store) {
    let owner = Owner::of(&store).await;
    let [damaged, whole] = ["x", "y"].map(|text| claim_check(json!(text.repeat(INLINE_LIMIT))).1.unwrap());
    for blob in [&damaged, &whole] {
        owner.log.write_blob(&tenant("a"), blob).await.unwrap();
    }
    store.damage_value(&tenant("a"), &damaged.reference.sha256).await;
    let error = owner.log.read_blob(&tenant("a"), &damaged.reference).await.unwrap_err();
    assert!(matches!(error, StoreError::DamagedBlob { .. }), "{error}");
    assert!(error.to_string().contains(&damaged.reference.sha256), "{error}");
    assert_eq!(owner.log.read_blob(&tenant("a"), &whole.reference).await.unwrap(), Some(whole.content));
}

pub(crate) async fn what_only_looks_like_a_reference_is_not_there(store: impl Store) {
    let owner = Owner::of(&store).await;
    for sha256 in ["", "00", "../../etc/passwd", "a/b", &"é".repeat(32), &"0".repeat(64)] {
        let reference =
            BlobRef { sha256: sha256.to_owned(), bytes: 1, media_type: "application/json".to_owned() };
        assert_eq!(owner.log.read_blob(&tenant("a"), &reference).await.unwrap(), None, "{sha256}");
    }
}

fn token(lookup: &str, expires: Option<i64>) -> Verifier {
    Verifier {
        kind: VerifierKind::RefreshToken,
        lookup: lookup.to_owned(),
        tenant: tenant("a"),
        principal: "u1".to_owned(),
        name: "laptop".to_owned(),
        hash: String::new(),
        family: Some(Uuid::from_u128(5)),
        created_at: at(0),
        expires_at: expires.map(at),
        used_at: None,
    }
}

pub(crate) async fn a_refresh_token_is_rotated_once_and_its_reuse_ends_the_family(store: impl Store) {
    let log = store.open().await;
    log.put(&token("t1", Some(5))).await.unwrap();
    assert_eq!(log.find(VerifierKind::RefreshToken, "t1").await.unwrap(), Some(token("t1", Some(5))));
    let access = Verifier { kind: VerifierKind::AccessToken, ..token("a2", Some(6)) };
    let next = [token("t2", Some(6)), access];
    assert_eq!(log.rotate("unknown", &next, at(1)).await.unwrap(), Rotation::Refused);
    assert_eq!(log.rotate("t1", &next, at(5)).await.unwrap(), Rotation::Refused, "it has expired");
    assert_eq!(log.find(VerifierKind::RefreshToken, "t2").await.unwrap(), None);

    assert_eq!(log.rotate("t1", &next, at(1)).await.unwrap(), Rotation::Rotated);
    let used = Verifier { used_at: Some(at(1)), ..token("t1", Some(5)) };
    assert_eq!(log.find(VerifierKind::RefreshToken, "t1").await.unwrap(), Some(used));
    assert_eq!(log.find(VerifierKind::AccessToken, "a2").await.unwrap().as_ref(), Some(&next[1]));
    assert_eq!(log.rotate("t1", &[token("t3", None)], at(9)).await.unwrap(), Rotation::Reused);
    for (kind, lookup) in [
        (VerifierKind::RefreshToken, "t1"),
        (VerifierKind::RefreshToken, "t2"),
        (VerifierKind::AccessToken, "a2"),
        (VerifierKind::RefreshToken, "t3"),
    ] {
        assert_eq!(log.find(kind, lookup).await.unwrap(), None, "{lookup}");
    }
}

pub(crate) async fn parallel_rotations_and_a_logout_leave_nothing_of_the_family(store: impl Store) {
    let log = store.open().await;
    let family = Uuid::from_u128(5);
    for round in 0..20 {
        let first = format!("first-{round}");
        log.put(&token(&first, None)).await.unwrap();
        let next = |name: &str| [token(&format!("{name}-{round}"), None)];
        let (a, b, c) = (next("a"), next("b"), next("c"));
        let (a, b, c) = tokio::join!(
            log.rotate(&first, &a, at(1)),
            log.rotate(&first, &b, at(1)),
            log.rotate(&first, &c, at(1))
        );
        assert_eq!([a, b, c].map(Result::unwrap).iter().filter(|r| **r == Rotation::Rotated).count(), 1);
        assert_eq!(log.list(VerifierKind::RefreshToken, &tenant("a")).await.unwrap(), []);

        log.put(&token(&first, None)).await.unwrap();
        let next = next("d");
        let (_, deleted) = tokio::join!(log.rotate(&first, &next, at(1)), log.delete_family(family));
        assert!(deleted.unwrap() > 0);
        assert_eq!(log.list(VerifierKind::RefreshToken, &tenant("a")).await.unwrap(), []);
    }
}

pub(crate) async fn verifiers_are_replaced_listed_and_deleted(store: impl Store) {
    let log = store.open().await;
    let password = |hash: &str| Verifier {
        kind: VerifierKind::Password,
        hash: hash.to_owned(),
        family: None,
        ..token("a@example.org", None)
    };
    log.put(&password("old")).await.unwrap();
    log.put(&password("new")).await.unwrap();
    let elsewhere = Verifier { tenant: tenant("b"), ..token("t3", None) };
    for verifier in [&token("t1", None), &token("t2", None), &elsewhere] {
        log.put(verifier).await.unwrap();
    }
    assert_eq!(log.list(VerifierKind::Password, &tenant("a")).await.unwrap(), [password("new")]);
    let listed = log.list(VerifierKind::RefreshToken, &tenant("a")).await.unwrap();
    assert_eq!(listed, [token("t1", None), token("t2", None)]);
    assert!(log.delete(VerifierKind::Password, "a@example.org").await.unwrap());
    assert!(!log.delete(VerifierKind::Password, "a@example.org").await.unwrap());
    assert_eq!(log.delete_family(Uuid::from_u128(5)).await.unwrap(), 3);
    assert_eq!(log.find(VerifierKind::RefreshToken, "t1").await.unwrap(), None);
}

pub(crate) async fn of_all_who_store_the_same_new_verifier_one_does(store: impl Store) {
    let log = store.open().await;
    for round in 0..20 {
        let lookup = format!("new-{round}");
        let offer = |hash: &str, other: &str| {
            let first = Verifier { hash: hash.to_owned(), ..token(&lookup, None) };
            [first, token(&format!("{other}-{round}"), None)]
        };
        let (a, b, c) = (offer("a", "a"), offer("b", "b"), offer("c", "c"));
        let stored = tokio::join!(log.put_new(&a), log.put_new(&b), log.put_new(&c));
        let stored = [stored.0.unwrap(), stored.1.unwrap(), stored.2.unwrap()];
        assert_eq!(stored.iter().filter(|stored| **stored).count(), 1);
        for (offered, stored) in [a, b, c].iter().zip(stored) {
            let first = log.find(VerifierKind::RefreshToken, &lookup).await.unwrap();
            assert_eq!(first.as_ref() == Some(&offered[0]), stored);
            let other = log.find(VerifierKind::RefreshToken, &offered[1].lookup).await.unwrap();
            assert_eq!(other.is_some(), stored);
        }
    }
    assert!(!log.put_new(&[]).await.unwrap());
}

pub(crate) async fn expired_verifiers_are_forgotten(store: impl Store) {
    let log = store.open().await;
    for (lookup, expires) in [("t1", Some(1)), ("t2", Some(2)), ("t3", Some(3)), ("t4", None)] {
        log.put(&token(lookup, expires)).await.unwrap();
    }
    assert_eq!(log.forget_expired(at(2), 1).await.unwrap(), 1);
    assert_eq!(log.forget_expired(at(2), 10).await.unwrap(), 1);
    let left = log.list(VerifierKind::RefreshToken, &tenant("a")).await.unwrap();
    assert_eq!(left, [token("t3", Some(3)), token("t4", None)]);
}
