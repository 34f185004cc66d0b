//! The breakers of a worker, with the time held.

use super::*;

fn circuits(failures: u32) -> Circuits {
    let (cool_down, max_cool_down) = (Duration::from_secs(10), Duration::from_secs(120));
    Circuits::new(Rules { failures, cool_down, max_cool_down })
}

fn admit(circuits: &Circuits, tenant: &str, origin: &str) -> Result<Called, NodeError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    circuits.admit(&TenantId::try_from(tenant.to_owned()).expect("a tenant"), origin, deadline)
}

fn admitted(circuits: &Circuits, origin: &str) -> Called {
    admit(circuits, "default", origin).unwrap_or_else(|error| panic!("{error:?}"))
}

fn failure() -> NodeError {
    crate::failure::connection("it hung up")
}

fn fail(circuits: &Circuits, origin: &str, times: u32) {
    for _ in 0..times {
        admitted(circuits, origin).ended(Err(&failure()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_is_left_alone_and_others_are_not() {
    let circuits = circuits(3);
    fail(&circuits, "http://a", 3);
    tokio::time::advance(Duration::from_millis(1_800)).await;
    let error = admit(&circuits, "default", "http://a").err().expect("it is open");
    assert_eq!((error.kind, error.retryable), (ErrorKind::Connection, true));
    assert_eq!(error.details, json!({"code": "circuit_open", "target": "http://a", "retry_after_ms": 8_200}));
    assert_eq!(error.message, "http://a was not called: its last 3 calls failed; it is tried again in 8.2 s");
    assert!(admit(&circuits, "default", "http://a:81").is_ok());
    assert!(admit(&circuits, "default", "https://a").is_ok());
    assert!(admit(&circuits, "other", "http://a").is_ok());
    assert_eq!((circuits.counts().opened(), circuits.counts().refused()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_success_in_between_starts_the_count_anew() {
    let circuits = circuits(3);
    for _ in 0..5 {
        fail(&circuits, "http://a", 2);
        admitted(&circuits, "http://a").ended(Ok(()));
    }
    assert!(circuits.shared.lock().is_empty(), "what works is not remembered");
}

#[tokio::test(start_paused = true)]
async fn one_probe_goes_through_and_decides() {
    let circuits = circuits(1);
    fail(&circuits, "http://a", 1);
    tokio::time::advance(Duration::from_secs(10)).await;
    let probe = admitted(&circuits, "http://a");
    assert!(admit(&circuits, "default", "http://a").is_err(), "one at a time");
    // It found nothing out: the next one may.
    drop(probe);
    let probe = admitted(&circuits, "http://a");
    probe.ended(Err(&failure()));
    tokio::time::advance(Duration::from_millis(19_999)).await;
    assert!(admit(&circuits, "default", "http://a").is_err(), "twice the cool-down");
    tokio::time::advance(Duration::from_millis(1)).await;
    admitted(&circuits, "http://a").ended(Ok(()));
    for _ in 0..3 {
        assert!(admit(&circuits, "default", "http://a").is_ok());
    }
    let counts = circuits.counts();
    assert_eq!((counts.opened(), counts.closed(), counts.refused()), (2, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_call_says_about_its_target_is_a_matter_of_how_it_ended() {
    let circuits = circuits(1);
    let of_kind = |kind| NodeError { kind, ..failure() };
    for kind in [ErrorKind::Http4xx, ErrorKind::Http429, ErrorKind::Custom, ErrorKind::InvalidConfig] {
        admitted(&circuits, "http://a").ended(Err(&of_kind(kind)));
    }
    drop(admitted(&circuits, "http://a"));
    assert_eq!(circuits.counts().opened(), 0);
    for (n, kind) in [ErrorKind::Connection, ErrorKind::Timeout, ErrorKind::Http5xx].into_iter().enumerate() {
        admitted(&circuits, &format!("http://b{n}")).ended(Err(&of_kind(kind)));
    }
    let silent = admitted(&circuits, "http://c");
    tokio::time::advance(Duration::from_secs(30)).await;
    drop(silent);
    assert_eq!(circuits.counts().opened(), 4, "the last one at its deadline");
}

#[tokio::test(start_paused = true)]
async fn targets_are_forgotten_when_there_are_too_many_an_open_one_last() {
    let circuits = circuits(2);
    fail(&circuits, "http://open", 2);
    for n in 0..MAX_TARGETS + 10 {
        tokio::time::advance(Duration::from_micros(1)).await;
        fail(&circuits, &format!("http://n{n}"), 1);
    }
    let targets = circuits.shared.lock();
    assert_eq!(targets.len(), MAX_TARGETS);
    assert!(targets.keys().any(|target| target.origin == "http://open"));
    assert!(!targets.keys().any(|target| target.origin == "http://n0"));
}

#[tokio::test(start_paused = true)]
async fn without_a_number_of_failures_nothing_opens() {
    let circuits = circuits(0);
    fail(&circuits, "http://a", 1_000);
    assert!(circuits.shared.lock().is_empty());
}
