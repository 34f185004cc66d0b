//! The bus on NATS against the contract of the ports, on the oldest server and a new one.

use crate::nats::{bus, on_both, server, soon};
use bus::contract;
use bus::feed::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
use domain::ids::Partition;
use std::sync::Arc;
use std::time::Duration;
use test_services::NatsVersion;

on_both!(
    commands_are_answered_by_their_owner,
    the_feed_keeps_order_and_never_blocks,
    tasks_reach_one_worker_of_their_type,
    beats_and_cancellations_arrive,
    tasks_that_are_cancelled_are_not_delivered,
    events_are_published_in_order,
);

async fn commands_are_answered_by_their_owner(version: NatsVersion) {
    let server = server(version).await;
    let (owner, sender) = (bus(&server).await, bus(&server).await);
    let commands = sender.commands();
    contract::a_command_without_an_owner_is_refused(&*commands).await;
    contract::doors_take_commands_until_they_are_closed(&*commands, &*owner.doors()).await;
    contract::a_closing_door_answers_what_has_come_in(commands.clone(), &*owner.doors()).await;
    let handler = Arc::new(contract::CountingHandler::default());
    owner.doors().open(Partition(1), handler).await.expect("an open door");
    contract::a_command_is_answered_by_the_handler(&*commands).await;
    // And by an owner in the sender's own process.
    contract::doors_take_commands_until_they_are_closed(&*owner.commands(), &*owner.doors()).await;
}

/// Waits until batches of one process reach another.
pub(crate) async fn until_heard(from: &dyn CommitFeed, to: &mut dyn FeedSubscription) {
    let probe = || CommittedBatch { partition: Partition(9), first_offset: 1, events: Vec::new() };
    let end = CommittedBatch { first_offset: 2, ..probe() };
    let heard = |message: Option<FeedMessage>, offset| matches!(message, Some(FeedMessage::Batch(batch)) if batch.partition == Partition(9) && batch.first_offset == offset);
    soon("a first batch", async {
        loop {
            from.publish(probe());
            let next = tokio::time::timeout(Duration::from_millis(50), to.next()).await;
            if next.is_ok_and(|message| heard(message, 1)) {
                break;
            }
        }
        from.publish(end);
        while !heard(to.next().await, 2) {}
    })
    .await;
}

async fn the_feed_keeps_order_and_never_blocks(version: NatsVersion) {
    let server = server(version).await;
    let (owner, reader) = (bus(&server).await, bus(&server).await);
    let (feed, mut subscription) = (owner.feed(), reader.feed().subscribe());
    until_heard(&*feed, &mut *subscription).await;
    contract::the_feed_keeps_the_order_of_a_partition(&*feed, &mut *subscription).await;
    // Within the process too, and what it published itself comes once.
    let mut own = feed.subscribe();
    until_heard(&*reader.feed(), &mut *own).await;
    contract::the_feed_keeps_the_order_of_a_partition(&*feed, &mut *own).await;
    contract::a_slow_subscriber_lags_and_blocks_nobody(&*feed).await;
    owner.close().await;
    soon("the end of the feed", async { while own.next().await.is_some() {} }).await;
}

async fn tasks_reach_one_worker_of_their_type(version: NatsVersion) {
    let server = server(version).await;
    let (owner, worker) = (bus(&server).await, bus(&server).await);
    contract::every_task_reaches_one_worker(&*owner.tasks(), worker.tasks()).await;
    contract::a_worker_gets_only_its_types(&*owner.tasks(), &*worker.tasks()).await;
    contract::the_owner_learns_whether_a_task_waits(&*owner.tasks(), &*worker.tasks()).await;
    contract::every_task_reaches_one_worker(&*owner.tasks(), owner.tasks()).await;
    worker.close().await;
    let types = [domain::node_type::NodeType::HttpRequest];
    assert!(soon("the end of the queue", worker.tasks().pull(&types)).await.is_none());
    assert!(soon("the end of the beats", worker.tasks().next_beat()).await.is_none());
}

async fn beats_and_cancellations_arrive(version: NatsVersion) {
    let server = server(version).await;
    let (owner, worker) = (bus(&server).await, bus(&server).await);
    contract::beats_reach_the_owner(&*owner.tasks(), &*worker.tasks()).await;
    contract::beats_reach_the_owner(&*owner.tasks(), &*owner.tasks()).await;
    contract::a_cancellation_reaches_every_worker(&*owner.tasks()).await;
    let mut cancelled = worker.tasks().cancellations();
    let heard = async {
        loop {
            owner.tasks().cancel(contract::task(8).task);
            let next = tokio::time::timeout(Duration::from_millis(50), cancelled.recv()).await;
            if next.is_ok_and(|task| task.is_ok_and(|task| task == contract::task(8).task)) {
                break;
            }
        }
    };
    soon("a request to stop", heard).await;
}

async fn tasks_that_are_cancelled_are_not_delivered(version: NatsVersion) {
    let server = server(version).await;
    let (owner, worker) = (bus(&server).await, bus(&server).await);
    contract::a_cancelled_task_is_not_delivered(&*owner.tasks(), &*worker.tasks()).await;
    let owner = bus(&server).await;
    contract::a_task_cancelled_before_its_publish_is_not_delivered(
        &*owner.tasks(),
        &*bus(&server).await.tasks(),
    )
    .await;
}

async fn events_are_published_in_order(version: NatsVersion) {
    let server = server(version).await;
    contract::published_events_are_in_order(&*bus(&server).await.events()).await;
}
