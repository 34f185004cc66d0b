//! The subjects on NATS, in one place. Tenants and event types are safe as tokens: a tenant is a slug, and the dots of
//! an event's type separate tokens on purpose.

use domain::event::RecordedEvent;
use domain::ids::Partition;
use domain::node_type::NodeType;

/// The stream of tasks, a work queue.
pub(super) const TASKS_STREAM: &str = "EVERLINE_TASKS";
/// What it holds.
pub(super) const TASKS_SUBJECTS: &str = "everline.task.>";
/// The stream of published events.
pub(super) const EVENTS_STREAM: &str = "EVERLINE_EVENTS";
/// What it holds.
pub(super) const EVENTS_SUBJECTS: &str = "everline.evt.>";
/// The commit feed of every partition.
pub(super) const EVERY_LOG: &str = "everline.log.*";
/// The signs of life for every partition.
pub(super) const EVERY_BEAT: &str = "everline.beat.*";
/// Requests to stop.
pub(super) const CANCEL: &str = "everline.cancel";

/// Commands of a partition.
pub(super) fn command(partition: Partition) -> String {
    format!("everline.cmd.{partition}")
}

/// The commit feed of a partition.
pub(super) fn log(partition: Partition) -> String {
    format!("everline.log.{partition}")
}

/// Signs of life for the owner of a partition.
pub(super) fn beat(partition: Partition) -> String {
    format!("everline.beat.{partition}")
}

/// Tasks of a type, in the only pool of this release.
pub(super) fn task(node_type: NodeType) -> String {
    format!("everline.task.default.{}", node_type.as_str())
}

/// The durable consumer of the tasks of a type.
pub(super) fn task_consumer(node_type: NodeType) -> String {
    format!("default-{}", node_type.as_str())
}

/// A published event.
pub(super) fn event(event: &RecordedEvent) -> String {
    format!("everline.evt.{}.{}.{}", event.position.partition, event.tenant, event.event_type)
}

/// Every published event of a partition.
pub(super) fn events_of(partition: Partition) -> String {
    format!("everline.evt.{partition}.>")
}
