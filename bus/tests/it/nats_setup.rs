//! The first connect, and streams that are not as they should be.

use crate::nats::{bus, on_both, options, server, soon, told};
use async_nats::jetstream::stream::{Compression, Config, RetentionPolicy, StorageType};
use bus::nats::{NatsBus, NatsOptions, inspect};
use std::time::{Duration, Instant};
use test_services::{NatsServer, NatsVersion};

on_both!(
    streams_are_made_as_the_server_allows,
    a_look_changes_nothing_and_names_what_differs,
    a_stream_that_was_changed_is_brought_up_to_date,
    a_stream_of_somebody_else_is_refused,
    a_wrong_password_is_refused_without_being_repeated,
    a_server_without_jetstream_is_refused,
);

async fn refused(options: NatsOptions) -> String {
    match soon("an answer", NatsBus::connect(options)).await {
        Ok(_) => panic!("it was not refused"),
        Err(error) => told(&error),
    }
}

async fn jetstream(server: &NatsServer) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("a connection"))
}

async fn streams_are_made_as_the_server_allows(version: NatsVersion) {
    let server = server(version).await;
    let bus = bus(&server).await;
    let status = bus.status();
    assert!(status.connected);
    assert_eq!(
        status.server_version.starts_with("2.9."),
        version == NatsVersion::Old,
        "{}",
        status.server_version
    );
    let events = jetstream(&server).await.get_stream("EVERLINE_EVENTS").await.expect("the stream");
    let compressed = events.cached_info().config.compression == Some(Compression::S2);
    assert_eq!(compressed, version == NatsVersion::New);
}

async fn a_look_changes_nothing_and_names_what_differs(version: NatsVersion) {
    let server = server(version).await;
    let look = async |options: NatsOptions| soon("an answer", inspect(&options)).await.expect("a report");
    for _ in 0..2 {
        let report = look(options(&server)).await;
        assert!(!report.server_version.is_empty());
        assert_eq!(report.streams.len(), 2);
        assert!(report.streams.iter().all(|stream| !stream.exists));
    }
    bus(&server).await;
    let report = look(options(&server)).await;
    assert!(report.streams.iter().all(|stream| stream.exists && stream.differing.is_empty()));
    let other = NatsOptions { events_max_age: Duration::from_secs(3_600), ..options(&server) };
    for _ in 0..2 {
        let report = look(other.clone()).await;
        let events =
            report.streams.iter().find(|stream| stream.name == "EVERLINE_EVENTS").expect("the stream");
        assert_eq!(events.differing, ["max_age"]);
    }
}

async fn a_stream_that_was_changed_is_brought_up_to_date(version: NatsVersion) {
    let server = server(version).await;
    let context = jetstream(&server).await;
    let old = Config {
        name: "EVERLINE_EVENTS".to_owned(),
        subjects: vec!["everline.evt.old.>".to_owned()],
        max_age: Duration::from_secs(60),
        ..Config::default()
    };
    context.create_stream(old).await.expect("a stream");
    bus(&server).await;
    let info = context.get_stream("EVERLINE_EVENTS").await.expect("the stream").cached_info().config.clone();
    assert_eq!(info.subjects, ["everline.evt.>"]);
    assert_eq!(info.max_age, options(&server).events_max_age);
}

async fn a_stream_of_somebody_else_is_refused(version: NatsVersion) {
    for (name, retention, storage, field) in [
        ("EVERLINE_TASKS", RetentionPolicy::Limits, StorageType::File, "retention"),
        ("EVERLINE_EVENTS", RetentionPolicy::Limits, StorageType::Memory, "storage"),
    ] {
        let server = server(version).await;
        let subjects = vec![format!("{name}.>")];
        let foreign = Config { name: name.to_owned(), subjects, retention, storage, ..Config::default() };
        jetstream(&server).await.create_stream(foreign).await.expect("a stream");
        let text = refused(options(&server)).await;
        assert!(text.contains(name) && text.contains(field) && text.contains("nats stream rm"), "{text}");
    }
}

async fn a_wrong_password_is_refused_without_being_repeated(version: NatsVersion) {
    let extra = ["--user", "everline", "--pass", "r1ght"];
    let server = NatsServer::start_with(version, &extra).await.expect("a nats-server");
    let url = |password: &str| format!("nats://everline:{password}@127.0.0.1:{}", server.port());
    let text = refused(NatsOptions { url: url("wr0ng"), ..options(&server) }).await;
    assert!(text.contains(&format!("127.0.0.1:{}", server.port())) && text.contains("password"), "{text}");
    assert!(!text.contains("wr0ng") && !text.contains("everline:"), "{text}");
    let right = NatsBus::connect(NatsOptions { url: url("r1ght"), ..options(&server) }).await;
    assert!(right.is_ok_and(|bus| bus.status().connected));
}

async fn a_server_without_jetstream_is_refused(version: NatsVersion) {
    let server = NatsServer::start_with(version, &["--jetstream=false"]).await.expect("a nats-server");
    let text = refused(options(&server)).await;
    assert!(text.contains("JetStream") && text.contains("-js"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_after_ten_seconds() {
    let port = test_services::free_port().expect("a port");
    let begun = Instant::now();
    let text = refused(NatsOptions::new(format!("nats://me:s3cret@127.0.0.1:{port}"), 16)).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("start nats-server"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_server_that_comes_up_meanwhile_is_found() {
    let mut server = server(NatsVersion::Old).await;
    server.kill().await.expect("a dead server");
    let options = options(&server);
    let connecting = tokio::spawn(async move { NatsBus::connect(options).await.is_ok() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.start_again().await.expect("a server");
    assert!(soon("a connection", connecting).await.expect("a task that ends"));
}
