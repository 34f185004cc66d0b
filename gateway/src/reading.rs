//! Reads from read models: waiting until they show what the caller has been told.

use domain::ids::Partition;
use read_models::ReadModelError;

use crate::app::App;
use crate::auth::Principal;
use crate::config::ms;
use crate::failure::Failure;
use crate::position::Offsets;
use crate::request::Query;
use crate::status;

/// Waits until the read models show the position that the caller demands, or else its own writes. Only the
/// partition `only` matters where the thing that is read lives in one.
pub(crate) async fn wait_until_fresh(
    app: &App,
    principal: &Principal,
    query: &Query,
    only: Option<Partition>,
) -> Result<(), Failure> {
    wait_until(app, &needed(app, principal, query, only)?).await
}

/// What a read must show: the position that the caller demands, or else its own writes.
pub(crate) fn needed(
    app: &App,
    principal: &Principal,
    query: &Query,
    only: Option<Partition>,
) -> Result<Vec<(Partition, u64)>, Failure> {
    Ok(match query.min_position()? {
        Some(text) => {
            Offsets::parse(text, app.log.partitions())?.iter().filter(|(_, offset)| *offset > 0).collect()
        }
        None => principal.watermarks.needed(only),
    })
}

/// Waits until the read models show so much.
pub(crate) async fn wait_until(app: &App, needed: &[(Partition, u64)]) -> Result<(), Failure> {
    if needed.is_empty() || app.models.wait_for(needed, ms(app.config.read_wait_ms)).await {
        return Ok(());
    }
    Err(Failure::new(
        status::READ_MODEL_BEHIND,
        "the read model does not show that position yet; try again shortly",
    ))
}

/// Waits until the read models show the caller's own writes, before a write that looks something up in them.
pub(crate) async fn wait_for_own_writes(
    app: &App,
    principal: &Principal,
    only: Option<Partition>,
) -> Result<(), Failure> {
    let needed = principal.watermarks.needed(only);
    if needed.is_empty() || app.models.wait_for(&needed, ms(app.config.read_wait_ms)).await {
        return Ok(());
    }
    let detail = "the read model does not show your latest writes yet; try again shortly";
    Err(Failure::new(status::READ_MODEL_BEHIND, detail))
}

/// A read model that did not answer.
pub(crate) fn read_error(error: ReadModelError) -> Failure {
    if let ReadModelError::Filter(_) = error {
        return Failure::new(status::INVALID_PARAMETER, error.to_string());
    }
    tracing::error!(error = &error as &dyn std::error::Error, "a read model did not answer a request");
    Failure::new(status::STORE_UNAVAILABLE, "the read model does not answer; try again shortly")
}
