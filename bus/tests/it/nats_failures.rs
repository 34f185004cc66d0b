//! Servers that die, come back, or forget everything; owners that fall silent; messages that are too large.

use crate::nats::{bus, connected, on_both, options, server, soon, told, until};
use crate::nats_contract::until_heard;
use async_trait::async_trait;
use bus::contract::{self, CountingHandler, HeldHandler};
use bus::feed::{CommittedBatch, FeedMessage};
use bus::nats::{NatsBus, NatsOptions};
use bus::{CommandError, CommandHandler, CommandReply, EventPublisher, TaskQueue, Waiting};
use domain::command::{Command, CommandEnvelope};
use domain::event::RecordedEvent;
use domain::execution::command::ExecutionCommand;
use domain::ids::{Partition, Position};
use domain::node_type::NodeType;
use futures::StreamExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use test_services::{NatsServer, NatsVersion};

on_both!(
    a_command_is_answered_across_a_restart_of_the_server,
    a_command_goes_to_the_new_owner_where_the_old_one_falls_silent,
    the_owners_answer_wins_over_one_who_is_not_the_owner_any_more,
    a_command_that_takes_long_is_decided_once,
    tasks_published_and_pulled_while_the_server_is_down_arrive_afterwards,
    a_wiped_store_is_made_anew_and_publishing_goes_on,
    the_stream_holds_a_prefix_of_what_was_sent_whenever_the_server_dies,
    the_feed_says_that_it_missed_something_and_goes_on,
    what_is_too_large_is_refused_or_announced,
    a_task_that_nobody_takes_goes_back,
);

const HTTP: [NodeType; 1] = [NodeType::HttpRequest];

fn patient(server: &NatsServer) -> NatsOptions {
    NatsOptions { command_deadline: Duration::from_secs(20), ..options(server) }
}

async fn restart(server: &mut NatsServer) {
    server.kill().await.expect("a dead server");
    server.start_again().await.expect("a server again");
}

async fn a_command_is_answered_across_a_restart_of_the_server(version: NatsVersion) {
    let mut server = server(version).await;
    let (owner, sender) = (bus(&server).await, connected(patient(&server)).await);
    owner.doors().open(Partition(1), Arc::new(CountingHandler::default())).await.expect("an open door");
    server.kill().await.expect("a dead server");
    until("a lost connection", || async { !sender.status().connected && !owner.status().connected }).await;
    // A door that is opened meanwhile opens with the connection.
    owner
        .doors()
        .open(Partition(2), Arc::new(CountingHandler::default()))
        .await
        .expect("a door that will be open");
    let sent: Vec<_> = [1, 2]
        .map(|slot| {
            let commands = sender.commands();
            tokio::spawn(async move { commands.send(contract::cancel(contract::id(slot))).await })
        })
        .into();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.start_again().await.expect("a server again");
    let back = Instant::now();
    for reply in sent {
        soon("an answer", reply).await.expect("a sender that ends").expect("a reply");
    }
    assert!(back.elapsed() < Duration::from_secs(4), "answered {:?} after the restart", back.elapsed());
}

async fn a_command_goes_to_the_new_owner_where_the_old_one_falls_silent(version: NatsVersion) {
    let server = server(version).await;
    let (old, new, sender) = (bus(&server).await, bus(&server).await, connected(patient(&server)).await);
    let silent = Arc::new(HeldHandler::default());
    old.doors().open(Partition(1), silent.clone()).await.expect("an open door");
    let commands = sender.commands();
    let sent = tokio::spawn(async move { commands.send(contract::cancel(contract::id(1))).await });
    soon("a command", silent.entered.notified()).await;
    new.doors().open(Partition(1), Arc::new(CountingHandler::default())).await.expect("an open door");
    let taken_over = Instant::now();
    soon("an answer", sent).await.expect("a sender that ends").expect("a reply");
    assert!(taken_over.elapsed() < Duration::from_secs(2), "answered after {:?}", taken_over.elapsed());
}

/// Has lost its partition and not closed its door yet.
#[derive(Default)]
struct NotMineAnyMore(AtomicUsize);

