//! Expressions made to do harm, through the routes that anybody with a key has.
//!
//! What is asserted is that the budget ended them, not how long that took here, in a debug build on a shared machine:
//! `domain/examples/expression_bombs.rs` measures a release build.

use serde_json::{Value, json};

use crate::harness::Server;

/// A bomb, and the code that its fuse has.
struct Bomb {
    what: &'static str,
    expression: String,
    input: Value,
    code: &'static str,
}

fn bombs() -> Vec<Bomb> {
    let bomb = |what, expression: String, input: Value, code| Bomb { what, expression, input, code };
    let list = || json!({"l": (0..300).collect::<Vec<_>>()});
    let text = || json!({"t": "x".repeat(900_000), "l": (0..300).collect::<Vec<_>>()});
    let doubled = (0..30).fold("'ab'".to_owned(), |inner, _| format!("[{inner}].map(x, x + x)[0]"));
    vec![
        bomb(
            "brackets",
            format!("{}1{}", "(".repeat(8_000), ")".repeat(8_000)),
            json!({}),
            "expression_too_deep",
        ),
        bomb("lists in lists", "[".repeat(16_000), json!({}), "expression_too_deep"),
        bomb("a chain of signs", "!".repeat(16_000), json!({}), "expression_too_deep"),
        bomb("a long text", "x".repeat(900_000), json!({}), "expression_too_long"),
        bomb(
            "ranges in ranges",
            "input.l.all(x, input.l.all(y, input.l.all(z, x + y + z >= 0)))".to_owned(),
            list(),
            "expression_limit",
        ),
        bomb(
            "lists of lists",
            "input.l.map(x, input.l.map(y, input.l.map(z, z)))".to_owned(),
            list(),
            "expression_limit",
        ),
        bomb("doubling texts", doubled, json!({}), "expression_limit"),
        bomb("many megabytes", "input.l.map(x, input.t + input.t)".to_owned(), text(), "expression_limit"),
        bomb("replacing nothing", "input.t.replace('', input.t)".to_owned(), text(), "expression_limit"),
        bomb(
            "backtracking, again and again",
            "input.l.all(x, input.l.all(y, !input.t.matches('(a+)+$')))".to_owned(),
            text(),
            "expression_limit",
        ),
        bomb(
            "a pattern that unfolds",
            "input.t.matches('((a{50}){50}){50}')".to_owned(),
            text(),
            "expression_syntax",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bomb_by_request_ends_in_a_problem_that_says_why() {
    let server = Server::temporary().await;
    for Bomb { what, expression, input, code } in bombs() {
        let body = json!({"expression": expression, "context": {"input": input}});
        let answer = server.client.post("/expressions/evaluate", &body).await;
        assert_eq!(answer.status.as_u16(), 422, "{what}: {}", answer.body);
        assert_eq!(answer.body["errors"][0]["code"], code, "{what}: {}", answer.body);
        assert!(!answer.body["detail"].as_str().unwrap().is_empty());
    }
    // One pattern over one text is no bomb here: patterns are linear.
    let body =
        json!({"expression": "t.matches('(a+)+$')", "context": {"t": format!("{}!", "a".repeat(100_000))}});
    let answer = server.client.post("/expressions/evaluate", &body).await;
    assert_eq!(answer.body, json!({"value": false}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bomb_in_a_definition_is_refused_or_fails_its_node_only() {
    let server = Server::temporary().await;
    for (index, Bomb { what, expression, input, code }) in bombs().into_iter().enumerate() {
        let definition = json!({
            "name": format!("bomb-{index}"),
            "nodes": [
                {"id": "start", "type": "start"},
                {"id": "bomb", "type": "condition", "config": {"expression": expression}},
                {"id": "end", "type": "end"}
            ],
            "edges": [
                {"source": "start", "target": "bomb"},
                {"source": "bomb", "source_handle": "true", "target": "end"}
            ]
        });
        let created = server.client.post("/workflows", &definition).await;
        if code != "expression_limit" {
            assert_eq!(created.status.as_u16(), 422, "{what}: {}", created.body);
            assert_eq!(created.body["errors"][0]["code"], code, "{what}: {}", created.body);
            continue;
        }
        let ended = server.client.execute(created.body["id"].as_str().unwrap(), input).await;
        assert_eq!(ended["status"], "failed", "{what}: {ended}");
        assert_eq!(ended["error"]["details"]["code"], code, "{what}: {ended}");
    }
    server.stop().await;
}
