//! Folding a lane's events.

use crate::event::LaneEvent;

use super::state::{Holder, LaneState, Waiter};

/// The state after one more event. Total: any event is accepted, whatever came before.
pub fn evolve(mut state: LaneState, event: &LaneEvent) -> LaneState {
    state.version += 1;
    match event {
        LaneEvent::Requested(requested) => {
            state.limit = requested.limit;
            // Higher priorities first: the order of the map is ascending.
            let place = (9 - requested.priority.min(9), state.version);
            let waiter = Waiter { execution: requested.execution_id, on_limit: requested.on_limit };
            state.waiting.insert(place, waiter);
            state.places.insert(requested.execution_id, place);
        }
        LaneEvent::Granted(granted) => {
            leave_queue(&mut state, granted.execution_id);
            let holder = Holder { since: state.version, leaving: false };
            state.holders.insert(granted.execution_id, holder);
        }
        LaneEvent::Refused(refused) => leave_queue(&mut state, refused.execution_id),
        LaneEvent::EvictionRequested(eviction) => {
            leave_queue(&mut state, eviction.execution_id);
            if let Some(holder) = state.holders.get_mut(&eviction.execution_id) {
                holder.leaving = true;
            }
        }
        LaneEvent::Released(released) => {
            leave_queue(&mut state, released.execution_id);
            state.holders.remove(&released.execution_id);
        }
    }
    state
}

fn leave_queue(state: &mut LaneState, execution: uuid::Uuid) {
    if let Some(place) = state.places.remove(&execution) {
        state.waiting.remove(&place);
    }
}
