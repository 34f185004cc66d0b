//! Dead letters: added by the node that ran out of attempts, marked by the retry that names it.

use domain::event::{Event, ExecutionEvent, RecordedEvent};
use domain::execution::event::NodeDeadLettered;
use domain::execution::view::ExecutionView;
use read_models::{DeadLetter, ReadModelError, WriteTx};

/// What an event changes of the dead letters.
pub(super) enum Change {
    /// One more.
    Added(NodeDeadLettered),
    /// Those of these nodes were tried again.
    Redriven(Vec<String>),
}

/// The change that an event makes, if it makes one.
pub(super) fn change_of(event: &Event) -> Option<Change> {
    match event {
        Event::Execution(ExecutionEvent::NodeDeadLettered(event)) => Some(Change::Added(event.clone())),
        Event::Execution(ExecutionEvent::Retried(event)) => Some(Change::Redriven(event.nodes.clone())),
        _ => None,
    }
}

/// Writes a change, in the order of the events. They are rare: a statement each.
pub(super) async fn write(
    tx: &mut WriteTx,
    recorded: &RecordedEvent,
    view: &ExecutionView,
    change: Change,
) -> Result<(), ReadModelError> {
    match change {
        Change::Added(event) => {
            let letter = DeadLetter {
                id: recorded.id,
                execution_id: recorded.stream,
                workflow_id: view.workflow_id,
                workflow_name: view.workflow_name.clone(),
                node_id: event.node_id,
                run: event.run,
                attempt: event.attempt,
                node_type: event.node_type,
                error: event.error,
                dead_lettered_at: recorded.recorded_at,
                redriven_at: None,
            };
            tx.put_dead_letter(&recorded.tenant, &letter).await
        }
        Change::Redriven(nodes) => {
            let (tenant, at) = (&recorded.tenant, recorded.recorded_at);
            tx.redrive_dead_letters(tenant, recorded.stream, &nodes, at).await
        }
    }
}
