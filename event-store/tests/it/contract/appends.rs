//! Promises of `append` and `take_over`.

use bytes::Bytes;
use std::sync::Arc;

use domain::decision::ClaimOp;
use domain::ids::{Partition, Position};
use event_store::log::{MAX_ANSWER_BYTES, MAX_APPEND_BYTES, MAX_APPEND_EVENTS, WakeupCursor};
use event_store::{AppendAnswer, AppendError, Batch, Log, LogReader, Refusal, StreamAppend};

use crate::support::{Owner, PARTITIONS, Store, append, claim, everything, losers, only, partition, stream};

pub(crate) async fn offsets_are_dense_over_many_batches_and_partitions(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let mut sent = [0; PARTITIONS as usize];
    for batch in 0..40u16 {
        let mut appends = Vec::new();
        for number in 0..(batch % 7) * 9 {
            let stream = stream((number * batch) % PARTITIONS);
            let count = u64::from(number % 5 + 1);
            sent[usize::from((number * batch) % PARTITIONS)] += count;
            appends.push(append(stream, 0, count));
        }
        owner.append(appends).await.unwrap();
    }
    for number in 0..PARTITIONS {
        let offsets: Vec<u64> =
            partition(&*owner.log, number).await.iter().map(|e| e.position.offset).collect();
        assert_eq!(offsets, (1..=sent[usize::from(number)]).collect::<Vec<_>>());
        assert_eq!(owner.heads[&Partition(number)].offset, sent[usize::from(number)]);
        owner.log.verify_chain(Partition(number)).await.unwrap();
    }
    let heads: Vec<_> = owner.heads.values().copied().collect();
    assert_eq!(owner.log.heads().await.unwrap(), heads);
}

pub(crate) async fn a_batch_answers_with_positions_heads_and_events_in_order(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (a, b, c) = (stream(2), stream(1), stream(2));
    owner.append(vec![append(a, 0, 2)]).await.unwrap();
    let committed = owner.append(vec![append(a, 2, 1), append(b, 0, 2), append(c, 0, 3)]).await.unwrap();
    let position = |partition, offset| Position { partition: Partition(partition), offset };
    assert_eq!(committed.positions, [position(2, 3), position(1, 2), position(2, 6)]);
    let events: Vec<_> = committed.events.iter().map(|e| (e.stream, e.version, e.position)).collect();
    assert_eq!(
        events,
        [
            (a, 3, position(2, 3)),
            (b, 1, position(1, 1)),
            (b, 2, position(1, 2)),
            (c, 1, position(2, 4)),
            (c, 2, position(2, 5)),
            (c, 3, position(2, 6)),
        ]
    );
    let heads: Vec<_> = committed.heads.iter().map(|head| (head.partition.0, head.offset)).collect();
    assert_eq!(heads, [(1, 2), (2, 6)]);
    assert_eq!(
        partition(&*owner.log, 2).await[2..],
        [
            committed.events[0].clone(),
            committed.events[3].clone(),
            committed.events[4].clone(),
            committed.events[5].clone()
        ]
    );
}

pub(crate) async fn an_append_across_streams_is_one_append(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (parent, child) = (stream(1), stream(1));
    let mut both = append(parent, 0, 2);
    both.streams.push(append(child, 0, 1).streams.remove(0));
    let committed = owner.append(vec![both.clone()]).await.unwrap();
    assert_eq!(committed.positions, [Position { partition: Partition(1), offset: 3 }]);
    both.command_id = stream(1);
    both.streams[0] = append(parent, 2, 1).streams.remove(0);
    // The child's version is wrong: the parent's events are not written either.
    let (index, refusal) = only(losers(owner.log.append(owner.unsure(vec![both])).await));
    assert_eq!((index, refusal), (0, Refusal::WrongVersion { stream: child, actual: 1 }));
    assert_eq!(owner.log.read_stream(parent, 0, 10).await.unwrap().len(), 2);
}

