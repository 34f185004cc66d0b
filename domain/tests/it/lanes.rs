//! Lanes: who has a slot, who waits, who goes.

use domain::aggregate::{Aggregate, AggregateState};
use domain::command::{Command, CommandEnvelope};
use domain::decision::Decision;
use domain::event::{Event, LaneEvent};
use domain::execution::event::OnLimit;
use domain::facts::Facts;
use domain::ids::{Actor, Slot, TenantId, new_id};
use domain::lane::LaneState;
use domain::lane::command::LaneCommand;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeSet;
use uuid::Uuid;

const AT: Timestamp = Timestamp::MIN;

fn execution(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(number), number)
}

fn lane_id() -> Uuid {
    domain::lane::stream_of(&TenantId::default_tenant(), execution(0), "customer-7")
}

/// A lane, driven by hand.
#[derive(Default)]
struct Lane {
    aggregate: Aggregate,
    log: Vec<Event>,
}

impl Lane {
    /// Decides a command and folds what follows; returns it, shortened: `granted 3`.
    fn when(&mut self, command: LaneCommand) -> Vec<String> {
        self.decide(command).expect("lanes refuse only what they have no room for")
    }

    fn decide(&mut self, command: LaneCommand) -> Result<Vec<String>, Rejection> {
        let envelope = CommandEnvelope {
            id: execution(9_999),
            tenant: TenantId::default_tenant(),
            actor: Actor::system("test"),
            stream: lane_id(),
            correlation_id: lane_id(),
            causation_id: lane_id(),
            traceparent: None,
            digest: None,
            command: Command::Lane(command),
            authority: None,
        };
        let facts = Facts::new(AT, envelope.id, envelope.stream, envelope.tenant.clone());
        let Decision::Events(outcome) = self.aggregate.decide(&envelope, &facts)? else {
            panic!("a lane needs no facts")
        };
        let short = outcome.events.iter().map(shorten).collect();
        for event in outcome.events {
            self.aggregate.apply(&envelope.tenant, &event, AT);
            self.log.push(event);
        }
        Ok(short)
    }

    fn requests(&mut self, number: u64, limit: u32, on_limit: OnLimit, priority: u8) -> Vec<String> {
        self.when(request(number, limit, on_limit, priority))
    }

    fn queues(&mut self, number: u64, limit: u32) -> Vec<String> {
        self.requests(number, limit, OnLimit::Queue, 5)
    }

    fn releases(&mut self, number: u64) -> Vec<String> {
        self.when(LaneCommand::Release { execution: execution(number) })
    }

    fn state(&self) -> LaneState {
        match &self.aggregate.state {
            AggregateState::Lane(state) => LaneState::clone(state),
            _ => LaneState::default(),
        }
    }
}

fn request(number: u64, limit: u32, on_limit: OnLimit, priority: u8) -> LaneCommand {
    LaneCommand::Request {
        execution: execution(number),
        workflow_id: execution(0),
        key: "customer-7".to_owned(),
        limit,
        on_limit,
        priority,
    }
}

fn subject(event: &Event) -> (Uuid, &'static str) {
    let Event::Lane(event) = event else { panic!("{event:?}") };
    match event {
        LaneEvent::Requested(e) => (e.execution_id, "requested"),
        LaneEvent::Granted(e) => (e.execution_id, "granted"),
        LaneEvent::Refused(e) => (e.execution_id, "refused"),
        LaneEvent::EvictionRequested(e) => (e.execution_id, "evicted"),
        LaneEvent::Released(e) => (e.execution_id, "released"),
    }
}

fn shorten(event: &Event) -> String {
    let (id, what) = subject(event);
    // `execution` puts the number into the last bits.
    format!("{what} {}", id.as_u128() & 0xffff)
}

