//! What small aggregates have in common: few events, a row that holds all of the state, no cache.

use domain::event::RecordedEvent;
use domain::ids::TenantId;
use read_models::{ReadModelError, WriteTx};
use uuid::Uuid;

use super::{Poison, Trouble, out_of_turn, park, parked, skip};
use crate::batch::StreamEvents;

/// A row that is folded from the events of one stream.
pub(crate) trait SmallRow: Sized {
    /// The row as it is stored.
    async fn load(tx: &mut WriteTx, tenant: &TenantId, stream: Uuid) -> Result<Option<Self>, ReadModelError>;

    /// The version of the last event in it.
    fn version(&self) -> u64;

    /// The row after one more event, or why that cannot be.
    fn fold(row: Option<Self>, recorded: &RecordedEvent) -> Result<Self, String>;

    /// Stores it.
    async fn store(&self, tx: &mut WriteTx) -> Result<(), ReadModelError>;
}

/// Folds the new events of streams and writes their rows.
pub(crate) async fn project<R: SmallRow + Clone>(
    tx: &mut WriteTx,
    streams: &[StreamEvents],
) -> Result<Trouble, ReadModelError> {
    let mut trouble = Trouble::default();
    let ids: Vec<_> = streams.iter().map(|stream| stream.stream).collect();
    let parked = parked(tx, &ids).await?;
    for stream in streams {
        if parked.contains(&stream.stream) {
            skip(tx, stream.stream, stream.events.len(), &mut trouble).await?;
            continue;
        }
        let mut row = R::load(tx, &stream.tenant, stream.stream).await?;
        for (index, recorded) in stream.events.iter().enumerate() {
            let known = row.as_ref().map_or(0, R::version);
            let folded = if recorded.version == known + 1 {
                R::fold(row.clone(), recorded)
            } else {
                Err(out_of_turn(recorded, known))
            };
            match folded {
                Ok(next) => row = Some(next),
                Err(reason) => {
                    park(tx, stream, Poison { index, reason }, &mut trouble).await?;
                    break;
                }
            }
        }
        if let Some(row) = row {
            row.store(tx).await?;
        }
    }
    Ok(trouble)
}

/// Why a stream cannot be folded whose first event is not the one that makes the thing.
pub(super) fn no_beginning(recorded: &RecordedEvent) -> String {
    format!("the stream begins with `{}`, not with its creation", recorded.event_type)
}