pub(crate) async fn a_wrong_version_is_refused_and_named_when_the_head_is_unknown(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (ahead, behind, right) = (stream(0), stream(1), stream(1));
    owner.append(vec![append(ahead, 0, 3), append(behind, 0, 3), append(right, 0, 3)]).await.unwrap();
    let appends = vec![append(right, 3, 1), append(ahead, 5, 1), append(behind, 1, 1), append(right, 4, 1)];
    let refused = losers(owner.log.append(owner.unsure(appends)).await);
    let refused: Vec<_> = refused.into_iter().map(|loser| (loser.index, loser.refusal)).collect();
    assert_eq!(
        refused,
        [
            (1, Refusal::WrongVersion { stream: ahead, actual: 3 }),
            (2, Refusal::WrongVersion { stream: behind, actual: 3 }),
        ]
    );
    let fine = owner.unsure(vec![append(right, 3, 1), append(right, 4, 2)]);
    assert_eq!(owner.log.append(fine).await.unwrap().positions[1].offset, 9);
}

pub(crate) async fn versions_are_trusted_when_the_head_is_known(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(3);
    owner.append(vec![append(stream, 0, 1)]).await.unwrap();
    owner.append(vec![append(stream, 1, 2), append(stream, 3, 1)]).await.unwrap();
    let versions: Vec<u64> =
        owner.log.read_stream(stream, 0, 10).await.unwrap().iter().map(|e| e.version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
}

pub(crate) async fn a_version_that_is_taken_is_refused_even_when_the_head_is_known(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (taken, other) = (stream(0), stream(0));
    owner.append(vec![append(taken, 0, 2)]).await.unwrap();
    let refused = owner.refused(vec![append(other, 0, 1), append(taken, 1, 1)]).await;
    assert_eq!(only(refused), (1, Refusal::WrongVersion { stream: taken, actual: 2 }));
    owner.append(vec![append(other, 0, 1), append(taken, 2, 1)]).await.unwrap();
}

pub(crate) async fn a_refused_batch_leaves_no_trace(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (first, second, third) = (stream(0), stream(1), stream(2));
    let done = append(first, 0, 1);
    owner.append(vec![done.clone()]).await.unwrap();
    let before = everything(&*owner.log).await;
    let fine = claim(crate::support::wakeup(append(second, 0, 4), 5), ClaimOp::Take, "name");
    let again = Arc::new([fine.clone(), append(third, 0, 2), done]);
    for _ in 0..2 {
        let refused = owner.refused(again.to_vec()).await;
        assert!(matches!(only(refused), (2, Refusal::Duplicate(_))));
        let refused = owner.log.append(owner.unsure(again.to_vec())).await;
        assert!(matches!(only(losers(refused)), (2, Refusal::Duplicate(_))));
    }
    assert_eq!(everything(&*owner.log).await, before);
    assert_eq!(owner.log.command_answer(Partition(1), fine.command_id).await.unwrap(), None);
    assert_eq!(owner.log.claim_holder(&fine.tenant, "workflow_name", "name").await.unwrap(), None);
    let (from, to) = (crate::support::at(0), crate::support::at(10));
    assert_eq!(
        owner.log.wakeups(Partition(1), &WakeupCursor::after_time(from), to, &[], 10).await.unwrap(),
        []
    );
    // Without the loser it is taken, at the offsets that would have been given.
    let committed = owner.append(again[..2].to_vec()).await.unwrap();
    assert_eq!(committed.positions[0], Position { partition: Partition(1), offset: 4 });
}

pub(crate) async fn every_loser_of_a_batch_is_named(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (holder, wrong) = (stream(0), stream(1));
    let done = claim(append(holder, 0, 1), ClaimOp::Take, "taken");
    owner.append(vec![done.clone(), append(wrong, 0, 1)]).await.unwrap();
    let appends = vec![
        append(stream(2), 0, 1),
        append(wrong, 0, 1),
        claim(append(stream(3), 0, 1), ClaimOp::Take, "taken"),
        append(stream(3), 0, 1),
        done,
    ];
    for batch in [owner.batch(appends.clone()), owner.unsure(appends)] {
        let refused = losers(owner.log.append(batch).await);
        let named = |refusal: &Refusal| match refusal {
            Refusal::Duplicate(_) => "duplicate",
            Refusal::WrongVersion { .. } => "version",
            Refusal::ClaimTaken { .. } => "claim",
        };
        let refused: Vec<_> = refused.iter().map(|l| (l.index, named(&l.refusal))).collect();
        assert_eq!(refused, [(1, "version"), (2, "claim"), (4, "duplicate")]);
    }
}

pub(crate) async fn what_follows_a_loser_in_its_stream_is_not_named(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (stream, wrong) = (stream(1), stream(1));
    let done = append(stream, 0, 1);
    owner.append(vec![done.clone(), append(wrong, 0, 1)]).await.unwrap();
    let mut duplicate = append(stream, 1, 1);
    duplicate.command_id = done.command_id;
    let appends = vec![duplicate, append(stream, 2, 1), append(wrong, 3, 1), append(wrong, 4, 1)];
    for batch in [owner.batch(appends.clone()), owner.unsure(appends)] {
        let refused = losers(owner.log.append(batch).await);
        assert_eq!(refused.iter().map(|loser| loser.index).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(refused[1].refusal, Refusal::WrongVersion { stream: wrong, actual: 1 });
    }
}

pub(crate) async fn a_duplicate_gets_the_first_answer(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(2);
    let mut first = append(stream, 0, 2);
    first.answer = Bytes::from_static(b"first");
    owner.append(vec![first.clone()]).await.unwrap();
    owner.append(vec![append(stream, 2, 1)]).await.unwrap();
    let mut second = append(stream, 3, 5);
    second.command_id = first.command_id;
    second.digest = None;
    second.answer = Bytes::from_static(b"second");
    let answer = AppendAnswer {
        answer: first.answer.clone(),
        digest: first.digest,
        position: Position { partition: Partition(2), offset: 2 },
    };
    assert_eq!(only(owner.refused(vec![second]).await), (0, Refusal::Duplicate(answer.clone())));
    let known = owner.log.command_answer(Partition(2), first.command_id).await.unwrap();
    assert_eq!(known, Some(answer));
    assert_eq!(owner.log.command_answer(Partition(1), first.command_id).await.unwrap(), None);
}

pub(crate) async fn a_duplicate_is_known_after_reopening(store: impl Store) {
    let first = append(stream(1), 0, 1);
    let mut owner = Owner::of(&store).await;
    owner.append(vec![first.clone()]).await.unwrap();
    drop(owner);
    let mut owner = Owner::of(&store).await;
    let (_, refusal) = only(owner.refused(vec![first.clone()]).await);
    let position = Position { partition: Partition(1), offset: 1 };
    assert_eq!(
        refusal,
        Refusal::Duplicate(AppendAnswer { answer: first.answer, digest: first.digest, position })
    );
}

pub(crate) async fn an_answer_without_events_is_kept(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(1);
    let mut silent = append(stream, 2, 0);
    silent.streams.clear();
    owner.append(vec![append(stream, 0, 2)]).await.unwrap();
    let committed = owner.append(vec![silent.clone()]).await.unwrap();
    let position = Position { partition: Partition(1), offset: 2 };
    assert_eq!(committed.positions, [position]);
    assert_eq!(committed.heads[0].offset, 2);
    let known = owner.log.command_answer(Partition(1), silent.command_id).await.unwrap().unwrap();
    assert_eq!(known.position, position);
    // It has no part in the chain, which goes on as if it had not been.
    owner.append(vec![append(stream, 2, 1)]).await.unwrap();
    assert_eq!(owner.log.verify_chain(Partition(1)).await.unwrap().commits, 2);
}

pub(crate) async fn a_command_twice_in_one_batch_is_the_callers_mistake(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let first = append(stream(1), 0, 1);
    let mut second = append(stream(1), 0, 1);
    second.command_id = first.command_id;
    for batch in [owner.batch(vec![first.clone(), second.clone()]), owner.unsure(vec![first.clone(), second])]
    {
        let outcome = owner.log.append(batch).await;
        assert!(matches!(outcome, Err(AppendError::Malformed { index: 1, .. })), "{outcome:?}");
    }
    owner.append(vec![first]).await.unwrap();
}

pub(crate) async fn an_older_epoch_is_fenced(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(1);
    owner.append(vec![append(stream, 0, 1)]).await.unwrap();
    let head = owner.log.take_over(Partition(1), uuid::Uuid::nil()).await.unwrap();
    assert_eq!((head.epoch, head.offset), (owner.heads[&Partition(1)].epoch + 1, 1));
    let outcome = owner.append(vec![append(crate::support::stream(0), 0, 1), append(stream, 1, 1)]).await;
    let fenced = matches!(outcome, Err(AppendError::Fenced { partition: Partition(1), offered, current })
        if current == head.epoch && offered + 1 == current);
    assert!(fenced, "{outcome:?}");
    assert_eq!(everything(&*owner.log).await.1.len(), 1);
    owner.heads.insert(Partition(1), head);
    owner.append(vec![append(stream, 1, 1)]).await.unwrap();
}

pub(crate) async fn taking_over_survives_reopening(store: impl Store) {
    let owner = Owner::of(&store).await;
    let first = owner.heads[&Partition(3)].epoch;
    let batch = owner.batch(vec![append(stream(3), 0, 1)]);
    drop(owner);
    let owner = Owner::of(&store).await;
    assert_eq!(owner.heads[&Partition(3)].epoch, first + 1);
    assert!(matches!(owner.log.append(batch).await, Err(AppendError::Fenced { .. })));
}

pub(crate) async fn an_append_that_is_too_large_is_refused(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let many = append(stream(0), 0, MAX_APPEND_EVENTS as u64 + 1);
    let outcome = owner.append(vec![append(stream(0), 0, 1), many]).await;
    assert!(matches!(outcome, Err(AppendError::TooLarge { index: 1, .. })), "{outcome:?}");
    let mut heavy = append(stream(0), 0, 1);
    heavy.streams[0].events[0].data = Bytes::from(vec![b' '; MAX_APPEND_BYTES + 1]);
    assert!(matches!(owner.append(vec![heavy]).await, Err(AppendError::TooLarge { index: 0, .. })));
    let most = append(stream(0), 0, MAX_APPEND_EVENTS as u64);
    assert_eq!(owner.append(vec![most]).await.unwrap().positions[0].offset, MAX_APPEND_EVENTS as u64);
}

pub(crate) async fn a_malformed_append_is_refused(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let good = || append(stream(1), 0, 2);
    let mut elsewhere = good();
    elsewhere.partition = Partition(2);
    let mut uncounted = good();
    uncounted.streams[0].events[1].version = 7;
    let mut foreign = good();
    foreign.streams[0].events[1].stream = stream(1);
    let mut homeless = claim(good(), ClaimOp::Take, "name");
    homeless.streams.clear();
    let mut talkative = good();
    talkative.answer = Bytes::from(vec![b' '; MAX_ANSWER_BYTES + 1]);
    for append in [elsewhere, uncounted, foreign, homeless, talkative] {
        let outcome = owner.append(vec![append]).await;
        assert!(matches!(outcome, Err(AppendError::Malformed { index: 0, .. })), "{outcome:?}");
    }
    let headless = Batch { heads: Vec::new(), appends: vec![good()] };
    assert!(matches!(owner.log.append(Arc::new(headless)).await, Err(AppendError::Malformed { .. })));
    let mut empty_stream = good();
    empty_stream.streams.push(StreamAppend { stream: stream(1), expected_version: 0, events: Vec::new() });
    owner.append(vec![empty_stream]).await.unwrap();
}

pub(crate) async fn an_empty_batch_changes_nothing(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let before = everything(&*owner.log).await;
    let committed = owner.append(Vec::new()).await.unwrap();
    assert_eq!((committed.events.len(), committed.positions.len()), (0, 0));
    assert_eq!(everything(&*owner.log).await, before);
}

pub(crate) async fn a_cancelled_append_leaves_the_log_whole(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let mut written = 0;
    for round in 0..60u64 {
        // Polled a different number of times and then dropped, so that it stops at every point there is.
        let log = Arc::clone(&owner.log);
        let batch = owner.unsure(vec![append(stream(1), 0, 600)]);
        let mut appending = Box::pin(async move { log.append(batch).await });
        for _ in 0..round {
            if is_done_after_a_poll(&mut appending).await {
                break;
            }
        }
        drop(appending);
        // Whatever became of it, the next owner goes on from what the log has.
        let head = owner.log.take_over(Partition(1), uuid::Uuid::nil()).await.unwrap();
        assert!(head.offset == written || head.offset == written + 600, "{head:?} after {written}");
        owner.heads.insert(Partition(1), head);
        owner.append(vec![append(stream(1), 0, 1)]).await.unwrap();
        written = head.offset + 1;
    }
    owner.log.verify_chain(Partition(1)).await.unwrap();
    assert_eq!(partition(&*owner.log, 1).await.len() as u64, written);
}

/// Polls once, then lets others run; whether it is done.
async fn is_done_after_a_poll<F: Future + Unpin>(future: &mut F) -> bool {
    let done = std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_ready())
    });
    let done = done.await;
    tokio::task::yield_now().await;
    // The database's thread needs a moment to get anywhere between two polls.
    std::thread::yield_now();
    done
}
