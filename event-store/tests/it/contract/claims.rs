//! Promises about names.

use domain::decision::ClaimOp::{Release, Take};
use domain::ids::TenantId;
use event_store::{Log, LogReader, Refusal};
use uuid::Uuid;

use crate::support::{Owner, Store, append, claim, claim_of_all, losers, only, stream, tenant};

async fn holder(log: &impl LogReader, tenant: &TenantId, key: &str) -> Option<Uuid> {
    log.claim_holder(tenant, "workflow_name", key).await.unwrap()
}

pub(crate) async fn a_taken_name_is_refused_to_others_until_released(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second) = (stream(1), stream(1));
    let default = TenantId::default_tenant();
    owner.append(vec![claim(append(first, 0, 1), Take, "name")]).await.unwrap();
    let take = claim(append(second, 0, 1), Take, "name");
    let refusal = Refusal::ClaimTaken { claim: take.claims[0].clone(), holder: first };
    assert_eq!(only(owner.refused(vec![take.clone()]).await), (0, refusal));
    assert_eq!(holder(&*owner.log, &default, "name").await, Some(first));
    owner.append(vec![claim(append(first, 1, 1), Release, "name")]).await.unwrap();
    assert_eq!(holder(&*owner.log, &default, "name").await, None);
    owner.append(vec![take]).await.unwrap();
    assert_eq!(holder(&*owner.log, &default, "name").await, Some(second));
}

pub(crate) async fn taking_a_name_again_is_fine_for_its_holder(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(1);
    owner.append(vec![claim(append(stream, 0, 1), Take, "name")]).await.unwrap();
    let again = claim(claim(append(stream, 1, 1), Take, "name"), Take, "name");
    let changed = claim(claim(append(stream, 2, 1), Release, "name"), Take, "other");
    owner.append(vec![again, changed]).await.unwrap();
    let default = TenantId::default_tenant();
    assert_eq!(holder(&*owner.log, &default, "name").await, None);
    assert_eq!(holder(&*owner.log, &default, "other").await, Some(stream));
}

pub(crate) async fn a_name_changes_hands_within_one_batch_in_order(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second) = (stream(1), stream(1));
    owner.append(vec![claim(append(first, 0, 1), Take, "name")]).await.unwrap();
    let release = claim(append(first, 1, 1), Release, "name");
    let take = claim(append(second, 0, 1), Take, "name");
    let refused = owner.refused(vec![take.clone(), release.clone()]).await;
    assert!(matches!(only(refused), (0, Refusal::ClaimTaken { .. })));
    owner.append(vec![release, take]).await.unwrap();
    assert_eq!(holder(&*owner.log, &TenantId::default_tenant(), "name").await, Some(second));
}

pub(crate) async fn of_two_takers_in_one_batch_the_second_loses(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second) = (stream(1), stream(2));
    let takes = vec![claim(append(first, 0, 1), Take, "name"), claim(append(second, 0, 1), Take, "name")];
    let refusal = Refusal::ClaimTaken { claim: takes[1].claims[0].clone(), holder: first };
    assert_eq!(only(owner.refused(takes).await), (1, refusal));
}

pub(crate) async fn releasing_another_streams_name_changes_nothing(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second) = (stream(1), stream(1));
    owner.append(vec![claim(append(first, 0, 1), Take, "name")]).await.unwrap();
    owner.append(vec![claim(append(second, 0, 1), Release, "name")]).await.unwrap();
    assert_eq!(holder(&*owner.log, &TenantId::default_tenant(), "name").await, Some(first));
    let steal = claim(claim(append(second, 1, 1), Release, "name"), Take, "name");
    assert!(matches!(only(owner.refused(vec![steal]).await), (0, Refusal::ClaimTaken { .. })));
}

pub(crate) async fn the_same_name_of_two_tenants_is_two_names(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second) = (stream(1), stream(1));
    let mut other = claim(append(second, 0, 1), Take, "name");
    other.tenant = tenant("other");
    owner.append(vec![claim(append(first, 0, 1), Take, "name"), other]).await.unwrap();
    assert_eq!(holder(&*owner.log, &TenantId::default_tenant(), "name").await, Some(first));
    assert_eq!(holder(&*owner.log, &tenant("other"), "name").await, Some(second));
}

pub(crate) async fn a_losers_claims_do_not_make_others_lose(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second) = (stream(1), stream(1));
    let done = append(stream(0), 0, 1);
    owner.append(vec![done.clone()]).await.unwrap();
    let mut duplicate = claim(append(first, 0, 1), Take, "name");
    duplicate.command_id = done.command_id;
    let batch = owner.batch(vec![duplicate, claim(append(second, 0, 1), Take, "name")]);
    assert!(matches!(only(losers(owner.log.append(batch).await)), (0, Refusal::Duplicate(_))));
}

pub(crate) async fn a_name_of_the_installation_is_one_name_whatever_the_tenant(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second, third) = (stream(1), stream(1), stream(1));
    let of_all = |append, op| claim_of_all(append, op, "ada@example.com");
    let mut other = of_all(append(second, 0, 1), Take);
    other.tenant = tenant("other");
    owner.append(vec![of_all(append(first, 0, 1), Take)]).await.unwrap();
    let refusal = Refusal::ClaimTaken { claim: other.claims[0].clone(), holder: first };
    assert_eq!(only(owner.refused(vec![other.clone()]).await), (0, refusal));
    // The same text as a name of a tenant is another name.
    owner.append(vec![claim(append(third, 0, 1), Take, "ada@example.com")]).await.unwrap();
    assert_eq!(
        owner.log.installation_claim_holder("workflow_name", "ada@example.com").await.unwrap(),
        Some(first)
    );
    assert_eq!(holder(&*owner.log, &TenantId::default_tenant(), "ada@example.com").await, Some(third));
    owner.append(vec![of_all(append(first, 1, 1), Release), other]).await.unwrap();
    assert_eq!(
        owner.log.installation_claim_holder("workflow_name", "ada@example.com").await.unwrap(),
        Some(second)
    );
    assert_eq!(holder(&*owner.log, &TenantId::default_tenant(), "ada@example.com").await, Some(third));
}
