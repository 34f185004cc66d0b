//! Promises about secrets that are good for one use, and about when others were used.

use uuid::Uuid;

use event_store::verifiers::{USES_KEPT_MS, Verifier, VerifierKind, Verifiers};

use crate::support::{Store, at, tenant};

fn code(lookup: &str, expires: Option<i64>) -> Verifier {
    Verifier {
        kind: VerifierKind::RecoveryCode,
        lookup: lookup.to_owned(),
        tenant: tenant("a"),
        principal: "u1".to_owned(),
        name: "u1@example.org".to_owned(),
        hash: String::new(),
        family: None,
        created_at: at(0),
        expires_at: expires.map(at),
        used_at: None,
    }
}

pub(crate) async fn a_verifier_is_taken_once_and_not_when_it_has_expired(store: impl Store) {
    let log = store.open().await;
    let kind = VerifierKind::RecoveryCode;
    log.put(&code("expired", Some(5))).await.unwrap();
    assert_eq!(log.take(kind, "expired", at(5)).await.unwrap(), None);
    for round in 0..20 {
        let lookup = format!("c{round}");
        log.put(&code(&lookup, Some(5))).await.unwrap();
        let take = || log.take(kind, &lookup, at(4));
        let taken = tokio::join!(take(), take(), take());
        let taken = [taken.0.unwrap(), taken.1.unwrap(), taken.2.unwrap()];
        assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&code(&lookup, Some(5))]);
        assert_eq!(log.find(kind, &lookup).await.unwrap(), None);
    }
    assert_eq!(log.take(VerifierKind::Invitation, "expired", at(0)).await.unwrap(), None);
}

pub(crate) async fn of_all_who_note_the_same_use_one_does(store: impl Store) {
    let log = store.open().await;
    let kind = VerifierKind::RecoveryCode;
    assert!(!log.mark_used(kind, "c", at(1)).await.unwrap(), "it is not there");
    log.put(&code("c", None)).await.unwrap();
    for second in 1..20 {
        let mark = || log.mark_used(kind, "c", at(second));
        let marked = tokio::join!(mark(), mark(), mark());
        let marked = [marked.0.unwrap(), marked.1.unwrap(), marked.2.unwrap()];
        assert_eq!(marked.iter().filter(|marked| **marked).count(), 1);
        assert!(!log.mark_used(kind, "c", at(second - 1)).await.unwrap(), "a later one is noted");
    }
    assert_eq!(log.find(kind, "c").await.unwrap().unwrap().used_at, Some(at(19)));
}

pub(crate) async fn a_hash_is_replaced_only_if_it_is_still_the_one_that_was_read(store: impl Store) {
    let log = store.open().await;
    let kind = VerifierKind::RecoveryCode;
    log.put(&Verifier { hash: "old".to_owned(), ..code("c", None) }).await.unwrap();
    assert!(log.swap_hash(kind, "c", "old", "new").await.unwrap());
    assert!(!log.swap_hash(kind, "c", "old", "newer").await.unwrap());
    assert_eq!(log.find(kind, "c").await.unwrap().unwrap().hash, "new");
}

pub(crate) async fn verifiers_of_a_principal_are_listed_and_deleted_by_kind(store: impl Store) {
    let log = store.open().await;
    let kind = VerifierKind::RecoveryCode;
    let of_another = Verifier { principal: "u2".to_owned(), ..code("c3", None) };
    let another_kind = Verifier { kind: VerifierKind::Invitation, ..code("c1", None) };
    for verifier in [&code("c2", None), &code("c1", None), &of_another, &another_kind] {
        log.put(verifier).await.unwrap();
    }
    assert_eq!(log.of_principal(kind, "u1").await.unwrap(), [code("c1", None), code("c2", None)]);
    assert_eq!(log.delete_of_principal(kind, "u1").await.unwrap(), 2);
    assert_eq!(log.of_principal(kind, "u1").await.unwrap(), []);
    assert_eq!(log.of_principal(kind, "u2").await.unwrap(), [of_another]);
    assert_eq!(log.of_principal(VerifierKind::Invitation, "u1").await.unwrap(), [another_kind]);
}

pub(crate) async fn the_latest_use_is_kept(store: impl Store) {
    let log = store.open().await;
    let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
    log.note_uses(&[]).await.unwrap();
    log.note_uses(&[(two, at(5)), (one, at(9))]).await.unwrap();
    log.note_uses(&[(one, at(8)), (two, at(7))]).await.unwrap();
    assert_eq!(log.uses(&[one, two, three]).await.unwrap(), [(one, at(9)), (two, at(7))]);
    log.forget_expired(at(7).plus_ms(USES_KEPT_MS), 10).await.unwrap();
    assert_eq!(log.uses(&[one, two, three]).await.unwrap(), [(one, at(9))]);
}

pub(crate) async fn every_kind_of_verifier_is_stored_and_read(store: impl Store) {
    let log = store.open().await;
    for kind in VerifierKind::ALL {
        let verifier = Verifier { kind: *kind, ..code("c", Some(5)) };
        log.put(&verifier).await.unwrap();
        assert_eq!(log.find(*kind, "c").await.unwrap(), Some(verifier));
        assert_eq!(kind.as_str().parse(), Ok(*kind));
    }
}
