//! This machine: room on its disk, its clock, and the process that serves here.

use serde_json::Value;
use std::path::Path;
use std::time::Duration;

use super::Findings;
use crate::config::Config;

/// Less room than this is worth a warning.
const LITTLE_ROOM: u64 = 2 * 1024 * 1024 * 1024;
/// Less room than this will soon stop the log.
const NO_ROOM: u64 = 128 * 1024 * 1024;
/// A clock that is further off than this makes times of events wrong in a way that people see.
const SKEW: Duration = Duration::from_millis(500);
/// A clock that is further off than this is not set at all.
const NO_CLOCK: Duration = Duration::from_secs(60);
/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Room where the data directory is, or will be.
pub(super) fn look_at_disk(config: &Config, findings: &mut Findings) {
    let absolute = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let shown = there.display();
    match rustix::fs::statvfs(there) {
        Err(error) => findings.warning("disk", format!("{shown} cannot be asked for room: {error}")),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let detail = format!("{} MiB free at {shown}", free / (1024 * 1024));
            match free {
                0..NO_ROOM => findings.broken("disk", detail),
                NO_ROOM..LITTLE_ROOM => findings.warning("disk", detail),
                _ => findings.ok("disk", detail),
            }
        }
    }
}

/// How far a server's clock is from this machine's, as seen over a round trip.
pub(super) fn look_at_clock(skew: Duration, findings: &mut Findings) {
    let detail = format!("{} ms between this machine's clock and the database's", skew.as_millis());
    if skew > NO_CLOCK {
        findings.broken("clock", format!("{detail}; set the clocks"));
    } else if skew > SKEW {
        findings.warning("clock", format!("{detail}; keep both in time with NTP"));
    } else {
        findings.ok("clock", detail);
    }
}

/// The process that serves at the configured address, if one does.
pub(super) async fn look_at_process(config: &Config, findings: &mut Findings) {
    let mut address = config.http_addr;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let url = format!("http://{address}");
    match ask(&format!("{url}/readyz")).await {
        None => findings.ok("process", format!("none serves at {url}")),
        Some(answer) => {
            let failed = |(name, check): (&String, &Value)| {
                (check["status"] != "ok")
                    .then(|| format!("{name} {}", check["detail"].as_str().unwrap_or_default()))
            };
            let failed: Vec<_> =
                answer["checks"].as_object().into_iter().flatten().filter_map(failed).collect();
            match answer["status"].as_str() {
                Some("ready") => findings.ok("process", format!("the one at {url} is ready")),
                Some("draining") => findings.warning("process", format!("the one at {url} is shutting down")),
                Some(_) => {
                    findings
                        .broken("process", format!("the one at {url} is not ready: {}", failed.join(", ")));
                }
                None => findings.warning("process", format!("another program than Everline serves at {url}")),
            }
        }
    }
}

/// What is said there as JSON; null if it is something else, nothing if nobody answers.
async fn ask(url: &str) -> Option<Value> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().tls_certs_only([]).build().ok()?;
    let answer = client.get(url).send().await.ok()?;
    Some(answer.json().await.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off() {
        for (skew_ms, state) in [(20, State::Ok), (800, State::Warning), (120_000, State::Broken)] {
            let mut findings = Findings::default();
            look_at_clock(Duration::from_millis(skew_ms), &mut findings);
            assert_eq!(findings.0[0].state, state);
        }
    }

    #[test]
    fn room_is_looked_for_where_the_data_directory_will_be() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { data_dir: directory.path().join("not/yet"), ..Config::default() };
        let mut findings = Findings::default();
        look_at_disk(&config, &mut findings);
        assert!(findings.0[0].detail.contains(&directory.path().display().to_string()), "{findings:?}");
    }
}
