//! One filter language for pages, streams and subscriptions.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::harness::{Harness, echo, text};

/// A filter as a query parameter.
fn encoded(filter: &str) -> String {
    filter.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn a_filter_is_tried_on_an_event_and_refused_with_its_place() {
    let h = Harness::start().await;
    let evaluate = |body: Value| {
        let h = &h;
        async move {
            let answer = h.post("/api/v1/filters/evaluate", &body).await;
            (answer.status(), answer.json::<Value>().await.expect("JSON"))
        }
    };
    let event = json!({"type": "execution.failed", "data": {"attempt": 3}});
    let matching = "event.category == 'execution' && event.data.attempt > 2";
    let (status, verdict) = evaluate(json!({"filter": matching, "event": event})).await;
    assert_eq!((status, verdict), (StatusCode::OK, json!({"matches": true})));
    let (_, verdict) = evaluate(json!({"filter": "event.data.attempt > 3", "event": event})).await;
    assert_eq!(verdict, json!({"matches": false}));
    let (_, verdict) = evaluate(json!({"filter": "event.data.other > 3", "event": event})).await;
    assert_eq!(verdict["matches"], false);
    assert!(verdict["error"].as_str().expect("why").contains("other"), "{verdict}");
    for filter in ["event.type ==", "input.x == 1"] {
        let (status, problem) = evaluate(json!({"filter": filter, "event": event})).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid_filter")));
        assert_eq!(problem["errors"][0]["pointer"], "/filter");
    }
    let refused = h.get(&format!("/api/v1/events?filter={}", encoded("event.type =="))).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let refused = h.get(&format!("/api/v1/events/stream?filter={}", encoded("1 +"))).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn pages_and_subscriptions_tell_the_same_past_and_live_events_of_a_filter() {
    let h = Harness::start().await;
    let workflow = h.create(&echo("filtered")).await;
    let run = |number: u32| {
        let (h, path) = (&h, format!("/api/v1/workflows/{workflow}/execute"));
        async move {
            h.post(&path, &json!({"input": {"number": number}, "wait_ms": 5_000})).await;
        }
    };
    for number in 0..6 {
        run(number).await;
    }
    let filter = "event.type == 'execution.started' && event.data.input.number % 2 == 1";
    let page = h.get_json(&format!("/api/v1/events?filter={}", encoded(filter))).await;
    let numbers = |items: &Value| -> Vec<u64> {
        let items = items.as_array().expect("items").iter();
        items.map(|event| event["data"]["input"]["number"].as_u64().expect("a number")).collect()
    };
    assert_eq!(numbers(&page["items"]), [1, 3, 5]);
    let after = text(&page, "resume");
    let none = h.get_json(&format!("/api/v1/events?after_position={after}&filter={}", encoded(filter))).await;
    assert_eq!(none["items"], json!([]), "the token is past what was left out");

    let mut socket = h.connect(Some(&h.key)).await;
    socket.send(json!({"type": "subscribe", "id": "f", "channel": "events", "filter": filter})).await;
    let mut told = Vec::new();
    loop {
        let message = socket.next().await.expect("a message");
        if message["type"] == "caught_up" {
            assert!(message["resume"].is_string(), "{message}");
            break;
        }
        told.push(message["event"].clone());
    }
    run(6).await;
    run(7).await;
    told.push(socket.next().await.expect("a message")["event"].clone());
    assert_eq!(numbers(&Value::Array(told)), [1, 3, 5, 7]);
}

#[tokio::test]
async fn the_subscription_of_an_execution_leaves_out_what_does_not_match_and_still_ends() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let mut socket = h.connect(Some(&h.key)).await;
    let filter = "event.type.startsWith('execution.signal')";
    socket
        .send(json!({"type": "subscribe", "id": "x", "channel": "execution", "execution_id": id, "filter": filter}))
        .await;
    assert_eq!(socket.next().await.expect("a message")["type"], "caught_up");
    h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(1)).await;
    let told = socket.next().await.expect("a message");
    assert_eq!(told["event"]["type"], "execution.signal.received");
    h.post(&format!("/api/v1/executions/{id}/cancel"), &json!({})).await;
    assert_eq!(socket.next().await, Ok(json!({"type": "ended", "subscription": "x"})));
    socket.send(json!({"type": "subscribe", "id": "y", "channel": "events", "filter": "event."})).await;
    assert_eq!(socket.next().await.expect("a message")["code"], "invalid_filter");
}

#[tokio::test]
async fn a_costly_filter_ends_its_page_early_and_the_token_goes_on() {
    let h = Harness::start().await;
    let id = h.start_waiting().await;
    let many: Vec<u32> = (0..200).collect();
    for _ in 0..130 {
        h.post(&format!("/api/v1/executions/{id}/signals/s"), &json!(many)).await;
    }
    // Runs out of fuel on every signal, so none matches.
    let filter = encoded("event.data.payload.all(a, event.data.payload.all(b, a + b >= 0))");
    let (mut pages, mut after) = (0, String::new());
    loop {
        let page = h.get_json(&format!("/api/v1/events?limit=200&filter={filter}{after}")).await;
        assert_eq!(page["items"], json!([]));
        pages += 1;
        after = format!("&after_position={}", text(&page, "resume"));
        if page["next_cursor"].is_null() {
            break;
        }
    }
    assert!(pages > 1, "the whole log was one page");
}
