//! Figures of the bus on NATS, for people: `cargo test -p bus --release --test it -- --ignored --nocapture measure`.

use crate::nats::{bus, options, server, soon};
use crate::nats_contract::until_heard;
use bus::contract::{self, CountingHandler};
use bus::feed::{CommittedBatch, FeedMessage};
use bus::nats::{NatsBus, NatsOptions};
use domain::ids::Partition;
use domain::node_type::NodeType;
use futures::StreamExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use test_services::{NatsServer, NatsVersion};

const HTTP: [NodeType; 1] = [NodeType::HttpRequest];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run it in a release build on a quiet machine"]
async fn measure() {
    for version in [NatsVersion::Old, NatsVersion::New] {
        println!("== {version:?}");
        let server = server(version).await;
        let (owner, other) = (bus(&server).await, bus(&server).await);
        commands(&owner, &other).await;
        feed(&owner, &other).await;
        tasks(&owner, &other).await;
        events(&server).await;
    }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: n {} p50 {:?} p99 {:?} max {:?}", times.len(), at(0.5), at(0.99), at(1.0));
}

async fn commands(owner: &NatsBus, sender: &NatsBus) {
    owner.doors().open(Partition(1), Arc::new(CountingHandler::default())).await.expect("an open door");
    let commands = sender.commands();
    let mut times = Vec::new();
    for _ in 0..5_000 {
        let begun = Instant::now();
        commands.send(contract::cancel(contract::id(1))).await.expect("a reply");
        times.push(begun.elapsed());
    }
    show("command, one at a time", times);
    let begun = Instant::now();
    let sends = (0..20_000).map(|_| commands.send(contract::cancel(contract::id(1))));
    futures::stream::iter(sends)
        .for_each_concurrent(64, |sent| async { drop(sent.await.expect("a reply")) })
        .await;
    println!("commands, 64 at a time: {:.0}/s", 20_000.0 / begun.elapsed().as_secs_f64());
    owner.doors().close(Partition(1)).await;
}

/// 5,000 events a second in batches of ten, for five seconds.
async fn feed(owner: &NatsBus, reader: &NatsBus) {
    let (feed, mut subscription) = (owner.feed(), reader.feed().subscribe());
    until_heard(&*feed, &mut *subscription).await;
    let sent = Arc::new(Mutex::new(Vec::new()));
    let noted = sent.clone();
    let publishing = tokio::spawn(async move {
        let mut clock = tokio::time::interval(Duration::from_millis(2));
        for number in 0..2_500 {
            clock.tick().await;
            let first_offset = number * 10 + 1;
            let events = (first_offset..first_offset + 10).map(contract::event).collect();
            noted.lock().expect("the times").push(Instant::now());
            feed.publish(CommittedBatch { partition: Partition(3), first_offset, events });
        }
    });
    let mut times = Vec::new();
    while times.len() < 2_500 {
        match soon("a batch", subscription.next()).await {
            Some(FeedMessage::Batch(batch)) => {
                let index = (batch.first_offset / 10) as usize;
                times.push(sent.lock().expect("the times")[index].elapsed());
            }
            other => panic!("{other:?}"),
        }
    }
    publishing.await.expect("a publisher that ends");
    show("feed at 5,000 events/s, publish to another process's subscriber, per batch", times);
}

async fn tasks(owner: &NatsBus, worker: &NatsBus) {
    let (owner, worker) = (owner.tasks(), worker.tasks());
    let mut times = Vec::new();
    for number in 0..2_000 {
        let begun = Instant::now();
        owner.publish(contract::task(number)).await;
        soon("a task", worker.pull(&HTTP)).await.expect("a task");
        times.push(begun.elapsed());
    }
    show("task, publish to pulled, one at a time", times);
    let begun = Instant::now();
    let pullers: Vec<_> = (0..64)
        .map(|_| {
            let worker = worker.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), worker.pull(&HTTP)).await
                {
                    count += 1;
                }
                (count, Instant::now())
            })
        })
        .collect();
    for number in 0..20_000 {
        owner.publish(contract::task(10_000 + number)).await;
    }
    let mut count = 0;
    let mut last = begun;
    for puller in pullers {
        let (pulled, end) = puller.await.expect("a worker that ends");
        count += pulled;
        last = last.max(end);
    }
    let took = last - begun - Duration::from_secs(1);
    println!("tasks, 64 pullers: {count} in {took:?}, {:.0}/s", f64::from(count) / took.as_secs_f64());
}

async fn events(server: &NatsServer) {
    let roomy = NatsOptions { events_max_bytes: 1 << 30, ..options(server) };
    let publisher = NatsBus::connect(roomy).await.expect("a bus").events();
    publisher.reset().await.expect("a publisher");
    for at_once in [100, 500, 5_000] {
        let events: Vec<_> =
            (0..100_000).map(|number| contract::event(at_once * 1_000_000 + number)).collect();
        let begun = Instant::now();
        for part in events.chunks(at_once as usize) {
            publisher.publish(part).await.expect("stored events");
        }
        println!("events, {at_once} a call: {:.0}/s", 100_000.0 / begun.elapsed().as_secs_f64());
    }
    subscriber(server, &*publisher).await;
}

/// 5,000 events a second in calls of ten, to a subscriber of the subjects.
async fn subscriber(server: &NatsServer, publisher: &dyn bus::EventPublisher) {
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let mut messages = client.subscribe("everline.evt.>").await.expect("a subscription");
    client.flush().await.expect("a connection");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let first = 900_000_000;
    let begun = tokio::time::Instant::now();
    let due = |call: u64| begun + Duration::from_millis(2 * call);
    let publishing = async {
        for call in 0..2_500 {
            tokio::time::sleep_until(due(call)).await;
            let events: Vec<_> = (0..10).map(|number| contract::event(first + call * 10 + number)).collect();
            publisher.publish(&events).await.expect("stored events");
        }
    };
    let hearing = async {
        let mut times = Vec::new();
        while times.len() < 25_000 {
            let message = soon("an event", messages.next()).await.expect("an event");
            let headers = message.headers.expect("headers");
            let position = headers.get("ce-position").expect("a position").as_str();
            let offset: u64 = position.rsplit(':').next().expect("an offset").parse().expect("an offset");
            times.push(due((offset - first) / 10).elapsed());
        }
        times
    };
    let (times, ()) = tokio::join!(hearing, publishing);
    show("event at 5,000/s, due to a subscriber of EVERLINE_EVENTS' subjects", times);
}
