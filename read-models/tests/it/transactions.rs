//! Checkpoints, parked streams, waiting and rebuilding.

use std::time::Duration;

use domain::ids::{Partition, Position};
use read_models::{Advance, ExecutionFilter, MAIN_PROJECTION, ReadModelError, ReadModels, Table};

use crate::{
    Backend, LONG, Place, everything, id, models, on_every_backend, put, tenant, view, workflow, write,
};

const P0: Partition = Partition(0);
const P5: Partition = Partition(5);

on_every_backend!(
    a_writer_that_lost_the_race_is_told_and_leaves_nothing,
    projections_have_checkpoints_of_their_own,
    a_waiter_is_woken_by_the_commit_that_reaches_its_position,
    a_waiter_sees_what_another_process_writes,
    what_was_reached_before_is_known_after_opening_again,
    a_parked_stream_keeps_its_first_reason_and_counts_what_is_skipped,
    a_rebuild_is_invisible_until_it_is_swapped_in_and_can_be_done_again_and_again,
    an_unfinished_rebuild_leaves_nothing_behind_for_the_next,
);

async fn advance(models: &ReadModels, partition: Partition, from: u64, to: u64) {
    let mut tx = models.begin().await.unwrap();
    tx.advance_checkpoint(MAIN_PROJECTION, partition, from, to).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_writer_that_lost_the_race_is_told_and_leaves_nothing(backend: Backend) {
    let models = models(backend).await;
    advance(&models, P5, 0, 10).await;
    let mut tx = models.begin().await.unwrap();
    put(&mut tx, &[view(1)]).await;
    let both = [Advance { partition: P0, from: 0, to: 3 }, Advance { partition: P5, from: 8, to: 12 }];
    let lost = tx.advance_checkpoints(MAIN_PROJECTION, &both).await;
    assert!(
        matches!(&lost, Err(ReadModelError::Conflict { partition: P5, expected: 8, actual: 10, .. })),
        "{lost:?}"
    );
    drop(tx);
    assert_eq!(models.execution(&tenant(), id(1)).await.unwrap(), None);
    assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), [(P5, 10)]);
    assert_eq!(models.begin().await.unwrap().checkpoint(MAIN_PROJECTION, P5).await.unwrap(), 10);
}

async fn projections_have_checkpoints_of_their_own(backend: Backend) {
    let models = models(backend).await;
    advance(&models, P5, 0, 10).await;
    let mut tx = models.begin().await.unwrap();
    tx.advance_checkpoint("analytics", P5, 0, 4).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(models.checkpoints("analytics").await.unwrap(), [(P5, 4)]);
    let mut tx = models.begin().await.unwrap();
    tx.clear("analytics").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(models.checkpoints("analytics").await.unwrap(), []);
    assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), [(P5, 10)]);
}

async fn a_waiter_is_woken_by_the_commit_that_reaches_its_position(backend: Backend) {
    let models = models(backend).await;
    let waiter = tokio::spawn({
        let models = models.clone();
        async move { models.wait_for(&[(P0, 2), (P5, 10)], LONG).await }
    });
    advance(&models, P5, 0, 10).await;
    advance(&models, P0, 0, 1).await;
    assert!(!waiter.is_finished());
    advance(&models, P0, 1, 2).await;
    assert!(waiter.await.unwrap());
    assert!(models.wait_for(&[], Duration::ZERO).await);
    assert!(models.wait_for(&[(P5, 9)], Duration::ZERO).await);
    assert!(!models.wait_for(&[(P5, 11)], Duration::from_millis(30)).await);
}

async fn a_waiter_sees_what_another_process_writes(backend: Backend) {
    let place = Place::new(backend).await;
    let here = place.open().await;
    // A second handle shares nothing with the first but the database, as another process does.
    let there = place.open().await;
    let waiter = tokio::spawn(async move { here.wait_for(&[(P5, 3)], LONG).await });
    advance(&there, P5, 0, 3).await;
    assert!(waiter.await.unwrap());
}

