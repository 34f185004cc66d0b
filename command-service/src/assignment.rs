//! Which node ought to own a partition: rendezvous hashing, pure.
//!
//! The node with the highest hash of (node, partition) has it. So every process that sees the same nodes comes to the
//! same answer without asking, and a node that goes moves only what it had. The hash must stay as it is: processes of
//! two versions share partitions during a rolling restart. Deliberately absent: when to act on it (`ownership`).

use uuid::Uuid;

use domain::ids::Partition;

/// The node that ought to own a partition; `None` without nodes.
pub(crate) fn assigned(partition: Partition, nodes: &[Uuid]) -> Option<Uuid> {
    nodes.iter().copied().max_by_key(|node| (weight(*node, partition), *node))
}

fn weight(node: Uuid, partition: Partition) -> u64 {
    let (high, low) = node.as_u64_pair();
    mix(mix(mix(high) ^ low) ^ u64::from(partition.0))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn nodes() -> impl Strategy<Value = Vec<Uuid>> {
        proptest::collection::btree_set(any::<u128>(), 1..8)
            .prop_map(|numbers| numbers.into_iter().map(Uuid::from_u128).collect())
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_whatever_the_order_of_the_nodes(nodes in nodes(), at in 0u16..4096) {
            let owner = assigned(Partition(at), &nodes);
            prop_assert!(owner.is_some_and(|owner| nodes.contains(&owner)));
            let reversed: Vec<Uuid> = nodes.iter().rev().copied().collect();
            prop_assert_eq!(owner, assigned(Partition(at), &reversed));
        }

        #[test]
        fn a_node_that_goes_moves_only_its_own_partitions(nodes in nodes(), gone in any::<prop::sample::Index>()) {
            let gone = nodes[gone.index(nodes.len())];
            let left: Vec<Uuid> = nodes.iter().copied().filter(|node| *node != gone).collect();
            for number in 0..64 {
                let before = assigned(Partition(number), &nodes);
                let after = assigned(Partition(number), &left);
                prop_assert!(before == Some(gone) || before == after);
            }
        }

        #[test]
        fn the_spread_is_fair(nodes in nodes()) {
            let partitions = 4_096;
            let fair = f64::from(partitions) / nodes.len() as f64;
            let owners: Vec<_> = (0..partitions as u16).map(|p| assigned(Partition(p), &nodes)).collect();
            for node in nodes.iter().collect::<BTreeSet<_>>() {
                let share = owners.iter().filter(|owner| **owner == Some(*node)).count() as f64;
                prop_assert!((0.75..1.25).contains(&(share / fair)), "{share} of {fair}");
            }
        }
    }

    #[test]
    fn nobody_owns_without_nodes_and_the_hash_is_what_other_versions_compute() {
        assert_eq!(assigned(Partition(3), &[]), None);
        let nodes: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
        let owners: Vec<u128> =
            (0..16).filter_map(|p| assigned(Partition(p), &nodes)).map(|node| node.as_u128()).collect();
        assert_eq!(owners, GOLDEN);
    }

    const GOLDEN: [u128; 16] = [2, 2, 1, 2, 1, 1, 2, 3, 3, 1, 1, 3, 3, 3, 3, 3];
}