#[async_trait]
impl CommandHandler for NotMineAnyMore {
    async fn handle(&self, _command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(CommandError::NotOwner)
    }
}

async fn the_owners_answer_wins_over_one_who_is_not_the_owner_any_more(version: NatsVersion) {
    let server = server(version).await;
    let (old, new) = (bus(&server).await, bus(&server).await);
    let refusing = Arc::new(NotMineAnyMore::default());
    old.doors().open(Partition(1), refusing.clone()).await.expect("an open door");
    let sender = connected(patient(&server)).await.commands();
    let begun = Instant::now();
    let sent = tokio::spawn(async move { sender.send(contract::cancel(contract::id(1))).await });
    // Its word makes the sender ask again soon, so that a new owner is found soon.
    until("another attempt", || async { refusing.0.load(Ordering::SeqCst) >= 3 }).await;
    assert!(begun.elapsed() < Duration::from_millis(900), "asked again after {:?}", begun.elapsed());
    let held = Arc::new(HeldHandler::default());
    new.doors().open(Partition(1), held.clone()).await.expect("an open door");
    soon("a command", held.entered.notified()).await;
    // The new owner decides it; meanwhile the old one answers each attempt.
    let refused = refusing.0.load(Ordering::SeqCst);
    until("refusals", || async { refusing.0.load(Ordering::SeqCst) > refused + 2 }).await;
    held.release.notify_one();
    let reply = soon("an answer", sent).await.expect("a sender that ends").expect("a reply");
    assert_eq!(reply.answer, "held");
}

/// Takes longer than an attempt.
#[derive(Default)]
struct SlowHandler(AtomicUsize);

#[async_trait]
impl CommandHandler for SlowHandler {
    async fn handle(&self, _command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        Ok(CommandReply { answer: "slow".into(), position: None, repeated: false })
    }
}

async fn a_command_that_takes_long_is_decided_once(version: NatsVersion) {
    let server = server(version).await;
    let (owner, sender) = (bus(&server).await, connected(patient(&server)).await);
    let slow = Arc::new(SlowHandler::default());
    owner.doors().open(Partition(1), slow.clone()).await.expect("an open door");
    let reply = sender.commands().send(contract::cancel(contract::id(1))).await.expect("a reply");
    assert_eq!((reply.answer, slow.0.load(Ordering::SeqCst)), ("slow".into(), 1));
    // And its outcome is not known where it takes longer than the deadline.
    let hasty =
        connected(NatsOptions { command_deadline: Duration::from_millis(500), ..options(&server) }).await;
    let error =
        hasty.commands().send(contract::cancel(contract::id(1))).await.expect_err("no answer in time");
    assert!(matches!(error, CommandError::Unknown(_)), "{error}");
}

async fn pull(queue: &dyn TaskQueue, wanted: usize) -> HashSet<bus::TaskRef> {
    let mut seen = HashSet::new();
    while seen.len() < wanted {
        seen.extend(soon("a task", queue.pull(&HTTP)).await.map(|task| task.task));
    }
    seen
}

async fn tasks_published_and_pulled_while_the_server_is_down_arrive_afterwards(version: NatsVersion) {
    let mut server = server(version).await;
    let (owner, worker) = (bus(&server).await, bus(&server).await);
    owner.tasks().publish(contract::task(0)).await;
    assert_eq!(pull(&*worker.tasks(), 1).await.len(), 1);
    let tasks = worker.tasks();
    let pulling = tokio::spawn(async move { (pull(&*tasks, 50).await, Instant::now()) });
    server.kill().await.expect("a dead server");
    until("a lost connection", || async { !owner.status().connected && !worker.status().connected }).await;
    let begun = Instant::now();
    for number in 1..=50 {
        owner.tasks().publish(contract::task(number)).await;
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "publishing waits for NATS");
    assert_eq!(owner.tasks().is_waiting(&contract::task(1).task).await, Waiting::Yes);
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.start_again().await.expect("a server again");
    let back = Instant::now();
    let (seen, done) = soon("the tasks", pulling).await.expect("a worker that ends");
    assert_eq!(seen, (1..=50).map(|number| contract::task(number).task).collect());
    assert!(done - back < Duration::from_secs(4), "resumed after {:?}", done - back);
}

