//! The in-process bus against the contract of the ports.

use bus::contract;
use bus::feed::CommitFeed;
use bus::in_process::{InProcessCommands, InProcessFeed, InProcessTasks};
use bus::routed::RoutedCommands;
use bus::tasks::TaskQueue;
use std::sync::Arc;

#[tokio::test]
async fn commands_are_answered_by_their_handler() {
    let commands = InProcessCommands::new();
    contract::a_command_without_an_owner_is_refused(&commands).await;
    commands.serve(Arc::new(contract::CountingHandler::default()));
    contract::a_command_is_answered_by_the_handler(&commands).await;
}

#[tokio::test]
async fn routed_commands_go_elsewhere_only_where_this_process_is_not_the_owner() {
    let handler = Arc::new(contract::CountingHandler::default());
    let nowhere = Arc::new(InProcessCommands::new());
    let here = RoutedCommands::new(handler.clone(), nowhere.clone());
    contract::a_command_is_answered_by_the_handler(&here).await;
    let there = Arc::new(InProcessCommands::new());
    there.serve(Arc::new(contract::CountingHandler::default()));
    contract::a_command_is_answered_by_the_handler(&RoutedCommands::new(Arc::new(NotMine), there)).await;
    contract::a_command_without_an_owner_is_refused(&RoutedCommands::new(Arc::new(NotMine), nowhere)).await;
}

struct NotMine;

#[async_trait::async_trait]
impl bus::CommandHandler for NotMine {
    async fn handle(
        &self,
        _command: domain::command::CommandEnvelope,
    ) -> Result<bus::CommandReply, bus::CommandError> {
        Err(bus::CommandError::NotOwner)
    }
}

#[tokio::test]
async fn the_feed_keeps_order_and_never_blocks() {
    let feed = InProcessFeed::new();
    let mut subscription = feed.subscribe();
    contract::the_feed_keeps_the_order_of_a_partition(&feed, &mut *subscription).await;
    contract::a_slow_subscriber_lags_and_blocks_nobody(&InProcessFeed::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_reach_one_worker_of_their_type() {
    let queue = Arc::new(InProcessTasks::new());
    contract::every_task_reaches_one_worker(&*queue, queue.clone()).await;
    let queue = InProcessTasks::new();
    contract::a_worker_gets_only_its_types(&queue, &queue).await;
    let queue = InProcessTasks::new();
    contract::the_owner_learns_whether_a_task_waits(&queue, &queue).await;
}

#[tokio::test]
async fn beats_and_cancellations_arrive() {
    contract::a_beat_reaches_the_owner(&InProcessTasks::new()).await;
    let queue = InProcessTasks::new();
    contract::beats_reach_the_owner(&queue, &queue).await;
    contract::a_cancellation_reaches_every_worker(&InProcessTasks::new()).await;
}

#[tokio::test]
async fn tasks_that_are_cancelled_are_not_delivered() {
    let queue = InProcessTasks::new();
    contract::a_cancelled_task_is_not_delivered(&queue, &queue).await;
    // At once, without a wait.
    let queue = InProcessTasks::new();
    queue.publish(contract::task(1)).await;
    queue.cancel(contract::task(1).task);
    assert_eq!(queue.is_waiting(&contract::task(1).task).await, bus::Waiting::No);
    let queue = InProcessTasks::new();
    contract::a_task_cancelled_before_its_publish_is_not_delivered(&queue, &queue).await;
}
