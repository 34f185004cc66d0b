//! The in-process bus against the contract of the ports.

use bus::contract;
use bus::in_process::{InProcessCommands, InProcessFeed, InProcessTasks};
use std::sync::Arc;

#[tokio::test]
async fn in_process_commands_are_answered_by_their_handler() {
    let commands = InProcessCommands::new();
    contract::a_command_without_an_owner_is_refused(&commands).await;
    commands.serve(Arc::new(contract::CountingHandler::default()));
    contract::a_command_is_answered_by_the_handler(&commands).await;
}

#[tokio::test]
async fn in_process_feed_keeps_order_and_never_blocks() {
    contract::the_feed_keeps_the_order_of_a_partition(&InProcessFeed::new()).await;
    contract::a_slow_subscriber_lags_and_blocks_nobody(&InProcessFeed::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_process_tasks_reach_one_worker_of_their_type() {
    contract::every_task_reaches_one_worker(Arc::new(InProcessTasks::new())).await;
    contract::a_worker_gets_only_its_types(&InProcessTasks::new()).await;
}

#[tokio::test]
async fn in_process_beats_and_cancellations_arrive() {
    contract::a_beat_reaches_the_owner(&InProcessTasks::new()).await;
    contract::a_cancellation_reaches_every_worker(&InProcessTasks::new()).await;
}

#[tokio::test]
async fn in_process_tasks_that_are_cancelled_are_not_delivered() {
    contract::a_cancelled_task_is_not_delivered(&InProcessTasks::new()).await;
    contract::a_task_cancelled_before_its_publish_is_not_delivered(&InProcessTasks::new()).await;
}
