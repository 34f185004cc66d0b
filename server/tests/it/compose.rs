//! docker-compose.yml, read as a test can: every setting is one, every command parses, nothing is forgotten.

use clap::Parser;
use serde_json::Value;
use server::cli::Cli;
use server::config::{self, Config, Sources};
use server::{ProcessOptions, Role, Roles};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The services that are `everline`, each with its role.
const ROLES: [(&str, Role); 4] = [
    ("command-service", Role::CommandService),
    ("projection-service", Role::ProjectionService),
    ("gateway", Role::Gateway),
    ("agents", Role::Agents),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The file as compose sees it without an environment.
fn compose() -> Value {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let (text, _) = interpolated(&text);
    serde_saphyr::from_str(&text).unwrap()
}

/// The text with the default of each `${NAME:-default}`, and those with their names.
fn interpolated(text: &str) -> (String, BTreeMap<String, String>) {
    let (mut out, mut variables) = (String::new(), BTreeMap::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').expect("a closing brace");
        let (name, default) = inside.split_once(":-").expect("a default");
        variables.insert(name.to_owned(), default.to_owned());
        out.push_str(before);
        out.push_str(default);
        rest = after;
    }
    out.push_str(rest);
    (out, variables)
}

fn services(compose: &Value) -> &serde_json::Map<String, Value> {
    compose["services"].as_object().expect("services")
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
}

fn parses(arguments: &[String]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("everline".to_owned()).chain(arguments.iter().cloned()))
}

/// What a container reads of its environment, with the secrets of a directory in the place of the mounted ones.
fn configuration(service: &Value, secrets: &Path) -> Config {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mounted = format!("{}/", secrets.display());
    let variables = service["environment"].as_object().expect("an environment");
    let variables = variables.iter().map(|(name, value)| {
        (OsString::from(name), OsString::from(text(value).replace("/run/secrets/", &mounted)))
    });
    let sources =
        Sources { working_dir: secrets.to_owned(), environment: variables.collect(), ..Sources::default() };
    config::load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

fn made_secrets() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let script = root().join("deploy/make-secrets.sh");
    let made = Command::new("sh").arg(script).arg(directory.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    directory
}

#[test]
fn every_service_of_everline_has_its_role_and_a_configuration_that_fits_it() {
    let (compose, secrets) = (compose(), made_secrets());
    for (name, role) in ROLES {
        let service = &services(&compose)[name];
        assert_eq!(texts(&service["command"]), ["serve", name]);
        parses(&texts(&service["command"])).unwrap();
        let config = configuration(service, secrets.path());
        let options =
            ProcessOptions { roles: Roles::Only(role), ..ProcessOptions::from_config(&config, false) };
        options.check().unwrap();
        assert!(config.http_addr.ip().is_unspecified(), "{name} is not reachable from its host");
        let mounted: BTreeSet<_> = texts(&service["secrets"]).into_iter().collect();
        for (key, value) in service["environment"].as_object().unwrap() {
            if let Some(secret) = value.as_str().and_then(|value| value.strip_prefix("/run/secrets/")) {
                assert!(mounted.contains(secret), "{name}: {key} names a secret that is not mounted");
            }
        }
    }
    let gateway = configuration(&services(&compose)["gateway"], secrets.path());
    assert!(gateway.master_key.is_some(), "a gateway on Postgres does not start without one");
    let known: BTreeSet<_> = ROLES.iter().map(|(name, _)| *name).chain(["postgres", "nats"]).collect();
    assert_eq!(services(&compose).keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

#[test]
fn the_log_gets_the_same_partitions_whichever_service_creates_it() {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    assert!(text.contains("${PARTITIONS:-}"));
    let (text, _) = interpolated(&text.replace("${PARTITIONS:-}", "32"));
    let (compose, secrets): (Value, _) = (serde_saphyr::from_str(&text).unwrap(), made_secrets());
    for (name, _) in ROLES {
        let config = configuration(&services(&compose)[name], secrets.path());
        assert_eq!(config.partitions.map(|partitions| partitions.get()), Some(32), "{name}");
    }
}

#[test]
fn every_service_is_checked_restarted_and_without_rights_it_does_not_need() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let check = texts(&service["healthcheck"]["test"]);
        assert_eq!(check[0], "CMD", "{name}");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(!texts(&service["networks"]).is_empty(), "{name}");
        if ROLES.iter().any(|(role, _)| role == name) {
            assert_eq!(check[1], "everline");
            parses(&check[2..]).unwrap();
            assert_eq!(service["read_only"], true, "{name}");
            assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
            for dependency in ["postgres", "nats"] {
                assert_eq!(service["depends_on"][dependency]["condition"], "service_healthy", "{name}");
            }
        }
    }
    let image = std::fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
    assert!(image.contains("\nUSER 10001\n"), "the image's user is not a number other than root's");
}

#[test]
fn a_container_is_given_more_time_to_stop_than_its_process_takes() {
    let (compose, secrets) = (compose(), made_secrets());
    for (name, _) in ROLES {
        let service = &services(&compose)[name];
        let grace = service["stop_grace_period"].as_str().and_then(|text| text.strip_suffix('s')).unwrap();
        let grace = Duration::from_secs(grace.parse().unwrap());
        let config = configuration(service, secrets.path());
        // The part of the role, its health server at most a moment, then the connections.
        let most = Duration::from_millis(u64::from(config.shutdown_timeout_ms)) * 2;
        assert!(grace > most, "{name}: {grace:?} is not more than {most:?}");
    }
}

#[test]
fn every_variable_of_compose_is_in_the_example_with_the_same_default() {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let (_, used) = interpolated(&text);
    let example = std::fs::read_to_string(root().join(".env.example")).unwrap();
    let lines = example.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let shown: BTreeMap<_, _> = lines
        .map(|line| line.split_once('=').expect("NAME=value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(shown, used);
}

#[test]
fn secrets_are_made_once_and_fit_each_other() {
    let secrets = made_secrets();
    let read = |name: &str| std::fs::read_to_string(secrets.path().join(name)).unwrap();
    let password = read("postgres_password");
    assert_eq!(read("database_url"), format!("postgres://everline:{password}@postgres:5432/everline"));
    let again =
        Command::new("sh").arg(root().join("deploy/make-secrets.sh")).arg(secrets.path()).output().unwrap();
    assert!(again.status.success());
    assert_eq!(read("postgres_password"), password);
    let compose = compose();
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        let file = secret["file"].as_str().and_then(|file| file.strip_prefix("./deploy/secrets/")).unwrap();
        assert!(!read(file).is_empty(), "{name}");
    }
}
