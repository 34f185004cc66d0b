//! How long a read of one execution takes, and what another tenant on the same connection adds to it.
//!
//! `cargo run --release -p read-models --example point_reads [-- --postgres URL]`
//!
//! One caller, one after another: 20,000 reads of one tenant, then the same of two tenants in turns. The URL's database
//! gets 2,000 executions.

use std::time::{Duration, Instant};

use domain::execution::view::ExecutionView;
use domain::ids::{Partition, Slot, TenantId, new_id};
use domain::time::Timestamp;
use read_models::{ExecutionRow, PostgresOptions, ReadModels};
use serde_json::json;
use uuid::Uuid;

const EXECUTIONS: u64 = 1_000;
const READS: u64 = 20_000;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let models = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ReadModels::open_temporary().await?,
        ["--postgres", url] => ReadModels::open_postgres(PostgresOptions::new(url)).await?,
        _ => return Err("usage: point_reads [--postgres URL]".into()),
    };
    let tenants = [tenant("a")?, tenant("b")?];
    for tenant in &tenants {
        let rows = (0..EXECUTIONS).map(|number| row(tenant, number)).collect::<Result<Vec<_>, _>>()?;
        let mut tx = models.begin().await?;
        tx.put_executions(rows).await?;
        tx.commit().await?;
    }
    for round in 1..=3 {
        report(&format!("round {round}, one tenant"), &models, &tenants[..1]).await?;
        report(&format!("round {round}, two tenants in turns"), &models, &tenants).await?;
    }
    Ok(())
}

async fn report(name: &str, models: &ReadModels, tenants: &[TenantId]) -> Result<(), Failure> {
    let mut taken = Vec::with_capacity(READS as usize);
    for (number, tenant) in (0..READS).zip(tenants.iter().cycle()) {
        let begun = Instant::now();
        models.execution(tenant, id(number * 7 % EXECUTIONS)).await?.ok_or("an execution is not there")?;
        taken.push(begun.elapsed());
    }
    taken.sort_unstable();
    let at = |percent: usize| micros(taken[taken.len() * percent / 100]);
    println!("{name}: p50 {:.0} us, p99 {:.0} us", at(50), at(99));
    Ok(())
}

fn micros(taken: Duration) -> f64 {
    taken.as_secs_f64() * 1e6
}

fn tenant(name: &str) -> Result<TenantId, Failure> {
    Ok(TenantId::try_from(name.to_owned())?)
}

fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(number), number)
}

fn row(tenant: &TenantId, number: u64) -> Result<ExecutionRow, Failure> {
    let view: ExecutionView = serde_json::from_value(json!({
        "id": id(number), "workflow_id": id(1), "workflow_name": "orders", "workflow_version": 1,
        "status": "completed", "input": {"n": number}, "output": {"total": 42}, "error": null,
        "cancel_reason": null, "started_at": Timestamp::from_unix_ms(1_795_000_000_000), "finished_at": null,
        "duration_ms": null, "priority": 5, "attributes": {}, "version": 5, "started_by": "user:1", "ends": [],
        "nodes": [],
    }))?;
    Ok(ExecutionRow::new(tenant, Partition(0), &view)?)
}
