//! `If-Match` where the log must be asked which version a thing's stream has.

use domain::ids::TenantId;
use event_store::log::StoreError;
use uuid::Uuid;

use crate::app::App;
use crate::failure::Failure;
use crate::request::{IfMatch, Writing};
use crate::status;

/// The version that a command may be told to expect: of several the one that is current.
pub(crate) async fn expected_version(
    app: &App,
    writing: &Writing,
    if_match: &IfMatch,
) -> Result<Option<u64>, Failure> {
    match if_match.versions() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        // Where none is current, any of them makes the decider refuse, or answer a repetition.
        [first, ..] => Ok(Some(current(app, writing, if_match.versions()).await?.unwrap_or(*first))),
    }
}

/// Refuses a command that cannot be told a version to expect, unless the workflow has one that the caller takes.
///
/// Between this look and the decision another command may change the workflow; what is refused for certain is what
/// was stale when it came.
pub(crate) async fn check(app: &App, writing: &Writing, if_match: &IfMatch) -> Result<(), Failure> {
    let versions = if_match.versions();
    if versions.is_empty() || current(app, writing, versions).await?.is_some() {
        return Ok(());
    }
    // A repetition finds the version that its first try has made, and is answered what that was.
    let partition = app.partition_of(writing.stream);
    if app.log.command_answer(partition, writing.command_id()).await?.is_some() {
        return Ok(());
    }
    let detail = "it has changed since it was read; read it again and decide anew";
    Err(Failure::new(status::VERSION_MISMATCH, detail))
}

/// Which of the versions the workflow has now, as the log knows it.
async fn current(app: &App, writing: &Writing, versions: &[u64]) -> Result<Option<u64>, StoreError> {
    let tenant = writing.tenant();
    for version in versions {
        if is_current(app, tenant, writing.stream, *version).await? {
            return Ok(Some(*version));
        }
    }
    Ok(None)
}

async fn is_current(app: &App, tenant: &TenantId, stream: Uuid, version: u64) -> Result<bool, StoreError> {
    let Some(before) = version.checked_sub(1) else { return Ok(false) };
    // The event of this version, and none behind it.
    let events = app.log.read_stream(stream, before, 2).await?;
    Ok(matches!(events.as_slice(), [last] if last.version == version && last.tenant == *tenant))
}
