//! What must be true of any log, whatever happened to the processes that wrote it.

use anyhow::{Context, Result, ensure};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

use domain::event::{Event, ExecutionEvent};
use domain::execution::FINAL_EVENT_TYPES;
use event_store::LogReader;

/// Events read at a time.
const PAGE: usize = 2_000;

/// What an audit has seen.
#[derive(Debug, Default)]
pub struct Audit {
    /// Events read.
    pub events: u64,
    /// Executions, each with whether it has ended and how often each attempt was completed.
    pub executions: HashMap<Uuid, AuditedExecution>,
}

/// One execution's stream.
#[derive(Debug, Default)]
pub struct AuditedExecution {
    /// Its last version.
    pub version: u64,
    /// The type of the event that ended it.
    pub ended_by: Option<String>,
    /// Node runs that were completed.
    pub completed: HashSet<(String, u32)>,
}

/// Reads the whole log. Fails where offsets or versions have a gap, a chain does not verify, a node run was
/// completed twice, or something follows the end of an execution.
pub async fn audit(log: &dyn LogReader) -> Result<Audit> {
    let mut audit = Audit::default();
    let mut ids = HashSet::new();
    for head in log.heads().await? {
        let mut offset = 0;
        while offset < head.offset {
            let page = log.read_partition(head.partition, offset, PAGE).await?;
            ensure!(
                !page.is_empty(),
                "partition {} ends at {offset}, not at {}",
                head.partition,
                head.offset
            );
            for event in page {
                ensure!(
                    event.position.offset == offset + 1,
                    "partition {}: offset {} follows {offset}",
                    head.partition,
                    event.position.offset
                );
                offset += 1;
                ensure!(ids.insert(event.id), "the event id {} is used twice", event.id);
                if event.category() == "execution" {
                    let seen = audit.executions.entry(event.stream).or_default();
                    follow(seen, &event).with_context(|| format!("execution {}", event.stream))?;
                }
            }
        }
        audit.events += offset;
        let report = log.verify_chain(head.partition).await?;
        ensure!(report.events == head.offset, "the chain of partition {} covers {report:?}", head.partition);
    }
    Ok(audit)
}

fn follow(seen: &mut AuditedExecution, recorded: &domain::event::RecordedEvent) -> Result<()> {
    ensure!(recorded.version == seen.version + 1, "version {} follows {}", recorded.version, seen.version);
    ensure!(seen.ended_by.is_none(), "version {} follows its end", recorded.version);
    seen.version = recorded.version;
    if FINAL_EVENT_TYPES.contains(&&*recorded.event_type) {
        seen.ended_by = Some(recorded.event_type.to_string());
    }
    if let Event::Execution(ExecutionEvent::NodeCompleted(node)) = recorded.decode()? {
        let run = (node.node_id, node.run);
        ensure!(seen.completed.insert(run.clone()), "run {} of `{}` was completed twice", run.1, run.0);
    }
    Ok(())
}