#[test]
fn slots_go_by_priority_and_then_first_come() {
    let mut lane = Lane::default();
    assert_eq!(lane.queues(1, 1), ["requested 1", "granted 1"]);
    assert_eq!(lane.queues(2, 1), ["requested 2"]);
    assert_eq!(lane.requests(3, 1, OnLimit::Queue, 9), ["requested 3"]);
    assert_eq!(lane.requests(4, 1, OnLimit::Queue, 9), ["requested 4"]);
    assert_eq!(lane.requests(5, 1, OnLimit::Queue, 0), ["requested 5"]);
    assert_eq!(lane.releases(1), ["released 1", "granted 3"]);
    assert_eq!(lane.releases(3), ["released 3", "granted 4"]);
    assert_eq!(lane.releases(4), ["released 4", "granted 2"]);
    assert_eq!(lane.releases(2), ["released 2", "granted 5"]);
    assert_eq!(lane.releases(5), ["released 5"]);
}

#[test]
fn a_repeated_request_or_release_changes_nothing() {
    let mut lane = Lane::default();
    lane.queues(1, 1);
    lane.queues(2, 1);
    for number in [1, 2] {
        assert!(lane.queues(number, 1).is_empty());
    }
    assert_eq!(lane.releases(1), ["released 1", "granted 2"]);
    assert!(lane.releases(1).is_empty());
    assert!(lane.releases(77).is_empty(), "one that never asked has nothing to give back");
}

#[test]
fn drop_refuses_whoever_finds_no_slot_and_keeps_no_place() {
    let mut lane = Lane::default();
    assert_eq!(lane.requests(1, 1, OnLimit::Drop, 5), ["requested 1", "granted 1"]);
    assert_eq!(lane.requests(2, 1, OnLimit::Drop, 9), ["requested 2", "refused 2"]);
    assert_eq!(lane.releases(1), ["released 1"]);
    assert!(lane.releases(2).is_empty(), "its end frees nothing");
    assert_eq!(lane.requests(2, 1, OnLimit::Drop, 9), ["requested 2", "granted 2"]);
}

#[test]
fn cancel_running_evicts_the_oldest_once() {
    let mut lane = Lane::default();
    lane.queues(1, 2);
    lane.queues(2, 2);
    assert_eq!(lane.requests(3, 2, OnLimit::CancelRunning, 5), ["requested 3", "evicted 1"]);
    assert_eq!(lane.requests(4, 2, OnLimit::CancelRunning, 5), ["requested 4", "evicted 2"]);
    assert_eq!(
        lane.releases(2),
        ["released 2", "granted 3"],
        "the slot is free when it has ended, not before"
    );
    assert_eq!(lane.releases(1), ["released 1", "granted 4"]);
}

#[test]
fn cancel_running_takes_the_place_of_one_that_waits_where_all_are_leaving() {
    let mut lane = Lane::default();
    lane.queues(1, 1);
    lane.requests(2, 1, OnLimit::CancelRunning, 5);
    assert_eq!(lane.requests(3, 1, OnLimit::CancelRunning, 5), ["requested 3", "evicted 2"]);
    assert!(lane.releases(2).is_empty(), "it has no place any more");
    assert_eq!(lane.releases(1), ["released 1", "granted 3"]);
}

#[test]
fn one_that_ends_while_it_waits_gives_its_place_back() {
    let mut lane = Lane::default();
    lane.queues(1, 1);
    lane.queues(2, 1);
    lane.queues(3, 1);
    assert_eq!(lane.releases(2), ["released 2"]);
    assert_eq!(lane.releases(1), ["released 1", "granted 3"]);
}

#[test]
fn the_latest_request_says_how_many_slots_there_are() {
    let mut lane = Lane::default();
    for number in 1..=4 {
        lane.queues(number, 1);
    }
    assert_eq!(lane.queues(5, 3), ["requested 5", "granted 2", "granted 3"]);
    assert_eq!(lane.queues(6, 1), ["requested 6"]);
    assert!(lane.releases(1).len() == 1 && lane.releases(2).len() == 1, "three had slots, now one may");
    assert_eq!(lane.releases(3), ["released 3", "granted 4"]);
    assert_eq!(lane.queues(7, 0), ["requested 7"], "no slots at all would hold everybody for ever");
    assert_eq!(lane.state().limit, 1);
}

