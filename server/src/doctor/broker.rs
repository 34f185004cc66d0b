//! NATS: whether it answers, which it is, and its streams.

use bus::nats::{NatsReport, inspect};

use super::{Findings, PATIENCE, say};
use crate::config::{Config, NatsUrl};

/// The name under which the server shows our connections.
const NAME: &str = "everline doctor";

/// Looks at the broker of a log with so many partitions.
pub(super) async fn look(config: &Config, url: &NatsUrl, partitions: u16, findings: &mut Findings) {
    let options = config.nats.options(url, partitions, NAME);
    match tokio::time::timeout(PATIENCE, inspect(&options)).await {
        Err(_) => findings.broken("nats", format!("{} does not answer", url.shown())),
        Ok(Err(error)) => {
            findings.broken("nats", format!("{} cannot be used: {}", url.shown(), say(error)));
        }
        Ok(Ok(report)) => {
            let detail = format!("NATS {} with JetStream at {}", report.server_version, url.shown());
            match missing_in(&report.server_version) {
                None => findings.ok("nats", detail),
                Some(missing) => findings.warning("nats", format!("{detail}; {missing}")),
            }
            judge_streams(&report, findings);
        }
    }
}

fn judge_streams(report: &NatsReport, findings: &mut Findings) {
    for stream in &report.streams {
        let name = &stream.name;
        if !stream.exists {
            findings.ok("streams", format!("{name} is not there yet; the first start creates it"));
        } else if stream.differing.is_empty() {
            findings.ok("streams", format!("{name} is as it must be"));
        } else {
            let fields = stream.differing.join(", ");
            let remedy = "the next start changes it, or says why it cannot";
            findings.warning("streams", format!("{name} has another {fields} than configured; {remedy}"));
        }
    }
}

/// What a server of a version does not have.
fn missing_in(version: &str) -> Option<&'static str> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (2, 10) {
        Some(
            "before 2.10 it does not compress EVERLINE_EVENTS, and writes to disk every two minutes at most: a crash may lose the newest messages, which are published again",
        )
    } else if version < (2, 14) {
        Some("before 2.14, on which this release is tested beside 2.9")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_server_lacks_is_named() {
        assert!(missing_in("2.9.10").is_some_and(|missing| missing.contains("compress")));
        assert!(missing_in("2.12.1").is_some_and(|missing| missing.contains("2.14")));
        assert_eq!(missing_in("2.15.1"), None);
        assert_eq!(missing_in("3.0.0-beta"), None);
    }
}
