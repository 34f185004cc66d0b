//! Forks as their users meet them: a target counts the calls, and nothing that was done is done again.

use axum::extract::State;
use axum::{Json, Router, http::Uri};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

use crate::harness::{Client, Server, Target, eventually, types, version};

/// A target whose answers say which call they are an answer to.
struct Counting {
    target: Target,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Counting {
    async fn start() -> Self {
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let target = Target::serve(Router::new().fallback(answer).with_state(calls.clone())).await;
        Self { target, calls }
    }

    /// The calls since the last look, without an order among those that are made side by side.
    fn new_calls(&self) -> Vec<String> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.sort();
        calls
    }
}

async fn answer(State(calls): State<Arc<Mutex<Vec<String>>>>, uri: Uri) -> Json<Value> {
    // From the process, not from the list, which the test empties: no two answers are ever the same.
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    calls.lock().unwrap().push(uri.to_string());
    Json(json!({"call": number}))
}

/// Calls, waits for a signal, and calls again with what came with it.
fn half(url: &str) -> Value {
    json!({
        "name": "half",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "first", "type": "http_request", "config": {"url": format!("{url}/{{{{ input.side }}}}/first")}},
            {"id": "go", "type": "wait", "config": {"for": "signal", "signal": "go"}},
            {"id": "last", "type": "http_request",
             "config": {"url": format!("{url}/{{{{ input.side }}}}/last/{{{{ nodes.go.output }}}}")}},
            {"id": "end", "type": "end", "config": {"output":
                ["{{ nodes.first.output.body.call }}", "{{ nodes.go.output }}",
                 "{{ nodes.last.output == null ? null : nodes.last.output.body.call }}"]}},
        ],
        "edges": [
            {"source": "start", "target": "first"}, {"source": "first", "target": "go"},
            {"source": "go", "target": "last"}, {"source": "last", "target": "end"},
        ],
    })
}

/// Calls, has two halves run side by side, and calls again with what they were signalled.
fn whole(url: &str) -> Value {
    let side = |id: &str| json!({"id": id, "type": "sub_workflow", "config": {"workflow": "half", "input": {"side": id}}});
    let last = "{{ nodes.left.output[1] }}-{{ nodes.right.output[1] }}";
    json!({
        "name": "whole",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "before", "type": "http_request", "config": {"url": format!("{url}/before/{{{{ input.order }}}}")}},
            side("left"),
            side("right"),
            {"id": "join", "type": "merge", "config": {"mode": "all"}},
            {"id": "after", "type": "http_request", "config": {"url": format!("{url}/after/{last}")}},
            {"id": "end", "type": "end", "config": {"output": {
                "before": "{{ nodes.before.output.body.call }}",
                "halves": "{{ nodes.join.output }}",
                "after": "{{ nodes.after.output == null ? null : nodes.after.output.body.call }}",
            }}},
        ],
        "edges": [
            {"source": "start", "target": "before"},
            {"source": "before", "target": "left"}, {"source": "before", "target": "right"},
            {"source": "left", "target": "join"}, {"source": "right", "target": "join"},
            {"source": "join", "target": "after"}, {"source": "after", "target": "end"},
        ],
    })
}

