//! Postgres: the log and the read models, how far these are behind, and who owns what. A schema that is not there, or is
//! older than this program, is left as it is.

use event_store::postgres::{PostgresReport, inspect};
use event_store::{Ownership, Store};
use projection_service::PartitionLag;
use read_models::{ReadModels, inspect_postgres};
use std::cmp::Ordering;
use std::time::Duration;

use super::{Findings, PATIENCE, machine, say};
use crate::config::{Config, PostgresUrl};

/// The name under which the server shows our connections.
const NAME: &str = "everline doctor";
/// More events that the read models do not show are worth a warning.
const MUCH_BEHIND: u64 = 10_000;
/// Connections of a process with all roles, in pools.
const POOLS: u32 = 3;

/// Looks at both databases; answers how many partitions the log has, once it is there.
pub(super) async fn look(
    config: &Config,
    log: &PostgresUrl,
    models: &PostgresUrl,
    findings: &mut Findings,
) -> Option<u16> {
    let log_is_there = look_at_log(config, log, findings).await;
    let models_are_there = look_at_models(config, models, findings).await;
    if !log_is_there {
        return None;
    }
    let opened = Store::postgres_existing(config.postgres.log(log, None, NAME));
    let store = match tokio::time::timeout(PATIENCE, opened).await {
        Ok(Ok(store)) => store,
        Ok(Err(error)) => {
            findings.broken("log", say(error));
            return None;
        }
        Err(_) => {
            findings.broken("log", "it could not be opened in time");
            return None;
        }
    };
    if models_are_there {
        look_at_lag(config, &store, models, findings).await;
    }
    if let Some(ownership) = &store.ownership {
        look_at_nodes(&**ownership, findings).await;
    }
    let partitions = store.reader.partitions();
    store.health.close().await;
    Some(partitions)
}

/// Whether the log is there, and of this version.
async fn look_at_log(config: &Config, url: &PostgresUrl, findings: &mut Findings) -> bool {
    let options = config.postgres.log(url, None, NAME);
    let report = match tokio::time::timeout(PATIENCE, inspect(&options)).await {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => {
            findings.broken("log", format!("{} cannot be used: {}", url.shown(), say(error)));
            return false;
        }
        Err(_) => {
            findings.broken("log", format!("{} does not answer", url.shown()));
            return false;
        }
    };
    let place = format!("Postgres {} at {}", report.version, report.server);
    match report.schema_version {
        None => {
            findings.ok("log", format!("{place}; its tables are not there yet, the first start creates them"))
        }
        Some(version) => {
            judge_version(findings, "log", &place, i64::from(version), i64::from(report.newest_schema))
        }
    }
    judge_settings(&report, config, findings);
    machine::look_at_clock(Duration::from_millis(report.clock_ahead_ms.unsigned_abs()), findings);
    report.schema_version == Some(report.newest_schema)
}

/// What this program can do with tables of a version.
fn judge_version(findings: &mut Findings, check: &'static str, place: &str, version: i64, newest: i64) {
    let place = format!("{place}, tables of version {version}");
    match version.cmp(&newest) {
        Ordering::Equal => findings.ok(check, place),
        Ordering::Greater => {
            findings.broken(check, format!("{place}, of which this program knows {newest}; use a newer one"));
        }
        Ordering::Less => findings
            .warning(check, format!("{place}; the next start, or `everline migrate`, makes them {newest}")),
    }
}

/// What the server's settings do to promises.
fn judge_settings(report: &PostgresReport, config: &Config, findings: &mut Findings) {
    let mut sound = true;
    let mut say = |finding: &mut dyn FnMut()| {
        sound = false;
        finding();
    };
    if report.is_in_recovery {
        say(&mut || {
            findings.broken("log settings", "the server is a standby and takes no writes; name the primary")
        });
    }
    for (name, on) in [("fsync", report.fsync), ("full_page_writes", report.full_page_writes)] {
        if !on {
            let detail =
                format!("{name} is off: a crash of the machine may lose or damage what was acknowledged");
            say(&mut || findings.broken("log settings", format!("{detail}; turn it on")));
        }
    }
    if report.synchronous_commit == "off" {
        let detail = "synchronous_commit is off; everline turns it on for appends";
        say(&mut || findings.warning("log settings", detail));
    }
    let needed = config.postgres.connections.get().saturating_mul(POOLS);
    if !config.postgres.pooled && report.max_connections < needed.saturating_mul(2) {
        let detail = format!(
            "max_connections is {}; a process with all roles has up to {needed} (postgres.connections)",
            report.max_connections
        );
        say(&mut || findings.warning("log settings", detail.clone()));
    }
    if sound {
        findings.ok("log settings", "they keep what is acknowledged");
    }
}

