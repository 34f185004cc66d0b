//! One limit, two gateways: together they admit about what one would.

use std::time::{Duration, Instant};
use testkit::{ClusterOptions, Role};

use super::start;

/// The limit of the key: a bucket of as many, and as many more in a minute.
const PER_MINUTE: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_over_one_postgres_share_a_limit() {
    let environment = vec![
        ("EVERLINE_GATEWAY__LIMITS__PER_KEY", PER_MINUTE.to_string()),
        ("EVERLINE_GATEWAY__LIMITS__EXCHANGE_MS", "50".to_owned()),
    ];
    let roles = vec![Role::Gateway, Role::Gateway, Role::CommandService];
    let (mut cluster, _) = start(ClusterOptions { roles, environment, ..ClusterOptions::default() }).await;
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let urls = cluster.urls();
    let begun = Instant::now();
    let (mut admitted, mut refused) = (0_u32, 0_u32);
    // Paced, so that an exchange falls between any few requests: what is measured is the sharing, not the overshoot.
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while refused < 200 {
        pace.tick().await;
        for url in &urls {
            let request = http.get(format!("{url}/api/v1/auth/me")).bearer_auth(cluster.key());
            let answer = request.send().await.expect("an answer");
            match answer.status().as_u16() {
                200 => admitted += 1,
                429 => {
                    assert!(answer.headers().contains_key("retry-after"));
                    refused += 1;
                }
                other => panic!("answered {other}"),
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody is refused: {admitted} were admitted");
    }
    // The bucket, what came meanwhile, and what each gateway gives between two exchanges on a busy machine.
    let took = begun.elapsed();
    let due = PER_MINUTE + (took.as_secs_f64() * f64::from(PER_MINUTE) / 60.0).ceil() as u32;
    println!("{admitted} admitted in {took:?} by two gateways, {due} were due");
    assert!(admitted >= PER_MINUTE, "{admitted} are too few");
    assert!(admitted <= due + due / 4, "{admitted} are too many for {due}");
    cluster.ensure_all_alive().await.expect("nothing ends by itself");
}
