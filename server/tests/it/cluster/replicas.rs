//! Two gateways: which of them is asked makes no difference, and every process can be replaced while requests come in.

use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::{Cluster, ClusterOptions, HttpTarget, Role};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{check_what_is_left, start};
use crate::endurance::{Insistent, starts, workflow};
use crate::harness::doubling;

/// Commands that are sent to both gateways.
const COMMANDS: usize = 24;
/// Clients of the rolling restart.
const CLIENTS: usize = 4;
/// How often a load balancer asks who is ready.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How long a request may take while processes are replaced.
const REQUEST_TIME: Duration = Duration::from_secs(20);

pub(super) fn two_gateways() -> ClusterOptions {
    let roles = vec![
        Role::Gateway,
        Role::Gateway,
        Role::CommandService,
        Role::CommandService,
        Role::ProjectionService,
        Role::Agents,
    ];
    // Time for a load balancer on a busy machine to see that a gateway is not ready any more.
    let environment = vec![("EVERLINE_GATEWAY__DRAIN_NOTICE_MS", "1000".to_owned())];
    ClusterOptions { roles, environment, ..ClusterOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_command_through_two_gateways_has_one_effect_also_after_its_owner_was_killed() {
    let (mut cluster, first) = start(two_gateways()).await;
    let second = Insistent::new(&cluster.urls()[1], cluster.key());
    let workflow = first.create(&doubling()).await;
    let path = format!("/workflows/{workflow}/execute");
    let ask = async |client: &Insistent, number: usize| {
        let body = json!({"input": {"n": number}, "wait_ms": 20_000});
        client.post(&path, &format!("order-{number}"), &body).await
    };
    let mut answers = Vec::new();
    for number in 0..COMMANDS {
        let (one, other) = tokio::join!(ask(&first, number), ask(&second, number));
        assert_eq!(one, other);
        assert_eq!((one.0, &one.1["output"]["n"]), (200, &json!(number * 2)), "{}", one.1);
        answers.push(one);
    }
    // Both owners, one after the other: each command has met another owner than before.
    for owner in cluster.of(Role::CommandService) {
        cluster.kill(owner).await.expect("killed");
        for (number, answer) in answers.iter().enumerate() {
            let (one, other) = tokio::join!(ask(&first, number), ask(&second, number));
            assert_eq!((&one, &other), (answer, answer), "after the owner was killed");
        }
        cluster.start_again(owner).await.expect("a start after a kill");
    }
    cluster.ensure_all_alive().await.expect("nothing ends by itself");
    let store = cluster.store().await.expect("the store");
    assert_eq!(starts(&*store.reader).await, COMMANDS);
    testkit::audit(&*store.reader).await.expect("a sound log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_no_event_is_lost_while_every_process_is_restarted_in_turn() {
    let (mut cluster, client) = start(two_gateways()).await;
    let target = HttpTarget::start().await.expect("a target");
    let workflow = client.create(&workflow(&target.url)).await;
    let balancer = Arc::new(Balancer::start(&cluster));
    let stop = CancellationToken::new();
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| load(&balancer, &workflow, client, stop.clone())).collect();
    let told_all = CancellationToken::new();
    let follower = tokio::spawn(follow(balancer.clone(), told_all.clone()));

    for member in 0..cluster.members().len() {
        let begun = Instant::now();
        cluster.stop(member).await.expect("a graceful end");
        let stopped = begun.elapsed();
        cluster.start_again(member).await.expect("a start");
        println!(
            "{} stopped in {stopped:?}, back after {:?}",
            cluster.members()[member].name,
            begun.elapsed()
        );
    }
    stop.cancel();
    let mut acknowledged = HashMap::new();
    for client in clients {
        acknowledged.extend(client.await.expect("a client none of whose requests failed"));
    }
    let mut longest = Duration::ZERO;
    for (number, id) in &acknowledged {
        longest = longest.max(client.completed(*number, id).await);
    }
    told_all.cancel();
    let followed = follower.await.expect("a follower");
    let store = cluster.store().await.expect("the store");
    check_followed(&*store.reader, &followed).await;
    let requests = balancer.requests.load(Ordering::Relaxed);
    println!("{requests} requests, {} executions, the longest took {longest:?}", acknowledged.len());
    check_what_is_left(&mut cluster, &acknowledged).await;
}

/// What a load balancer does: it asks nobody who says that he is not ready, and turns to another where nobody listens.
struct Balancer {
    http: reqwest::Client,
    gateways: Vec<(String, Arc<AtomicBool>)>,
    key: String,
    next: AtomicUsize,
    requests: AtomicUsize,
    probers: Vec<JoinHandle<()>>,
}

impl Balancer {
    fn start(cluster: &Cluster) -> Self {
        let http =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(REQUEST_TIME).build().unwrap();
        let ready = |url| (url, Arc::new(AtomicBool::new(true)));
        let gateways: Vec<_> = cluster.urls().into_iter().map(ready).collect();
        let prober = |(url, ready): &(String, Arc<AtomicBool>)| {
            let (http, url, ready) = (http.clone(), format!("{url}/readyz"), ready.clone());
            tokio::spawn(async move {
                loop {
                    let answer = http.get(&url).timeout(Duration::from_secs(1)).send().await;
                    ready.store(answer.is_ok_and(|answer| answer.status().is_success()), Ordering::Relaxed);
                    tokio::time::sleep(PROBE_EVERY).await;
                }
            })
        };
        let probers = gateways.iter().map(prober).collect();
        let (next, requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { http: http.clone(), gateways, key: cluster.key().to_owned(), next, requests, probers }
    }

    /// Sends a request to one of the gateways that are ready. Whatever else happens to it is a failure.
    async fn send(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> reqwest::Response {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        loop {
            let ready: Vec<_> =
                self.gateways.iter().filter(|(_, ready)| ready.load(Ordering::Relaxed)).collect();
            if !ready.is_empty() {
                let (url, _) = ready[self.next.fetch_add(1, Ordering::Relaxed) % ready.len()];
                let request = self.http.request(method.clone(), format!("{url}/api/v1{path}"));
                match build(request.bearer_auth(&self.key)).send().await {
                    Ok(response) => return response,
                    Err(error) if error.is_connect() => {}
                    Err(error) => panic!("{method} {path} at {url}: {error:?}"),
                }
            }
            assert!(begun.elapsed() < REQUEST_TIME, "no gateway is ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn json(&self, expected: u16, response: reqwest::Response) -> Value {
        let (url, status) = (response.url().clone(), response.status().as_u16());
        let body: Value = response.json().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        assert_eq!(status, expected, "{url}: {body}");
        body
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        for prober in &self.probers {
            prober.abort();
        }
    }
}

/// A client that starts executions and reads them, until it is stopped.
fn load(
    balancer: &Arc<Balancer>,
    workflow: &str,
    client: usize,
    stop: CancellationToken,
) -> JoinHandle<HashMap<usize, String>> {
    let (balancer, path) = (balancer.clone(), format!("/workflows/{workflow}/execute"));
    tokio::spawn(async move {
        let mut acknowledged = HashMap::new();
        for number in (client..).step_by(CLIENTS) {
            if stop.is_cancelled() {
                break;
            }
            let body = json!({"input": {"n": number}});
            let response = balancer.send(Method::POST, &path, |request| request.json(&body)).await;
            let answer = balancer.json(202, response).await;
            let id = answer["execution_id"].as_str().unwrap().to_owned();
            let response = balancer.send(Method::GET, &format!("/executions/{id}"), |request| request).await;
            balancer.json(200, response).await;
            acknowledged.insert(number, id);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        acknowledged
    })
}

/// Follows the tenant's events from the first to the last, at whichever gateway, and comes back with the last id.
async fn follow(balancer: Arc<Balancer>, told_all: CancellationToken) -> Vec<String> {
    let (mut ids, mut resume) = (Vec::new(), None::<String>);
    loop {
        let last = resume.clone();
        let response = balancer.send(Method::GET, "/events/stream", |request| {
            let request = request.timeout(Duration::from_secs(600));
            last.iter().fold(request, |request, last| request.header("last-event-id", last))
        });
        let mut response = response.await;
        assert_eq!(response.status(), 200);
        let mut text = String::new();
        let quiet = Duration::from_secs(2);
        loop {
            match tokio::time::timeout(quiet, response.chunk()).await {
                Ok(Ok(Some(chunk))) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                // The gateway is draining: another one goes on.
                Ok(_) => break,
                Err(_) if told_all.is_cancelled() => return ids,
                Err(_) => {}
            }
            while let Some((message, rest)) = text.split_once("\n\n") {
                let field =
                    |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                    resume = Some(id.to_owned());
                    let event: Value = serde_json::from_str(data).unwrap();
                    ids.push(event["id"].as_str().unwrap().to_owned());
                }
                text = rest.to_owned();
            }
        }
    }
}

/// The follower has every event of its tenant once.
pub(super) async fn check_followed(log: &dyn event_store::LogReader, followed: &[String]) {
    let once: HashSet<_> = followed.iter().collect();
    assert_eq!(once.len(), followed.len(), "an event was told twice");
    let mut expected = 0;
    for head in log.heads().await.expect("heads") {
        for event in log.read_partition(head.partition, 0, 1_000_000).await.expect("events") {
            if event.tenant.as_str() == "default" {
                expected += 1;
                assert!(
                    once.contains(&event.id.to_string()),
                    "{} at {} was not told",
                    event.event_type,
                    event.position
                );
            }
        }
    }
    assert_eq!(followed.len(), expected);
    println!("{expected} events followed");
}
