//! The `EVERLINE_*` layer.

use std::ffi::OsString;
use toml::Value;

use super::error::ConfigProblem;
use super::layers::Setting;

/// Prefix of every variable that is ours.
const PREFIX: &str = "EVERLINE_";

/// Variables that the command line reads as a client; the server's configuration does not know them.
pub const CLIENT_VARIABLES: &[&str] = &["EVERLINE_API_KEY", "EVERLINE_SERVER", "EVERLINE_CONFIG"];

/// Keys whose value may come from a file named by `EVERLINE_<KEY>_FILE`.
const SECRET_KEYS: &[&str] = &[
    "bootstrap_admin_password",
    "master_key",
    "database_url",
    "read_model_url",
    "nats_url",
    "blobs.access_key_id",
    "blobs.secret_access_key",
    "blobs.session_token",
];

/// The most bytes of a file with a secret; a larger one is surely another file.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Whether Kubernetes puts a variable of this name and value into every pod, for a service called `everline…`.
pub fn injected_by_kubernetes(name: &str, value: &str) -> bool {
    let numbered_port = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            && parts.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.match_indices("_PORT_").any(|(at, mark)| numbered_port(&name[at + mark.len()..]))
}

/// The settings of an environment. An empty variable counts as absent, as compose files produce them.
pub(super) fn settings(
    variables: &[(OsString, OsString)],
    problems: &mut Vec<ConfigProblem>,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if CLIENT_VARIABLES.contains(&name) {
            continue;
        }
        let Some(value) = value.to_str() else {
            problems.push(ConfigProblem::new(name, "the value is not UTF-8"));
            continue;
        };
        if value.is_empty() || injected_by_kubernetes(name, value) {
            continue;
        }
        let key = key_of(name);
        match key.strip_suffix("_file").filter(|key| SECRET_KEYS.contains(key)) {
            Some(_) if variables.iter().any(|(other, value)| is_without_file(name, other, value)) => {
                let detail = format!("{} is set too; keep one of them", name.trim_end_matches("_FILE"));
                problems.push(ConfigProblem::new(name, detail));
            }
            Some(key) => match read_secret(value) {
                Ok(text) => settings.push(Setting::text(name, key, Value::String(text))),
                Err(detail) => problems.push(ConfigProblem::new(name, detail)),
            },
            None => settings
                .push(Setting { candidates: candidates(value), ..Setting::text(name, &key, "".into()) }),
        }
    }
    settings
}

fn is_without_file(name: &str, other: &OsString, value: &OsString) -> bool {
    Some(other.as_encoded_bytes()) == name.strip_suffix("_FILE").map(str::as_bytes) && !value.is_empty()
}

/// `EVERLINE_EGRESS__ALLOW_PRIVATE` is `egress.allow_private`.
fn key_of(name: &str) -> String {
    name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".")
}

/// What a text may mean: the text itself first, so that a password of digits stays a password.
fn candidates(text: &str) -> Vec<Value> {
    let mut candidates = vec![Value::String(text.to_owned())];
    candidates.extend(text.parse().ok().map(Value::Boolean));
    candidates.extend(text.parse().ok().map(Value::Integer));
    candidates
}

fn read_secret(path: &str) -> Result<String, String> {
    let refuse = |error: std::io::Error| format!("cannot read {path}: {error}");
    let length = std::fs::metadata(path).map_err(refuse)?.len();
    if length > MAX_SECRET_BYTES {
        return Err(format!("{path} has {length} bytes; a secret has at most {MAX_SECRET_BYTES}"));
    }
    let text = std::fs::read_to_string(path).map_err(refuse)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(format!("{path} is empty")) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_injects_is_recognised_and_a_setting_is_not() {
        for (name, value) in [
            ("EVERLINE_SERVICE_HOST", "10.0.0.1"),
            ("EVERLINE_SERVICE_PORT", "7070"),
            ("EVERLINE_GATEWAY_SERVICE_PORT_HTTP", "7070"),
            ("EVERLINE_PORT", "tcp://10.0.0.1:7070"),
            ("EVERLINE_PORT_7070_TCP", "tcp://10.0.0.1:7070"),
            ("EVERLINE_GATEWAY_PORT_7070_TCP_ADDR", "10.0.0.1"),
            ("EVERLINE_GATEWAY_PORT_7070_TCP_PROTO", "tcp"),
        ] {
            assert!(injected_by_kubernetes(name, value), "{name}");
        }
        for (name, value) in [("EVERLINE_HTTP_ADDR", "127.0.0.1:1"), ("EVERLINE_HTTP_PORT", "8080")] {
            assert!(!injected_by_kubernetes(name, value), "{name}");
        }
    }

    #[test]
    fn no_key_looks_like_a_variable_of_kubernetes() {
        for key in super::super::known_keys() {
            let name = format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"));
            assert!(!injected_by_kubernetes(&name, "a://b"), "{name}");
        }
    }

    #[test]
    fn every_key_that_may_come_from_a_file_is_a_key() {
        let known = super::super::known_keys();
        for key in SECRET_KEYS {
            assert!(known.iter().any(|known| known == key), "{key}");
        }
    }
}
