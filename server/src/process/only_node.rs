//! A process on Postgres without NATS is the only one: it could not pass a command on to another owner.
//!
//! The store's fencing keeps the log safe whatever happens here; this keeps two such processes from dividing the
//! partitions between them, each answering for half. Invariant: of two that start at once, one stays.

use anyhow::Context;
use event_store::ownership::LiveNode;
use event_store::{Ownership, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::StartError;

/// Ends the name of a node without NATS.
pub(super) const MARK: &str = " (without NATS)";
/// How much longer than its lease a node that was killed is waited for.
const GRACE: Duration = Duration::from_secs(3);
/// Between two looks at who lives.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits until no other node lives, for as long as one that was killed may count as alive with the same lease as ours.
///
/// # Errors
/// [`StartError::AnotherNode`], or the store.
pub(super) async fn wait(ownership: &dyn Ownership, lease: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + lease + GRACE;
    loop {
        let nodes = ownership.membership().await.context("cannot see which other nodes live")?.nodes;
        let Some(other) = nodes.first() else { return Ok(()) };
        if Instant::now() >= until {
            return Err(StartError::AnotherNode { name: other.name.clone() }.into());
        }
        tracing::warn!(node = other.name, "another node counts as alive; waiting until it does not");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Fails when another node appears that stays.
pub(super) async fn watch(
    ownership: Arc<dyn Ownership>,
    name: String,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match ownership.membership().await {
            Ok(membership) => {
                if let Some(other) = who_stays(&membership.nodes, &name) {
                    return Err(StartError::AnotherNode { name: other.name.clone() }.into());
                }
            }
            Err(error) => unseen(&error),
        }
    }
}

/// The node that this one has to give way to: any member of a cluster, and of those without NATS the one with the
/// smaller id.
fn who_stays<'a>(nodes: &'a [LiveNode], name: &str) -> Option<&'a LiveNode> {
    let own = nodes.iter().find(|node| node.name == name)?;
    nodes.iter().find(|node| node.node != own.node && (!node.name.ends_with(MARK) || node.node < own.node))
}

fn unseen(error: &StoreError) {
    tracing::warn!(%error, "cannot see which other nodes live");
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn node(number: u128, name: &str) -> LiveNode {
        LiveNode { node: Uuid::from_u128(number), name: name.to_owned(), draining: false }
    }

    #[test]
    fn of_two_nodes_without_nats_one_stays() {
        let nodes = [node(1, "a (without NATS)"), node(2, "b (without NATS)")];
        assert_eq!(who_stays(&nodes, "a (without NATS)"), None);
        assert_eq!(who_stays(&nodes, "b (without NATS)").unwrap().name, "a (without NATS)");
    }

    #[test]
    fn a_node_without_nats_gives_way_to_a_cluster_and_stays_alone() {
        let nodes = [node(1, "a (without NATS)"), node(2, "b")];
        assert_eq!(who_stays(&nodes, "a (without NATS)").unwrap().name, "b");
        assert_eq!(who_stays(&nodes[..1], "a (without NATS)"), None);
        assert_eq!(who_stays(&[], "a (without NATS)"), None);
    }
}