async fn a_wiped_store_is_made_anew_and_publishing_goes_on(version: NatsVersion) {
    let mut server = server(version).await;
    let (owner, worker) = (bus(&server).await, bus(&server).await);
    owner.tasks().publish(contract::task(0)).await;
    pull(&*worker.tasks(), 1).await;
    owner.tasks().publish(contract::task(1)).await;
    let events = owner.events();
    events.reset().await.expect("a publisher");
    events.publish(&(1..=5).map(contract::event).collect::<Vec<_>>()).await.expect("stored events");
    until("a stored task", || async {
        owner.tasks().is_waiting(&contract::task(1).task).await == Waiting::Yes
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.kill().await.expect("a dead server");
    server.wipe_store().await.expect("an empty store");
    server.start_again().await.expect("a server again");
    // The next task has the number that the lost one had.
    owner.tasks().publish(contract::task(2)).await;
    assert_eq!(pull(&*worker.tasks(), 1).await, HashSet::from([contract::task(2).task]));
    contract::until_gone(&*owner.tasks(), 1).await;
    assert!(events.publish(&[contract::event(6)]).await.is_err(), "the connection was lost");
    events.reset().await.expect("a publisher again");
    assert_eq!(events.last_published(Partition(3)).await.expect("an answer"), None);
    events
        .publish(&[contract::event(4), contract::event(5), contract::event(6)])
        .await
        .expect("stored events");
    assert_eq!(positions(&server).await, [4, 5, 6]);
}

/// The offsets in the stream, in its order.
async fn positions(server: &NatsServer) -> Vec<u64> {
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("a connection"));
    let mut stream = context.get_stream("EVERLINE_EVENTS").await.expect("the stream");
    let count = stream.info().await.expect("its state").state.messages;
    let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let messages = consumer.messages().await.expect("messages");
    let offsets = messages.take(count as usize).map(|message| {
        let message = message.expect("a message");
        let headers = message.headers.as_ref().expect("headers");
        let position: Position =
            headers.get("ce-position").expect("a position").as_str().parse().expect("a position");
        position.offset
    });
    soon("the stream", offsets.collect()).await
}

async fn ready(events: &dyn EventPublisher) -> u64 {
    let ready = async {
        loop {
            if events.reset().await.is_ok()
                && let Ok(last) = events.last_published(Partition(3)).await
            {
                return last.map_or(1, |position| position.offset + 1);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a publisher", ready).await
}

async fn the_stream_holds_a_prefix_of_what_was_sent_whenever_the_server_dies(version: NatsVersion) {
    let mut server = server(version).await;
    let owner = bus(&server).await;
    let events = owner.events();
    let publishing = {
        let events = events.clone();
        async move {
            let mut next = ready(&*events).await;
            let mut failures = 0;
            while next <= 30_000 {
                let batch: Vec<_> = (next..next + 700).map(contract::event).collect();
                match events.publish(&batch).await {
                    Ok(()) => next += 700,
                    Err(_) => {
                        failures += 1;
                        next = ready(&*events).await;
                    }
                }
            }
            (next, failures)
        }
    };
    let publishing = tokio::spawn(publishing);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        restart(&mut server).await;
    }
    let (next, failures) =
        tokio::time::timeout(Duration::from_secs(60), publishing).await.expect("in time").expect("an end");
    assert!(failures > 0, "the server never died while something was published");
    assert_eq!(positions(&server).await, (1..next).collect::<Vec<_>>());
}

async fn the_feed_says_that_it_missed_something_and_goes_on(version: NatsVersion) {
    let mut server = server(version).await;
    let (owner, reader) = (bus(&server).await, bus(&server).await);
    let (feed, mut subscription) = (owner.feed(), reader.feed().subscribe());
    until_heard(&*feed, &mut *subscription).await;
    restart(&mut server).await;
    soon("a word of what was missed", async {
        while !matches!(subscription.next().await, Some(FeedMessage::Lagged)) {}
    })
    .await;
    until("a connection", || async { owner.status().connected }).await;
    until_heard(&*feed, &mut *subscription).await;
    contract::the_feed_keeps_the_order_of_a_partition(&*feed, &mut *subscription).await;
}

fn large_event(offset: u64, bytes: usize) -> Arc<RecordedEvent> {
    let data = format!(r#"{{"code":"{}"}}"#, "x".repeat(bytes));
    Arc::new(RecordedEvent { data: data.into(), ..(*contract::event(offset)).clone() })
}

async fn small_server(version: NatsVersion) -> NatsServer {
    let file =
        std::env::temp_dir().join(format!("everline-bus-test-{}-{version:?}.conf", std::process::id()));
    std::fs::write(&file, "max_payload: 16384\n").expect("a configuration");
    let path = file.to_str().expect("a path");
    let server = NatsServer::start_with(version, &["--config", path]).await.expect("a nats-server");
    let _ = std::fs::remove_file(file);
    server
}

async fn what_is_too_large_is_refused_or_announced(version: NatsVersion) {
    let server = small_server(version).await;
    let (owner, reader) = (bus(&server).await, bus(&server).await);
    a_large_batch_is_cut(&owner, &reader).await;

    owner.doors().open(Partition(1), Arc::new(CountingHandler::default())).await.expect("an open door");
    let command = Command::Execution(ExecutionCommand::Cancel { reason: Some("x".repeat(20_000)) });
    let command = CommandEnvelope { command, ..contract::cancel(contract::id(1)) };
    match reader.commands().send(command).await {
        Err(CommandError::Rejected(rejection)) => {
            assert_eq!(rejection.code, "command_too_large");
            assert!(rejection.detail.contains("max_payload"), "{}", rejection.detail);
        }
        other => panic!("{other:?}"),
    }

    let mut task = contract::task(1);
    task.config = "x".repeat(20_000).into();
    owner.tasks().publish(task).await;
    owner.tasks().publish(contract::task(2)).await;
    assert_eq!(pull(&*reader.tasks(), 1).await, HashSet::from([contract::task(2).task]));
    // Its owner does not publish it again; its deadline ends it.
    assert_eq!(owner.tasks().is_waiting(&contract::task(1).task).await, Waiting::Yes);

    let events = owner.events();
    events.reset().await.expect("a publisher");
    let large = [contract::event(1), large_event(2, 20_000), contract::event(3)];
    events.publish(&large).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(positions(&server).await, [1, 2, 3]);
}

async fn a_large_batch_is_cut(owner: &NatsBus, reader: &NatsBus) {
    let (feed, mut subscription) = (owner.feed(), reader.feed().subscribe());
    until_heard(&*feed, &mut *subscription).await;
    let events =
        vec![large_event(1, 9_000), large_event(2, 9_000), large_event(3, 20_000), large_event(4, 10)];
    feed.publish(CommittedBatch { partition: Partition(3), first_offset: 1, events: events.clone() });
    for (first_offset, expected) in [(1, &events[..1]), (2, &events[1..2]), (4, &[]), (4, &events[3..])] {
        match soon("a batch", subscription.next()).await {
            Some(FeedMessage::Batch(batch)) => {
                assert_eq!((batch.first_offset, &batch.events[..]), (first_offset, expected));
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_task_that_nobody_takes_goes_back(version: NatsVersion) {
    let server = server(version).await;
    let (owner, worker, other) = (bus(&server).await, bus(&server).await, bus(&server).await);
    // Its request waits at the server when it gives up.
    let tasks = worker.tasks();
    assert!(tokio::time::timeout(Duration::from_millis(500), tasks.pull(&HTTP)).await.is_err());
    owner.tasks().publish(contract::task(1)).await;
    let begun = Instant::now();
    assert_eq!(pull(&*other.tasks(), 1).await, HashSet::from([contract::task(1).task]));
    assert!(begun.elapsed() < Duration::from_secs(3), "it came after {:?}", begun.elapsed());
}