/// Whether the read models are there, and of this version.
async fn look_at_models(config: &Config, url: &PostgresUrl, findings: &mut Findings) -> bool {
    let options = config.postgres.read_models(url, NAME);
    let check = "read_models";
    match tokio::time::timeout(PATIENCE, inspect_postgres(&options)).await {
        Err(_) => findings.broken(check, format!("{} does not answer", url.shown())),
        Ok(Err(error)) => findings.broken(check, format!("{} cannot be used: {}", url.shown(), say(error))),
        Ok(Ok(facts)) => {
            let place = format!("Postgres {} at {}", facts.server_version, url.shown());
            let newest = facts.newest_schema_version;
            if facts.passes_walls {
                let detail = "the role is a superuser or has bypassrls: the server does not keep tenants apart; \
                    use a plain role";
                findings.warning("read_models role", detail);
            }
            match facts.schema_version {
                None => findings.ok(check, format!("{place}; not there yet, the first start creates them")),
                Some(version) => {
                    judge_version(findings, check, &place, version, newest);
                    return version == newest;
                }
            }
        }
    }
    false
}

async fn look_at_lag(config: &Config, store: &Store, models: &PostgresUrl, findings: &mut Findings) {
    let check = "projections";
    let look = async {
        let models = ReadModels::open_postgres_existing(config.postgres.read_models(models, NAME))
            .await
            .map_err(say)?;
        let lag = projection_service::lag(&*store.reader, &models).await.map_err(say);
        models.close().await;
        lag
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Err(_) => findings.broken(check, "how far they are cannot be read in time"),
        Ok(Err(error)) => findings.broken(check, error),
        Ok(Ok(lag)) => {
            let behind: u64 = lag.iter().map(PartitionLag::events).sum();
            let most = lag.iter().max_by_key(|partition| partition.events());
            let detail = match most.filter(|_| behind > 0) {
                None => "the read models show the whole log".to_owned(),
                Some(most) => format!(
                    "the read models are {behind} events behind, partition {} the most with {}",
                    most.partition,
                    most.events()
                ),
            };
            if behind > MUCH_BEHIND { findings.warning(check, detail) } else { findings.ok(check, detail) }
        }
    }
}

async fn look_at_nodes(ownership: &dyn Ownership, findings: &mut Findings) {
    let membership = match tokio::time::timeout(PATIENCE, ownership.membership()).await {
        Ok(Ok(membership)) => membership,
        Ok(Err(error)) => return findings.broken("nodes", say(error)),
        Err(_) => return findings.broken("nodes", "the table of nodes cannot be read in time"),
    };
    let live = membership.nodes.iter().filter(|node| !node.draining).count();
    let draining = membership.nodes.len() - live;
    let detail = format!("{live} live, {draining} shutting down");
    if live == 0 {
        findings.warning("nodes", format!("{detail}; no command is answered until a command-service starts"));
    } else {
        findings.ok("nodes", detail);
    }
    let is_live = |id| membership.nodes.iter().any(|node| node.node == id);
    let all = membership.owners.len();
    let owned = membership.owners.iter().filter(|owner| owner.node.is_some_and(is_live)).count();
    let detail = format!("{owned} of {all} have a live owner");
    if owned < all && live > 0 {
        findings.warning(
            "partitions",
            format!("{detail}; the others are taken within seconds, or look at the nodes' logs"),
        );
    } else {
        findings.ok("partitions", detail);
    }
}
