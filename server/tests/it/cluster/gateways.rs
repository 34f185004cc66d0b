//! Two gateways behind a load balancer that knows nothing but TCP and `/readyz`, as a Kubernetes service does: each is
//! restarted twice under load, and nobody notices.

use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::Role;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use super::replicas::{check_followed, two_gateways};
use super::start;
use crate::harness::{Client, doubling};

/// Connections that are kept by clients of their own.
const CLIENTS: usize = 4;
/// How often the balancer asks who is ready.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How long the follower waits for more before it believes that it has everything.
const QUIET: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_no_event_is_missed_while_gateways_are_replaced_behind_a_balancer() {
    let (mut cluster, _) = start(two_gateways()).await;
    let addresses =
        cluster.urls().iter().map(|url| url.trim_start_matches("http://").parse().unwrap()).collect();
    let balancer = Balancer::start(addresses).await;
    let client = Client::new(&balancer.url, cluster.key());
    let workflow = client.create(&doubling()).await;
    let stop = CancellationToken::new();
    // A client each, so that each has connections of its own.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| load(Client::new(&balancer.url, cluster.key()), &workflow, number, stop.clone()))
        .collect();
    let told_all = CancellationToken::new();
    let follower = tokio::spawn(follow(client.clone(), told_all.clone()));

    for _ in 0..2 {
        for gateway in cluster.of(Role::Gateway) {
            let before = balancer.connections.load(Ordering::Relaxed);
            cluster.stop(gateway).await.expect("a graceful end");
            cluster.start_again(gateway).await.expect("a start");
            // The next one goes when this one has taken over.
            balancer.sees(gateway_number(&cluster, gateway)).await;
            println!("{} connections since", balancer.connections.load(Ordering::Relaxed) - before);
        }
    }
    stop.cancel();
    let (mut acknowledged, mut requests) = (HashMap::new(), 0);
    for client in clients {
        let (ids, count) = client.await.expect("a client none of whose requests failed");
        acknowledged.extend(ids);
        requests += count;
    }
    for id in acknowledged.values() {
        assert_eq!(client.ended(id).await["status"], "completed");
    }
    told_all.cancel();
    let (followed, closes) = follower.await.expect("a follower");
    let store = cluster.store().await.expect("the store");
    check_followed(&*store.reader, &followed).await;
    println!("{requests} requests, {} executions, {closes} closes with 1001", acknowledged.len());
    assert!(closes >= 2, "a gateway that stops says goodbye");
    store.health.close().await;
    drop(balancer);
    cluster.ensure_all_alive().await.expect("nothing ends by itself");
    cluster.stop_all().await.expect("graceful ends");
}

/// The place of a gateway among gateways.
fn gateway_number(cluster: &testkit::Cluster, member: usize) -> usize {
    cluster.of(Role::Gateway).iter().position(|one| *one == member).expect("a gateway")
}

/// Hands each connection to a gateway that says it is ready, and knows nothing of what goes over it.
struct Balancer {
    url: String,
    ready: Arc<[(SocketAddr, AtomicBool)]>,
    connections: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Balancer {
    async fn start(gateways: Vec<SocketAddr>) -> Self {
        let ready: Arc<[_]> = gateways.into_iter().map(|address| (address, AtomicBool::new(true))).collect();
        let connections = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accept = accept(listener, ready.clone(), connections.clone());
        let tasks = vec![tokio::spawn(accept), tokio::spawn(probe(ready.clone()))];
        Self { url, ready, connections, tasks }
    }

    /// Waits until a gateway gets connections.
    async fn sees(&self, number: usize) {
        let ready = async {
            while !self.ready[number].1.load(Ordering::Relaxed) {
                tokio::time::sleep(PROBE_EVERY).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ready).await.expect("the gateway is ready");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn probe(gateways: Arc<[(SocketAddr, AtomicBool)]>) {
    // Without kept connections, as probes are.
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0);
    let http = http.timeout(Duration::from_secs(1)).build().unwrap();
    loop {
        for (address, ready) in gateways.iter() {
            let answer = http.get(format!("http://{address}/readyz")).send().await;
            ready.store(answer.is_ok_and(|answer| answer.status().is_success()), Ordering::Relaxed);
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

async fn accept(
    listener: TcpListener,
    gateways: Arc<[(SocketAddr, AtomicBool)]>,
    connections: Arc<AtomicUsize>,
) {
    let mut open = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        let gateways = gateways.clone();
        open.spawn(async move {
            for turn in 0..gateways.len() {
                let (address, ready) = &gateways[(number + turn) % gateways.len()];
                if ready.load(Ordering::Relaxed)
                    && let Ok(mut gateway) = TcpStream::connect(address).await
                {
                    // Whoever hangs up, the other side hears of it.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
                    return;
                }
            }
        });
        while open.try_join_next().is_some() {}
    }
}

/// A client that starts executions and reads them over connections that it keeps. How many requests that were.
fn load(
    client: Client,
    workflow: &str,
    first: usize,
    stop: CancellationToken,
) -> JoinHandle<(HashMap<usize, String>, usize)> {
    let path = format!("/workflows/{workflow}/execute");
    tokio::spawn(async move {
        let (mut acknowledged, mut requests) = (HashMap::new(), 0);
        for number in (first..).step_by(CLIENTS) {
            if stop.is_cancelled() {
                break;
            }
            let started = client.post(&path, &json!({"input": {"n": number}})).await;
            assert_eq!(started.status, 202, "{}", started.body);
            let id = started.body["execution_id"].as_str().unwrap().to_owned();
            for _ in 0..4 {
                let read = client.send(client.request(Method::GET, &format!("/executions/{id}"))).await;
                assert_eq!(read.status, 200, "{}", read.body);
            }
            requests += 5;
            acknowledged.insert(number, id);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (acknowledged, requests)
    })
}

/// Follows the tenant's events over WebSockets, resuming after the last one. The ids, and how often it was sent away.
async fn follow(client: Client, told_all: CancellationToken) -> (Vec<String>, usize) {
    let (mut ids, mut resume, mut closes) = (Vec::new(), None::<Value>, 0);
    loop {
        let url = format!("{}/api/v1/ws", client.url.replace("http://", "ws://"));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", client.key).parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("a gateway takes it");
        let mut subscribe = json!({"type": "subscribe", "id": "all", "channel": "events"});
        if let Some(resume) = &resume {
            subscribe["after_position"] = resume.clone();
        }
        socket.send(Message::text(subscribe.to_string())).await.expect("sent");
        loop {
            let text = match tokio::time::timeout(QUIET, socket.next()).await {
                Err(_) if told_all.is_cancelled() => return (ids, closes),
                Err(_) => continue,
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(frame)))) => {
                    assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1001));
                    closes += 1;
                    break;
                }
                Ok(Some(Ok(_))) => continue,
                other => panic!("the connection ended without a word: {other:?}"),
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            assert_ne!(message["type"], "error", "{message}");
            if message["type"] == "event" {
                resume = Some(message["resume"].clone());
                ids.push(message["event"]["id"].as_str().unwrap().to_owned());
            }
        }
    }
}
