//! nats-py: a subscriber of a tenant's subject sees that tenant's events and nobody else's.

use reqwest::StatusCode;
use serde_json::json;
use std::process::Stdio;
use test_services::{NatsServer, NatsVersion};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Live, python};
use crate::harness::{Client, doubling, within};

#[tokio::test]
async fn a_subscriber_of_a_tenant_sees_that_tenant_only() {
    let nats = NatsServer::start(NatsVersion::New).await.unwrap();
    let live = Live::start(&format!("nats_url = \"{}\"\n", nats.url())).await;
    let tenant = json!({"name": "acme", "admin": {"email": "boss@acme.test", "password": super::PASSWORD}});
    let made = live.client.post("/tenants", &tenant).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let login = json!({"email": "boss@acme.test", "password": super::PASSWORD});
    let session = live.client.post("/auth/login", &login).await;
    let boss = Client::new(&live.url, session.body["access_token"].as_str().unwrap());

    let mut child =
        python("nats_client.py").args([&nats.url(), "acme"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(within("the subscription", lines.next_line()).await.unwrap().as_deref(), Some("subscribed"));
    let mut last = String::new();
    for (number, client) in [&live.client, &boss, &live.client, &boss].into_iter().enumerate() {
        let mut definition = doubling();
        definition["name"] = json!(format!("number {number}"));
        let workflow = client.create(&definition).await;
        last = client.execute(&workflow, json!({"n": 2})).await["execution_id"].as_str().unwrap().to_owned();
    }
    let mut events = 0;
    within("the last event of acme", async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            let subject = event["subject"].as_str().unwrap();
            assert!(subject.split('.').nth(3) == Some("acme"), "{subject}");
            events += 1;
            if event["type"] == "execution.completed" && event["stream"].as_str().unwrap().contains(&last) {
                return;
            }
        }
        panic!("the subscriber ended");
    })
    .await;
    assert!(events > 4, "{events}");
}
