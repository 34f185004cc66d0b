//! Buckets of rate limits on a real Postgres.

use event_store::rate_counters::{RateCounters, Spent};
use uuid::Uuid;

use super::postgres::PostgresStore;
use super::support::Store;

const SECOND: i64 = 1_000_000;

fn spent(key: u128, seconds: i64) -> Spent {
    Spent { key: Uuid::from_u128(key), cost_us: seconds * SECOND }
}

#[tokio::test]
async fn what_several_take_from_a_bucket_adds_up_and_wears_off_by_the_servers_clock() {
    let store = PostgresStore::create().await;
    let (one, other) = (store.open().await, store.open().await);
    let first = one.exchange(&[spent(2, 100), spent(1, 10)]).await.unwrap();
    assert_eq!(first, [100 * SECOND, 10 * SECOND]);
    // The other process reads the same buckets, whatever it took itself, in the order in which it asks.
    let read = other.exchange(&[spent(1, 0), spent(2, 5), spent(3, 0)]).await.unwrap();
    assert!((9 * SECOND..=10 * SECOND).contains(&read[0]), "{read:?}");
    assert!((104 * SECOND..=105 * SECOND).contains(&read[1]), "{read:?}");
    assert_eq!(read[2], 0);
    // What is given back makes a bucket full, not more than full.
    let given_back = one.exchange(&[spent(1, -1_000)]).await.unwrap();
    assert!(given_back[0] < 0, "{given_back:?}");
    assert_eq!(other.exchange(&[spent(1, 1)]).await.unwrap(), [SECOND]);
    assert!(one.exchange(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn exchanges_of_the_same_buckets_at_once_lose_nothing_and_do_not_block_each_other_for_ever() {
    let store = PostgresStore::create().await;
    let (one, other) = (store.open().await, store.open().await);
    let forwards: Vec<_> = (1..=50).map(|key| spent(key, 10)).collect();
    let backwards: Vec<_> = forwards.iter().rev().copied().collect();
    for _ in 0..10 {
        let (a, b) = tokio::join!(one.exchange(&forwards), other.exchange(&backwards));
        a.unwrap();
        b.unwrap();
    }
    let read: Vec<_> = (1..=50).map(|key| spent(key, 0)).collect();
    for debt in one.exchange(&read).await.unwrap() {
        assert!((140 * SECOND..=200 * SECOND).contains(&debt), "{debt}");
    }
}

#[tokio::test]
async fn full_buckets_are_forgotten_and_others_are_not() {
    let store = PostgresStore::create().await;
    let log = store.open().await;
    log.exchange(&[spent(1, 100), spent(2, -100), spent(3, -100)]).await.unwrap();
    assert_eq!(log.forget_full(1).await.unwrap(), 1);
    assert_eq!(log.forget_full(10).await.unwrap(), 1);
    assert_eq!(log.forget_full(10).await.unwrap(), 0);
    assert!(log.exchange(&[spent(1, 0)]).await.unwrap()[0] > 90 * SECOND);
}