#[test]
fn a_limit_raised_for_thousands_gives_their_slots_in_several_decisions() {
    let mut lane = Lane::default();
    for number in 1..=900 {
        lane.queues(number, 1);
    }
    assert_eq!(lane.queues(901, 10_000).len(), 251);
    let mut granted: usize = 251;
    let mut next = 1;
    while granted < 901 {
        let events = lane.releases(next);
        assert!(events.len() <= 251, "one append stays small");
        granted += events.len() - 1;
        next += 1;
    }
    assert!(lane.state().waiting.is_empty());
}

#[test]
fn a_lane_that_is_full_refuses() {
    let mut state = LaneState { limit: 1, ..LaneState::default() };
    let waiter = domain::lane::Waiter { execution: execution(1), on_limit: OnLimit::Queue };
    state.waiting = (0..100_000).map(|place| ((4, place), waiter)).collect();
    let mut lane = Lane::default();
    lane.aggregate.state = AggregateState::Lane(Box::new(state));
    let refused = lane.decide(request(2, 1, OnLimit::Queue, 5)).expect_err("no room");
    assert_eq!(refused.code, "lane_full");
}

#[derive(Debug, Clone)]
enum Step {
    Request(u64, u32, OnLimit, u8),
    Release(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rule =
        prop_oneof![3 => Just(OnLimit::Queue), 1 => Just(OnLimit::Drop), 1 => Just(OnLimit::CancelRunning)];
    let step = prop_oneof![
        3 => (1..30u64, 1..4u32, rule, 0..10u8).prop_map(|(n, limit, rule, prio)| Step::Request(n, limit, rule, prio)),
        2 => (1..30u64).prop_map(Step::Release),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// At every grant no more have a slot than the limit of that moment; everybody who asks has a slot, waits, or was
    /// told to go; whoever waits is behind somebody who will end; what the log says is what is held.
    #[test]
    fn a_lane_never_gives_too_many_slots_and_forgets_nobody(steps in steps()) {
        let mut lane = Lane::default();
        let mut told_to_go: BTreeSet<Uuid> = BTreeSet::new();
        for step in &steps {
            let (id, command) = match step {
                Step::Request(number, limit, rule, priority) => (*number, request(*number, *limit, *rule, *priority)),
                Step::Release(number) => (*number, LaneCommand::Release { execution: execution(*number) }),
            };
            let before = lane.log.len();
            lane.when(command.clone());
            for event in &lane.log[before..] {
                match subject(event) {
                    (gone, "refused" | "evicted") => { told_to_go.insert(gone); }
                    (back, "requested") => { told_to_go.remove(&back); }
                    _ => {}
                }
            }
            let state = lane.state();
            let known = state.holders.contains_key(&execution(id)) || state.places.contains_key(&execution(id));
            if let Step::Request(..) = step {
                prop_assert!(known || told_to_go.contains(&execution(id)));
            }
            prop_assert_eq!(state.waiting.len(), state.places.len());
            prop_assert!(state.waiting.is_empty() || !state.holders.is_empty(), "somebody waits for nobody");
            if known || matches!(step, Step::Release(_)) {
                prop_assert!(lane.when(command).is_empty(), "the same again");
            }
        }
        // Over the log: at every grant the slots are enough.
        let mut folded = LaneState::default();
        for event in &lane.log {
            let Event::Lane(event) = event else { unreachable!() };
            folded = domain::lane::evolve(folded, event);
            if let LaneEvent::Granted(granted) = event {
                prop_assert!(folded.holders.len() <= folded.limit as usize);
                prop_assert!(folded.holders.contains_key(&granted.execution_id));
            }
        }
        prop_assert_eq!(&folded, &lane.state());
        // Everybody gets a turn when those before end.
        while let Some((first, _)) = lane.state().holders.get_min().copied() {
            lane.when(LaneCommand::Release { execution: first });
        }
        prop_assert!(lane.state().waiting.is_empty());
    }
}
