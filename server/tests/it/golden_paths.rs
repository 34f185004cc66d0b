//! One whole way through each of the engine's larger features, over HTTP and with real calls: what the target sees is
//! what counts.

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Barrier;

use crate::harness::{Client, Server, Target, eventually, types};

/// What a target has been asked, in the order in which it was: `POST /hotel`.
#[derive(Clone, Default)]
struct Calls {
    seen: Arc<Mutex<Vec<String>>>,
    /// Whether a call to a path that ends in `/shaky` is answered with 503.
    broken: Arc<AtomicBool>,
}

impl Calls {
    fn all(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    async fn serve(&self) -> Target {
        Target::serve(Router::new().fallback(answer).with_state(self.clone())).await
    }
}

/// The id of what was made is its place among the calls.
async fn answer(State(calls): State<Calls>, method: Method, uri: Uri) -> (StatusCode, Json<Value>) {
    let mut seen = calls.seen.lock().unwrap();
    seen.push(format!("{method} {uri}"));
    let status = match uri.path() {
        path if path.ends_with("/shaky") && calls.broken.load(Ordering::SeqCst) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        path if path.ends_with("/sold_out") => StatusCode::CONFLICT,
        _ => StatusCode::OK,
    };
    (status, Json(json!({"id": seen.len()})))
}

/// Waits until an execution has a status.
async fn reaches(client: &Client, id: &str, status: &str) -> Value {
    eventually(status, || async {
        let answer = client.get(&format!("/executions/{id}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        (answer.body["status"] == status).then_some(answer.body)
    })
    .await
}

async fn accepted(client: &Client, path: &str, body: Value) {
    let answer = client.post(path, &body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{path}: {}", answer.body);
}

async fn signal(client: &Client, id: &str, name: &str, payload: Value) {
    accepted(client, &format!("/executions/{id}/signals/{name}"), payload).await;
}

/// A request of a target.
fn call(id: &str, method: &str, url: String) -> Value {
    json!({"id": id, "type": "http_request", "config": {"method": method, "url": url}, "timeout_ms": 20_000})
}

/// A graph whose nodes follow each other, between `start` and an `end` with this output.
fn chain(name: &str, nodes: Vec<Value>, output: Value) -> Value {
    let mut edges = Vec::new();
    let mut last = json!("start");
    for id in nodes.iter().map(|node| node["id"].clone()).chain([json!("end")]) {
        edges.push(json!({"source": last, "target": id}));
        last = id;
    }
    let mut all = vec![json!({"id": "start", "type": "start"})];
    all.extend(nodes);
    all.push(json!({"id": "end", "type": "end", "config": {"output": output}}));
    json!({"name": name, "nodes": all, "edges": edges})
}

/// A target that answers only when two calls are there at once.
#[derive(Clone)]
struct Pairs {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    both: Arc<Barrier>,
}

async fn answer_in_pairs(State(pairs): State<Pairs>, uri: Uri) -> Json<Value> {
    let inside = pairs.inside.fetch_add(1, Ordering::SeqCst) + 1;
    pairs.most.fetch_max(inside, Ordering::SeqCst);
    pairs.both.wait().await;
    pairs.inside.fetch_sub(1, Ordering::SeqCst);
    Json(json!({"path": uri.path()}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_calls_for_each_item_two_at_a_time_and_gives_the_answers_in_order() {
    let (most, both) = (Arc::default(), Arc::new(Barrier::new(2)));
    let pairs = Pairs { inside: Arc::default(), most, both };
    let target = Target::serve(Router::new().fallback(answer_in_pairs).with_state(pairs.clone())).await;
    let server = Server::temporary().await;
    let mut body = chain(
        "",
        vec![call("fetch", "GET", format!("{}/{{{{ item }}}}/{{{{ index }}}}", target.url))],
        json!("{{ nodes.fetch.output.body.path }}"),
    );
    body.as_object_mut().unwrap().remove("name");
    let over = json!({"over": "{{ input.items }}", "max_concurrency": 2, "body": body});
    let each = json!({"id": "each", "type": "loop", "config": over});
    let workflow =
        server.client.create(&chain("looping", vec![each], json!("{{ nodes.each.output }}"))).await;
    let items = ["a", "b", "c", "d", "e", "f"];
    let answer = server.client.execute(&workflow, json!({"items": items})).await;
    assert_eq!(answer["output"], json!(["/a/0", "/b/1", "/c/2", "/d/3", "/e/4", "/f/5"]), "{answer}");
    assert_eq!(pairs.most.load(Ordering::SeqCst), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_called_before_a_person_has_approved() {
    let calls = Calls::default();
    let target = calls.serve().await;
    let server = Server::temporary().await;
    let client = &server.client;
    let approve =
        json!({"id": "approve", "type": "wait", "config": {"for": "approval", "signal": "approved"}});
    let book = call("book", "POST", format!("{}/book/{{{{ nodes.approve.output.by }}}}", target.url));
    let workflow =
        client.create(&chain("approval", vec![approve, book], json!("{{ nodes.approve.output.by }}"))).await;
    let id = client.start(&workflow, json!({})).await;
    reaches(client, &id, "waiting").await;
    signal(client, &id, "something_else", json!({"by": "nobody"})).await;
    assert_eq!(reaches(client, &id, "waiting").await["finished_at"], Value::Null);
    assert_eq!(calls.all(), [""; 0]);
    signal(client, &id, "approved", json!({"by": "ada"})).await;
    let ended = client.ended(&id).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!("ada")), "{ended}");
    assert_eq!(calls.all(), ["POST /book/ada"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_saga_did_is_undone_at_the_target_newest_first() {
    let calls = Calls::default();
    let target = calls.serve().await;
    let server = Server::temporary().await;
    let url = &target.url;
    let step = |id: &str| {
        let mut node = call(id, "POST", format!("{url}/{id}"));
        node["compensate"] = json!(format!("undo_{id}"));
        node
    };
    let undo = |id: &str| {
        call(&format!("undo_{id}"), "DELETE", format!("{url}/{id}/{{{{ nodes.{id}.output.body.id }}}}"))
    };
    let last = call("car", "POST", format!("{url}/car/sold_out"));
    let mut saga = chain("saga", vec![step("flight"), step("hotel"), last], json!("booked"));
    // What only undoes has no edges.
    saga["nodes"].as_array_mut().unwrap().extend([undo("flight"), undo("hotel")]);
    let workflow = server.client.create(&saga).await;
    let answer = server.client.execute(&workflow, json!({})).await;
    assert_eq!(
        (&answer["status"], &answer["error"]["kind"]),
        (&json!("failed"), &json!("http_4xx")),
        "{answer}"
    );
    let wanted = ["POST /flight", "POST /hotel", "POST /car/sold_out", "DELETE /hotel/2", "DELETE /flight/1"];
    assert_eq!(calls.all(), wanted);
    let ended = server.client.ended(answer["execution_id"].as_str().unwrap()).await;
    assert_eq!(ended["compensation"]["status"], "completed", "{ended}");
    for id in ["flight", "hotel"] {
        let node = ended["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap();
        assert_eq!(node["status"], "compensated", "{node}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executions_of_one_key_run_after_each_other_and_others_beside_them() {
    let calls = Calls::default();
    let target = calls.serve().await;
    let server = Server::temporary().await;
    let client = &server.client;
    let begin = call("begin", "POST", format!("{}/{{{{ input.name }}}}", target.url));
    let go = json!({"id": "go", "type": "wait", "config": {"for": "signal", "signal": "go"}});
    let mut queue = chain("queue", vec![begin, go], json!("{{ input.name }}"));
    queue["concurrency"] = json!({"key": "{{ input.key }}", "limit": 1, "on_limit": "queue"});
    let workflow = client.create(&queue).await;
    let first = client.start(&workflow, json!({"key": "k", "name": "first"})).await;
    reaches(client, &first, "waiting").await;
    let second = client.start(&workflow, json!({"key": "k", "name": "second"})).await;
    let other = client.start(&workflow, json!({"key": "l", "name": "other"})).await;
    reaches(client, &other, "waiting").await;
    reaches(client, &second, "pending").await;
    assert_eq!(calls.all(), ["POST /first", "POST /other"]);

    signal(client, &first, "go", Value::Null).await;
    reaches(client, &second, "waiting").await;
    assert_eq!(calls.all(), ["POST /first", "POST /other", "POST /second"]);
    for id in [&second, &other] {
        signal(client, id, "go", Value::Null).await;
    }
    for (id, name) in [(&first, "first"), (&second, "second"), (&other, "other")] {
        let ended = client.ended(id).await;
        assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!(name)), "{ended}");
    }
    let events = client.events(&second).await;
    assert_eq!(types(&events)[..3], ["execution.started", "execution.queued", "execution.admitted"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_redriven_once_its_target_works_again() {
    let calls = Calls::default();
    calls.broken.store(true, Ordering::SeqCst);
    let target = calls.serve().await;
    let server = Server::temporary().await;
    let client = &server.client;
    let before = call("before", "POST", format!("{}/before", target.url));
    let mut shaky = call("shaky", "POST", format!("{}/shaky", target.url));
    shaky["retry"] =
        json!({"max_attempts": 2, "initial_interval_ms": 1, "max_interval_ms": 2, "jitter": false});
    let workflow =
        client.create(&chain("shaky", vec![before, shaky], json!("{{ nodes.shaky.output.status }}"))).await;
    let failed = client.execute(&workflow, json!({})).await;
    assert_eq!(
        (&failed["status"], &failed["error"]["kind"]),
        (&json!("failed"), &json!("http_5xx")),
        "{failed}"
    );
    let id = failed["execution_id"].as_str().unwrap();
    let letter = eventually("a dead letter", || async {
        let list = client.get("/dead-letters").await;
        list.body["items"].as_array().unwrap().first().cloned()
    })
    .await;
    let said = (&letter["execution_id"], &letter["node_id"], &letter["attempt"], &letter["error"]["kind"]);
    assert_eq!(said, (&json!(id), &json!("shaky"), &json!(2), &json!("http_5xx")), "{letter}");

    calls.broken.store(false, Ordering::SeqCst);
    let redrive = format!("/dead-letters/{}/redrive", letter["id"].as_str().unwrap());
    accepted(client, &redrive, json!({"reason": "it works again"})).await;
    let ended = reaches(client, id, "completed").await;
    assert_eq!(ended["output"], 200, "{ended}");
    let wanted = ["POST /before", "POST /shaky", "POST /shaky", "POST /shaky"];
    assert_eq!(calls.all(), wanted, "only what had failed is tried again");
    let again = client.post(&redrive, &json!({})).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.body);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_execution_takes_signals_and_calls_nobody_until_it_goes_on() {
    let calls = Calls::default();
    let target = calls.serve().await;
    let server = Server::temporary().await;
    let client = &server.client;
    let first = call("first", "POST", format!("{}/first", target.url));
    let go = json!({"id": "go", "type": "wait", "config": {"for": "signal", "signal": "go"}});
    let last = call("last", "POST", format!("{}/last", target.url));
    let workflow = client.create(&chain("pausing", vec![first, go, last], json!("done"))).await;
    let id = client.start(&workflow, json!({})).await;
    reaches(client, &id, "waiting").await;
    accepted(client, &format!("/executions/{id}/pause"), json!({"reason": "a look at it"})).await;
    assert_eq!(reaches(client, &id, "paused").await["paused"], true);
    signal(client, &id, "go", Value::Null).await;
    // The signal's append has what follows from it: nothing, or the next call would be scheduled in it.
    let events = client.events(&id).await;
    assert!(types(&events).contains(&"execution.signal.received"), "{events:?}");
    let asks =
        |events: &[Value]| events.iter().filter(|event| event["type"] == "execution.node.scheduled").count();
    assert_eq!((asks(&events), calls.all()), (1, vec!["POST /first".to_owned()]), "{events:?}");

    accepted(client, &format!("/executions/{id}/resume"), json!({})).await;
    let ended = client.ended(&id).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!("done")), "{ended}");
    assert_eq!(calls.all(), ["POST /first", "POST /last"]);
    assert_eq!(asks(&client.events(&id).await), 2);
    server.stop().await;
}