async fn what_was_reached_before_is_known_after_opening_again(backend: Backend) {
    let place = Place::new(backend).await;
    let models = place.open().await;
    write(&models, &[view(1)]).await;
    advance(&models, P5, 0, 3).await;
    models.close().await;
    let models = place.open().await;
    assert!(models.wait_for(&[(P5, 3)], Duration::ZERO).await);
    assert_eq!(models.execution(&tenant(), id(1)).await.unwrap(), Some(view(1)));
}

async fn a_parked_stream_keeps_its_first_reason_and_counts_what_is_skipped(backend: Backend) {
    let models = models(backend).await;
    let mut tx = models.begin().await.unwrap();
    let position = Position { partition: P5, offset: 7 };
    tx.park_stream(MAIN_PROJECTION, id(1), position, "does not decode").await.unwrap();
    let later = Position { partition: P5, offset: 9 };
    tx.park_stream(MAIN_PROJECTION, id(1), later, "another").await.unwrap();
    tx.count_skipped(MAIN_PROJECTION, id(1), 3).await.unwrap();
    let found = tx.parked(MAIN_PROJECTION, &[id(1), id(2)]).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [id(1)]);
    tx.commit().await.unwrap();
    let parked = models.parked(MAIN_PROJECTION).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].stream, parked[0].position, parked[0].skipped), (id(1), position, 3));
    assert_eq!(parked[0].reason, "does not decode");
}

async fn a_rebuild_is_invisible_until_it_is_swapped_in_and_can_be_done_again_and_again(backend: Backend) {
    let models = models(backend).await;
    write(&models, &[view(1)]).await;
    advance(&models, P5, 0, 3).await;
    for generation in 1..=3 {
        models.start_rebuild().await.unwrap();
        let mut tx = models.begin_shadow().await.unwrap();
        put(&mut tx, &[view(1), view(2), view(2 + generation)]).await;
        tx.put_workflow(&workflow(7)).await.unwrap();
        tx.advance_checkpoint(MAIN_PROJECTION, P5, 0, 2 + generation).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(models.generation(MAIN_PROJECTION).await.unwrap(), generation - 1);
        assert_eq!(models.execution(&tenant(), id(2 + generation)).await.unwrap(), None);

        let mut tx = models.begin_shadow().await.unwrap();
        tx.swap_in().await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(models.generation(MAIN_PROJECTION).await.unwrap(), generation);
        let filter = ExecutionFilter { workflow_id: Some(id(1_000)), ..ExecutionFilter::default() };
        let page = models.executions(&everything(), &filter, None, 50).await.unwrap();
        let ids: Vec<_> = page.items.into_iter().map(|view| view.id).collect();
        let mut expected = vec![id(2 + generation), id(2), id(1)];
        expected.dedup();
        assert_eq!(ids, expected);
        assert_eq!(models.workflow(&tenant(), id(7)).await.unwrap(), Some(workflow(7)));
        assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), [(P5, 2 + generation)]);
        assert!(models.wait_for(&[(P5, 2 + generation)], Duration::ZERO).await);
        assert_eq!(models.dump_rows(Table::Executions).await.unwrap().len(), 3);
    }
}

async fn an_unfinished_rebuild_leaves_nothing_behind_for_the_next(backend: Backend) {
    let models = models(backend).await;
    models.start_rebuild().await.unwrap();
    let mut tx = models.begin_shadow().await.unwrap();
    put(&mut tx, &[view(1)]).await;
    tx.advance_checkpoint(MAIN_PROJECTION, P5, 0, 9).await.unwrap();
    tx.commit().await.unwrap();

    models.start_rebuild().await.unwrap();
    let mut tx = models.begin_shadow().await.unwrap();
    tx.advance_checkpoint(MAIN_PROJECTION, P5, 0, 1).await.unwrap();
    tx.swap_in().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(models.dump_rows(Table::Executions).await.unwrap(), Vec::<Vec<String>>::new());
    assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), [(P5, 1)]);
}
