//! Roles in processes of their own, on a real Postgres and NATS.

use axum::routing::post;
use axum::{Json, Router};
use reqwest::StatusCode;
use serde_json::{Value, json};
use server::config::{self, Sources};
use server::{Process, ProcessOptions, Role, Roles};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use test_services::{Durability, NatsServer, NatsVersion, PostgresServer, database};
use testkit::EverlineProcess;
use tokio::process::Command;

use crate::harness::{Client, Target, doubling, eventually, install_tls, posting, within};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_everline"))
}

/// Any key, the same for all processes of a test.
const MASTER_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a process of a role is started with.
fn options(roles: Roles, variables: &[(&str, &str)], data_dir: &Path) -> ProcessOptions {
    install_tls();
    let mut environment: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    environment.push(("EVERLINE_MASTER_KEY".into(), MASTER_KEY.into()));
    environment.push(("EVERLINE_DATA_DIR".into(), data_dir.as_os_str().to_owned()));
    let sources = Sources { working_dir: data_dir.to_owned(), environment, ..Sources::default() };
    let config = config::load(&sources).unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut options = ProcessOptions { roles, listen, ..ProcessOptions::from_config(&config, true) };
    options.gateway.drain_notice_ms = 0;
    options
}

async fn get(url: &str, path: &str, key: &str) -> (StatusCode, Value) {
    install_tls();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let answer = client.get(format!("{url}{path}")).bearer_auth(key).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

async fn run(
    arguments: &[&str],
    variables: &[(&str, &str)],
    data_dir: &Path,
) -> (Option<i32>, String, String) {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVERLINE_")) {
        command.env_remove(name);
    }
    command.env("EVERLINE_MASTER_KEY", MASTER_KEY);
    command.args(arguments).current_dir(data_dir).envs(variables.iter().copied()).kill_on_drop(true);
    let done = within("the command", command.output()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_that_start_at_once_one_makes_the_admin_and_both_know_it() {
    let (database, nats) = (database().await.unwrap(), NatsServer::start(NatsVersion::Old).await.unwrap());
    let nats_url = nats.url();
    let variables = [("EVERLINE_DATABASE_URL", &*database), ("EVERLINE_NATS_URL", &*nats_url)];
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |directory: &Path| Process::start(options(Roles::Only(Role::Gateway), &variables, directory));
    let (one, two) =
        within("the starts", async { tokio::join!(start(here.path()), start(there.path())) }).await;
    let gateways = [one.unwrap(), two.unwrap()];
    let admins = gateways.each_ref().map(|gateway| gateway.admin.clone().unwrap());
    assert_eq!(admins.iter().filter(|admin| admin.created).count(), 1);
    let key = admins.iter().find_map(|admin| admin.key.clone()).unwrap();
    for (gateway, (admin, directory)) in gateways.iter().zip(admins.iter().zip([&here, &there])) {
        let (status, body) = get(&gateway.url, "/api/v1/auth/me", key.expose()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, usize::from(admin.created), "the loser leaves no key behind");
    }
    for gateway in gateways {
        within("the shutdown", gateway.shutdown()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_http_serves_its_health_by_the_names_of_what_it_needs_and_nothing_else() {
    let (database, nats) = (database().await.unwrap(), NatsServer::start(NatsVersion::New).await.unwrap());
    let nats_url = nats.url();
    let variables = [("EVERLINE_DATABASE_URL", &*database), ("EVERLINE_NATS_URL", &*nats_url)];
    let directory = tempfile::tempdir().unwrap();
    for (role, needs) in [
        (Role::ProjectionService, &["bus", "log", "projections", "read_models"][..]),
        (Role::Agents, &["bus", "log"]),
    ] {
        let process = Process::start(options(Roles::Only(role), &variables, directory.path()));
        let process = within("the start", process).await.unwrap();
        let (status, body) = get(&process.url, "/readyz", "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let checks = body["checks"].as_object().unwrap();
        let mut names: Vec<_> = checks.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, needs);
        assert_eq!(get(&process.url, "/livez", "").await.0, StatusCode::OK);
        assert_eq!(get(&process.url, "/version", "").await.1["name"], "everline");
        assert_eq!(get(&process.url, "/metrics", "").await.0, StatusCode::OK);
        assert_eq!(get(&process.url, "/api/v1/workflows", "").await.0, StatusCode::NOT_FOUND);
        within("the shutdown", process.shutdown()).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_nats_and_its_loss_shows_where_it_matters() {
    let (database, mut nats) =
        (database().await.unwrap(), NatsServer::start(NatsVersion::Old).await.unwrap());
    let nats_url = nats.url();
    let variables = [("EVERLINE_DATABASE_URL", &*database), ("EVERLINE_NATS_URL", &*nats_url)];
    let directory = tempfile::tempdir().unwrap();
    nats.kill().await.unwrap();
    let start = |role| Process::start(options(Roles::Only(role), &variables, directory.path()));
    let starting = async { tokio::join!(start(Role::Gateway), start(Role::ProjectionService)) };
    let (started, again) = within("the starts", async { tokio::join!(starting, nats.start_again()) }).await;
    again.unwrap();
    let (gateway, projections) = (started.0.unwrap(), started.1.unwrap());
    assert_eq!(get(&gateway.url, "/readyz", "").await.0, StatusCode::OK);

    nats.kill().await.unwrap();
    let body = eventually("the gateway's notice", || async {
        let (status, body) = get(&gateway.url, "/readyz", "").await;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(body)
    })
    .await;
    assert_eq!(body["checks"]["bus"]["status"], "failed", "{body}");
    let body = eventually("the projections' notice", || async {
        let (status, body) = get(&projections.url, "/readyz", "").await;
        assert_eq!(status, StatusCode::OK, "projections follow the log alone: {body}");
        (!body["checks"]["bus"]["detail"].is_null()).then_some(body)
    })
    .await;
    assert_eq!(body["checks"]["bus"]["status"], "ok");

    nats.start_again().await.unwrap();
    eventually("the return", || async {
        (get(&gateway.url, "/readyz", "").await.0 == StatusCode::OK).then_some(())
    })
    .await;
    for process in [gateway, projections] {
        within("the shutdown", process.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn the_doctor_names_what_is_well_and_what_weakens_promises() {
    let mut postgres = PostgresServer::start(Durability::Fsync).await.unwrap();
    let nats = NatsServer::start(NatsVersion::Old).await.unwrap();
    let (database, nats_url) = (postgres.create_database().await.unwrap(), nats.url());
    let variables = [("EVERLINE_DATABASE_URL", &*database), ("EVERLINE_NATS_URL", &*nats_url)];
    let directory = tempfile::tempdir().unwrap();
    let states = |text: &str| -> Vec<(String, String, String)> {
        let text_of = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| (text_of(&line, "check"), text_of(&line, "state"), text_of(&line, "detail")))
            .collect()
    };
    let doctor = ["doctor", "--output", "json"];
    let (code, out, err) = run(&doctor, &variables, directory.path()).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let seen = states(&out);
    assert!(
        seen.iter().any(|(check, _, detail)| check == "log" && detail.contains("not there yet")),
        "{out}"
    );
    for arguments in [
        &["log", "verify"][..],
        &["log", "export", "-"],
        &["projection", "lag"],
        &["projection", "rebuild"],
        &["cluster", "nodes"],
    ] {
        let (code, out, err) = run(arguments, &variables, directory.path()).await;
        assert_eq!(code, Some(64), "{arguments:?}: {out}{err}");
        assert!(err.contains("there is no log"), "{arguments:?}: {err}");
    }
    // Neither has created anything: whoever mistypes a database's name is told so.
    let (_, out, _) = run(&doctor, &variables, directory.path()).await;
    assert_eq!(
        out.matches("not there yet").count(),
        seen.iter().filter(|(_, _, d)| d.contains("not there yet")).count(),
        "{out}"
    );
    assert!(
        states(&out)
            .iter()
            .any(|(check, _, detail)| check == "read_models" && detail.contains("not there yet"))
    );
    assert!(
        seen.iter().any(|(check, state, _)| check == "nats" && state == "warning"),
        "2.9 lacks things: {out}"
    );

    let (code, out, err) = run(&["migrate", "--output", "json"], &variables, directory.path()).await;
    assert_eq!(code, Some(0), "{out}{err}");
    postgres.sql("postgres", "alter system set synchronous_commit = off").await.unwrap();
    postgres.sql("postgres", "select pg_reload_conf()").await.unwrap();
    let (code, out, _) = run(&doctor, &variables, directory.path()).await;
    assert_eq!(code, Some(0), "{out}");
    for (check, state, part) in [
        ("configuration", "ok", "can be used"),
        ("log", "ok", "tables of version 3"),
        ("log settings", "warning", "everline turns it on for appends"),
        ("clock", "ok", "ms between"),
        ("read_models", "ok", "tables of version 3"),
        ("read_models role", "warning", "superuser"),
        ("projections", "ok", "the whole log"),
        ("nodes", "warning", "0 live"),
        ("partitions", "ok", "0 of 16"),
        ("nats", "warning", "NATS 2.9.10"),
        ("streams", "ok", "EVERLINE_TASKS is not there yet"),
    ] {
        let found = states(&out).into_iter().find(|(found, _, _)| found == check);
        let (_, found, detail) = found.unwrap_or_else(|| panic!("nothing about {check}: {out}"));
        assert!(found == state && detail.contains(part), "{check}: {found}: {detail}");
    }
    assert!(!out.contains("postgres://postgres"), "a user is in {out}");

    postgres.sql("postgres", "alter system set fsync = off").await.unwrap();
    postgres.sql("postgres", "select pg_reload_conf()").await.unwrap();
    let (code, out, _) = run(&doctor, &variables, directory.path()).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("fsync is off"), "{out}");
    postgres.stop_immediately().await.unwrap();
    let (code, out, _) = run(&doctor, &variables, directory.path()).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(states(&out).iter().any(|(check, state, _)| check == "log" && state == "broken"), "{out}");
}

#[tokio::test]
async fn commands_on_the_databases_work_on_postgres() {
    let database = database().await.unwrap();
    let variables = [("EVERLINE_DATABASE_URL", &*database)];
    let directory = tempfile::tempdir().unwrap();
    for (arguments, lines) in [
        (&["migrate"][..], 2),
        (&["log", "verify"], 16),
        (&["projection", "lag"], 16),
        (&["projection", "rebuild"], 1),
        (&["cluster", "nodes"], 0),
        (&["cluster", "partitions"], 16),
    ] {
        let arguments = [arguments, &["--output", "json"]].concat();
        let (code, out, err) = run(&arguments, &variables, directory.path()).await;
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        assert_eq!(out.lines().count(), lines, "{arguments:?}: {out}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_process_of_a_role_ends_well_when_it_is_asked_to() {
    let (database, nats) = (database().await.unwrap(), NatsServer::start(NatsVersion::Old).await.unwrap());
    let nats_url = nats.url();
    let variables = [("EVERLINE_DATABASE_URL", &*database), ("EVERLINE_NATS_URL", &*nats_url)];
    for role in ["gateway", "projection-service", "agents"] {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["serve", role];
        let process = EverlineProcess::spawn(program(), &arguments, &variables, directory.path());
        let process = within("the start", process).await.unwrap();
        assert_eq!(process.key.is_empty(), role != "gateway" || !directory.path().join("admin.key").exists());
        within("the end", process.stop()).await.unwrap();
    }
}

/// A client for a process, with a key.
fn client(url: &str, key: &str) -> Client {
    install_tls();
    Client::new(url, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_without_nats_a_second_process_is_refused_and_a_killed_one_is_followed() {
    let database = database().await.unwrap();
    let variables = [("EVERLINE_DATABASE_URL", &*database)];
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = EverlineProcess::spawn(program(), &["serve", "all"], &variables, here.path()).await.unwrap();
    let asked = client(&first.url, &first.key);
    let workflow = asked.create(&doubling()).await;
    assert_eq!(asked.execute(&workflow, json!({"n": 4})).await["output"]["n"], 8);

    let (code, _, err) = run(&["serve", "all", "--port", "0"], &variables, there.path()).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("another node lives on this database") && err.contains("nats_url"), "{err}");
    assert_eq!(asked.execute(&workflow, json!({"n": 5})).await["output"]["n"], 10);

    let key = first.key.clone();
    first.kill().await.unwrap();
    let second =
        EverlineProcess::spawn(program(), &["serve", "all"], &variables, there.path()).await.unwrap();
    let asked = client(&second.url, &key);
    assert_eq!(asked.execute(&workflow, json!({"n": 6})).await["output"]["n"], 12);
    second.stop().await.unwrap();
    eventually("an empty table of nodes", || async {
        let arguments = ["cluster", "nodes", "--output", "json"];
        let (code, out, err) = run(&arguments, &variables, there.path()).await;
        assert_eq!(code, Some(0), "{err}");
        out.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_all_roles_share_the_partitions_and_one_goes_on_alone() {
    let (database, nats) = (database().await.unwrap(), NatsServer::start(NatsVersion::New).await.unwrap());
    let nats_url = nats.url();
    let variables = [
        ("EVERLINE_DATABASE_URL", &*database),
        ("EVERLINE_NATS_URL", &*nats_url),
        ("EVERLINE_EGRESS__ALLOW_PRIVATE", "true"),
    ];
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = EverlineProcess::spawn(program(), &["serve", "all"], &variables, here.path()).await.unwrap();
    let second =
        EverlineProcess::spawn(program(), &["serve", "all"], &variables, there.path()).await.unwrap();
    let owners = || async {
        let arguments = ["cluster", "partitions", "--output", "json"];
        let (code, out, err) = run(&arguments, &variables, here.path()).await;
        assert_eq!(code, Some(0), "{err}");
        let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let owned = rows.iter().filter(|row| row["state"] == "owned").count();
        let names: BTreeSet<_> =
            rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
        (owned, names.len())
    };
    eventually("a shared set of partitions", || async { (owners().await == (16, 2)).then_some(()) }).await;

    let target = Target::serve(Router::new().route("/", post(|body: Json<Value>| async { body }))).await;
    let clients = [client(&first.url, &first.key), client(&second.url, &first.key)];
    let workflow = clients[0].create(&posting(&target.url)).await;
    for number in 0..20 {
        let done = clients[number % 2].execute(&workflow, json!({"number": number})).await;
        assert_eq!(done["output"]["number"], number, "{done}");
    }
    drop(clients);
    first.stop().await.unwrap();
    eventually("one owner of all", || async { (owners().await == (16, 1)).then_some(()) }).await;
    let key = std::fs::read_to_string(here.path().join("admin.key")).unwrap();
    let asked = client(&second.url, key.trim());
    for number in 0..10 {
        assert_eq!(asked.execute(&workflow, json!({"number": number})).await["output"]["number"], number);
    }
    drop(asked);
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_process_with_nats_publishes_its_events_there() {
    let nats = NatsServer::start(NatsVersion::Old).await.unwrap();
    let nats_url = nats.url();
    let variables = [("EVERLINE_NATS_URL", &*nats_url)];
    let directory = tempfile::tempdir().unwrap();
    let process = EverlineProcess::spawn(program(), &["serve", "all"], &variables, directory.path());
    let process = within("the start", process).await.unwrap();
    let asked = client(&process.url, &process.key);
    let workflow = asked.create(&doubling()).await;
    asked.execute(&workflow, json!({"n": 4})).await;
    eventually("the relay", || async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let text = client.get(format!("{}/metrics", process.url)).send().await.unwrap().text().await.unwrap();
        let lags: Vec<_> =
            text.lines().filter(|line| line.starts_with("everline_relay_lag_events{")).collect();
        (lags.len() == 16 && lags.iter().all(|line| line.ends_with(" 0"))).then_some(())
    })
    .await;
    drop(asked);
    process.stop().await.unwrap();
}
