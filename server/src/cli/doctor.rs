//! `everline doctor`.

use super::store::StoreArgs;
use crate::doctor::{Finding, State, examine};
use crate::exit::Failure;
use crate::output::{Column, Output};

pub(super) async fn run(args: StoreArgs, output: Output) -> Result<(), Failure> {
    let findings = examine(&args.load()?).await;
    let rows: Vec<_> = findings.iter().map(Finding::to_json).collect();
    output
        .list(&rows, &[Column("CHECK", "/check"), Column("STATE", "/state"), Column("DETAIL", "/detail")])?;
    let worst = findings.iter().map(|finding| finding.state).max();
    if worst == Some(State::Broken) { Err(Failure::Unsuccessful) } else { Ok(()) }
}
