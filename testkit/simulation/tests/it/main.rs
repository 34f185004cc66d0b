//! The simulation as tests: the engine against the reference, under faults, and with rules broken on purpose.

use proptest::prelude::*;
use simulation::generate::{Flavour, case};
use simulation::world::{Breakage, Report, World};

/// Seeds of the run with faults.
const SEEDS: u64 = 2_000;
/// Seeds within which every broken rule must be noticed.
const SEEDS_TO_NOTICE: u64 = 300;

fn with_faults(seed: u64) -> World {
    World::with_faults(&case(seed, Flavour::Confluent))
}

fn assert_sound(seed: u64, kind: &str, report: Report) {
    if let Some(violation) = report.violation {
        panic!(
            "seed {seed} ({kind}): {violation}\nreplay it: cargo run -p simulation --bin simulate -- --seed {seed}"
        );
    }
}

#[test]
fn every_generated_document_is_valid_and_the_same_seed_gives_the_same() {
    for seed in 0..300 {
        for flavour in [Flavour::Confluent, Flavour::Racy] {
            let (first, second) = (case(seed, flavour), case(seed, flavour));
            assert_eq!((first.workflows, first.input), (second.workflows, second.input), "seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_has_the_same_course() {
    for seed in 0..20 {
        let (first, second) = (with_faults(seed).verbose().run(), with_faults(seed).verbose().run());
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

#[test]
fn under_faults_every_execution_ends_as_the_reference_says() {
    let (mut compared, mut faults) = (0, 0);
    for seed in 0..SEEDS {
        let report = with_faults(seed).run();
        compared += report.compared;
        faults += report.injected.values().sum::<u64>();
        assert_sound(seed, "faults", report);
    }
    assert!(compared > SEEDS / 2, "only {compared} executions could be compared");
    assert!(faults > SEEDS, "only {faults} faults happened");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_faults_the_engine_and_the_reference_agree(seed in any::<u64>(), racy in any::<bool>()) {
        let flavour = if racy { Flavour::Racy } else { Flavour::Confluent };
        let report = World::plain(&case(seed, flavour)).run();
        prop_assert!(report.violation.is_none(), "seed {} ({:?}): {:?}", seed, flavour, report.violation);
    }
}

/// Of each kind some seeds in which the reference once held the engine to an order that nothing says.
const TIES: [u64; 9] = [5_052, 7_902, 11_400, 22_061, 50_391, 53_622, 55_858, 68_833, 76_810];

#[test]
fn the_engine_is_not_held_to_an_order_that_nothing_says() {
    for seed in TIES {
        assert_sound(seed, "plain", World::plain(&case(seed, Flavour::Racy)).run());
    }
}

/// Whether a seed that is sound is not with the rule broken.
fn is_noticed(breakage: Breakage) -> bool {
    (0..SEEDS_TO_NOTICE).any(|seed| {
        with_faults(seed).broken(breakage).run().violation.is_some()
            && with_faults(seed).run().violation.is_none()
    })
}

#[test]
fn a_completion_that_is_accepted_twice_is_noticed() {
    assert!(is_noticed(Breakage::AcceptTwice));
}

#[test]
fn a_reactor_that_forgets_lane_releases_is_noticed() {
    assert!(is_noticed(Breakage::ForgetReleases));
}

#[test]
fn a_log_that_forgets_command_ids_is_noticed() {
    assert!(is_noticed(Breakage::ForgetCommandIds));
}

#[test]
fn a_log_that_lets_a_former_owner_append_is_noticed() {
    assert!(is_noticed(Breakage::ForgetEpochs));
}

#[test]
fn a_crash_that_loses_wakeups_is_noticed() {
    assert!(is_noticed(Breakage::ForgetWakeups));
}

#[test]
fn a_reactor_that_tells_parents_of_no_end_is_noticed() {
    assert!(is_noticed(Breakage::ForgetChildren));
}