async fn execution(client: &Client, id: &str) -> Value {
    let answer = client.get(&format!("/executions/{id}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body
}

/// Forks, and gives the fork's id.
async fn fork(client: &Client, origin: &str, body: Value) -> String {
    let answer = client.post(&format!("/executions/{origin}/fork"), &body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    answer.body["execution_id"].as_str().unwrap().to_owned()
}

async fn signal(client: &Client, id: &str, name: &str, payload: &str) {
    let answer = client.post(&format!("/executions/{id}/signals/{name}"), &json!(payload)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
}

/// The children of an execution once both wait for their signal: the left one's id and the right one's.
async fn waiting_halves(client: &Client, parent: &str) -> [String; 2] {
    eventually("two halves that wait", || async {
        let parent = execution(client, parent).await;
        let child = |node: &str| {
            let nodes = parent["nodes"].as_array().unwrap();
            let node = nodes.iter().find(|found| found["id"] == node)?;
            Some(node["child"]["execution_id"].as_str()?.to_owned())
        };
        let halves = [child("left")?, child("right")?];
        for half in &halves {
            let answer = client.get(&format!("/executions/{half}")).await;
            if answer.status != StatusCode::OK || answer.body["status"] != "waiting" {
                return None;
            }
        }
        Some(halves)
    })
    .await
}

/// Lets both halves of an execution go on, and waits for the end of the whole.
async fn finish(client: &Client, whole: &str, payloads: [&str; 2]) -> Value {
    let halves = waiting_halves(client, whole).await;
    for (half, payload) in halves.iter().zip(payloads) {
        signal(client, half, "go", payload).await;
    }
    client.ended(whole).await
}

/// An execution with a target that is in the middle: both its halves wait. The version of its last event comes with it.
struct Middle {
    server: Server,
    target: Counting,
    origin: String,
    halves: [String; 2],
    at_version: u64,
}

impl Middle {
    async fn reached() -> Self {
        let target = Counting::start().await;
        let server = Server::temporary().await;
        let client = &server.client;
        client.create(&half(&target.target.url)).await;
        let workflow = client.create(&whole(&target.target.url)).await;
        let origin = client.start(&workflow, json!({"order": 7})).await;
        let halves = waiting_halves(client, &origin).await;
        // A fork takes each child as it was before the parent's event: one that comes after the children's.
        signal(client, &origin, "mark", "here").await;
        let events = client.events(&origin).await;
        assert_eq!(types(&events).last(), Some(&"execution.signal.received"));
        let at_version = version(events.last().unwrap());
        assert_eq!(target.new_calls(), ["/before/7", "/left/first", "/right/first"]);
        Self { server, target, origin, halves, at_version }
    }

    async fn forked(&self, effects: &str) -> String {
        let body = json!({"at_version": self.at_version, "effects": effects});
        let id = fork(&self.server.client, &self.origin, body).await;
        self.check_start(&id, effects).await;
        id
    }

    /// The fork and its halves say what they come from, and have nothing of it among their events.
    async fn check_start(&self, id: &str, effects: &str) {
        let client = &self.server.client;
        let halves = waiting_halves(client, id).await;
        let pairs = [(id, &self.origin), (&halves[0], &self.halves[0]), (&halves[1], &self.halves[1])];
        for (fork, origin) in pairs {
            assert_ne!(fork, origin);
            let events = client.events(fork).await;
            assert_eq!(types(&events), ["execution.forked"], "nothing is copied, and nothing is in flight");
            let at_version = events[0]["data"]["at_version"].clone();
            assert_eq!(events[0]["data"]["origin"], **origin, "{}", events[0]);
            let found = execution(client, fork).await;
            let wanted = json!({"execution_id": origin, "at_version": at_version, "effects": effects});
            assert_eq!(found["forked_from"], wanted, "{found}");
        }
        let found = execution(client, id).await;
        assert_eq!(found["forked_from"]["at_version"], self.at_version);
        let before = found["nodes"].as_array().unwrap().iter().find(|node| node["id"] == "before").unwrap();
        assert_eq!(before["status"], "completed", "what was done is shown as done: {before}");
        for half in &halves {
            let parent = execution(client, half).await["parent"].clone();
            assert_eq!(parent["execution_id"], *id, "{parent}");
        }
    }

    /// The events of the origin and of its halves.
    async fn histories(&self) -> Vec<Vec<Value>> {
        let mut all = Vec::new();
        for id in [&self.origin, &self.halves[0], &self.halves[1]] {
            all.push(self.server.client.events(id).await);
        }
        all
    }
}

/// Numbers of the calls, as an execution's output has them: before, first and last of each half, after.
fn calls_of(ended: &Value) -> Vec<&Value> {
    let (output, halves) = (&ended["output"], &ended["output"]["halves"]);
    [&output["before"], &halves[0][0], &halves[0][2], &halves[1][0], &halves[1][2], &output["after"]].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_fork_of_a_running_parent_makes_the_calls_that_were_not_made_and_no_others() {
    let middle = Middle::reached().await;
    let client = &middle.server.client;
    let before = middle.histories().await;
    let fork = middle.forked("live").await;
    assert_eq!(middle.target.new_calls(), [""; 0], "what was done is not done again");
    let forked = finish(client, &fork, ["l", "r"]).await;
    assert_eq!(forked["status"], "completed", "{forked}");
    assert_eq!(middle.target.new_calls(), ["/after/l-r", "/left/last/l", "/right/last/r"]);

    assert_eq!(middle.histories().await, before, "the origin does not know of its fork");
    assert_eq!(waiting_halves(client, &middle.origin).await, middle.halves);
    let ended = finish(client, &middle.origin, ["a", "b"]).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(middle.target.new_calls(), ["/after/a-b", "/left/last/a", "/right/last/b"]);
    let same: Vec<bool> = calls_of(&ended).iter().zip(calls_of(&forked)).map(|(a, b)| **a == *b).collect();
    assert_eq!(same, [true, true, false, true, false, false], "{ended} {forked}");
    middle.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_calls_nobody_and_ends_like_its_origin_while_it_asks_the_same() {
    let middle = Middle::reached().await;
    let client = &middle.server.client;
    let early = middle.forked("replay").await;
    let ended = finish(client, &middle.origin, ["a", "b"]).await;
    assert_eq!(middle.target.new_calls().len(), 3);
    let histories = middle.histories().await;

    let same = middle.forked("replay").await;
    let same = finish(client, &same, ["a", "b"]).await;
    assert_eq!((&same["status"], &same["output"]), (&json!("completed"), &ended["output"]), "{same}");

    let other = middle.forked("replay").await;
    let other = finish(client, &other, ["a", "different"]).await;
    assert_eq!(
        (&other["status"], &other["error"]["kind"]),
        (&json!("failed"), &json!("no_record")),
        "{other}"
    );
    assert_eq!(other["error"]["node_id"], "right", "{other}");

    // What the origin did after the fork was made is not on record for it. One half fails, and the other is stopped.
    let [left, right] = waiting_halves(client, &early).await;
    signal(client, &left, "go", "a").await;
    let early = client.ended(&early).await;
    assert_eq!(
        (&early["status"], &early["error"]["kind"]),
        (&json!("failed"), &json!("no_record")),
        "{early}"
    );
    assert_eq!(client.ended(&right).await["status"], "cancelled");
    assert_eq!(middle.target.new_calls(), [""; 0], "no replay has called anybody");
    assert_eq!(middle.histories().await, histories);
    middle.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_fork_calls_nobody_and_has_what_is_on_record_or_null() {
    let middle = Middle::reached().await;
    let client = &middle.server.client;
    let early = middle.forked("mute").await;
    let early = finish(client, &early, ["a", "b"]).await;
    // Of what comes after the middle nothing was on record.
    assert_eq!(early["status"], "completed", "{early}");
    let missing: Vec<bool> = calls_of(&early).iter().map(|call| call.is_null()).collect();
    assert_eq!(missing, [false, false, true, false, true, true], "{early}");
    assert_eq!(middle.target.new_calls(), [""; 0]);

    let ended = finish(client, &middle.origin, ["a", "b"]).await;
    assert_eq!(middle.target.new_calls().len(), 3);
    let late = middle.forked("mute").await;
    let late = finish(client, &late, ["x", "y"]).await;
    assert_eq!(late["status"], "completed", "{late}");
    assert_eq!(calls_of(&late), calls_of(&ended), "outputs are taken whatever is asked");
    assert_eq!(late["output"]["halves"][0][1], "x", "what the fork did itself is its own");
    assert_eq!(middle.target.new_calls(), [""; 0], "no mute fork has called anybody");
    middle.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_that_had_not_begun_at_the_event_begin_anew_in_the_fork() {
    let middle = Middle::reached().await;
    let client = &middle.server.client;
    let before = middle.histories().await;
    let asked = before[0].iter().find(|event| event["type"] == "execution.child.started").unwrap();
    let fork = fork(client, &middle.origin, json!({"at_version": version(asked)})).await;
    let ended = finish(client, &fork, ["l", "r"]).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let calls = ["/after/l-r", "/left/first", "/left/last/l", "/right/first", "/right/last/r"];
    assert_eq!(middle.target.new_calls(), calls);
    assert_eq!(middle.histories().await, before);
    middle.server.stop().await;
}

/// Two calls; what the second asks depends on the first and on the input.
fn two_calls(url: &str) -> Value {
    json!({
        "name": "two-calls",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "a", "type": "http_request", "config": {"url": format!("{url}/a/{{{{ input.order }}}}")}},
            {"id": "b", "type": "http_request",
             "config": {"url": format!("{url}/b/{{{{ input.order }}}}/{{{{ nodes.a.output.body.call }}}}")}},
            {"id": "end", "type": "end", "config": {"output":
                ["{{ input.order }}", "{{ nodes.a.output.body.call }}", "{{ nodes.b.output.body.call }}"]}},
        ],
        "edges": [{"source": "start", "target": "a"}, {"source": "a", "target": "b"}, {"source": "b", "target": "end"}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_execution_is_forked_from_its_middle_with_another_input_and_other_outputs() {
    let target = Counting::start().await;
    let server = Server::temporary().await;
    let client = &server.client;
    let workflow = client.create(&two_calls(&target.target.url)).await;
    let origin = client.execute(&workflow, json!({"order": 7})).await;
    let (id, output) = (origin["execution_id"].as_str().unwrap(), &origin["output"]);
    assert_eq!(target.new_calls(), ["/a/7".to_owned(), format!("/b/7/{}", output[1])]);
    let events = client.events(id).await;
    let completed =
        |event: &&Value| event["type"] == "execution.node.completed" && event["data"]["node_id"] == "a";
    let at_version = version(events.iter().find(completed).unwrap());

    let changed = json!({"at_version": at_version, "input": {"order": 8}});
    let live = client.ended(&fork(client, id, changed.clone()).await).await;
    assert_eq!((&live["output"][0], &live["output"][1]), (&json!(8), &output[1]), "{live}");
    assert_ne!(live["output"][2], output[2], "{live}");
    assert_eq!(target.new_calls(), [format!("/b/8/{}", output[1])]);

    let other = json!({"at_version": at_version, "node_outputs": {"a": {"body": {"call": "mine"}}}});
    let live = client.ended(&fork(client, id, other.clone()).await).await;
    assert_eq!((&live["output"][0], &live["output"][1]), (&json!(7), &json!("mine")), "{live}");
    assert_eq!(target.new_calls(), ["/b/7/mine"]);

    for mut body in [changed, other] {
        body["effects"] = json!("replay");
        let replay = client.ended(&fork(client, id, body.clone()).await).await;
        let error = &replay["error"];
        assert_eq!((&error["kind"], &error["node_id"]), (&json!("no_record"), &json!("b")), "{replay}");
        body["effects"] = json!("mute");
        let mute = client.ended(&fork(client, id, body).await).await;
        assert_eq!((&mute["status"], &mute["output"][2]), (&json!("completed"), &output[2]), "{mute}");
    }
    let same = json!({"at_version": at_version, "effects": "replay"});
    let same = client.ended(&fork(client, id, same).await).await;
    assert_eq!((&same["status"], &same["output"]), (&json!("completed"), output), "{same}");
    assert_eq!(target.new_calls(), [""; 0], "only what is live calls out");
    assert_eq!(client.events(id).await, events, "the origin is as it was");
    server.stop().await;
}
