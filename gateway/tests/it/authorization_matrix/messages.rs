//! Every message of the WebSocket, by every caller, on everybody's things.

use serde_json::{Value, json};

use super::cells::{Who, Whose};
use super::world::World;

/// Message, and marks as in the matrix, for [ADMIN, USER, VIEWER].
#[rustfmt::skip]
const MESSAGES: &[(&str, [&str; 3])] = &[
    ("subscribe execution", ["yyyy-", "ynyy-", "ynyy-"]),
    ("subscribe events", ["y", "n", "n"]),
    ("command execute", ["yyyy-", "ynny-", "nnnnn"]),
    ("command cancel", ["yyyy-", "ynnn-", "nnnnn"]),
    ("command terminate", ["yyyy-", "ynnn-", "nnnnn"]),
    ("command pause", ["yyyy-", "ynnn-", "nnnnn"]),
    ("command resume", ["yyyy-", "ynnn-", "nnnnn"]),
    ("command retry", ["yyyy-", "ynnn-", "nnnnn"]),
    ("command signal", ["yyyy-", "ynnn-", "nnnnn"]),
    ("command fork", ["yyyy-", "ynnn-", "nnnnn"]),
    ("ping", ["y", "y", "y"]),
];

const THINGS: [Whose; 5] =
    [Whose::Own, Whose::Other, Whose::SharedToRead, Whose::SharedToExecute, Whose::Foreign];

#[tokio::test]
async fn every_message_is_judged_as_its_request_is() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for (message, marks) in MESSAGES {
        for (who, marks) in [Who::Admin, Who::User, Who::Viewer].into_iter().zip(marks) {
            for (whose, mark) in THINGS.into_iter().zip(marks.chars()) {
                let used_up = message.starts_with("command") && mark == 'y';
                let things = world.things(who, whose, used_up).await;
                let sent = written(message, &things.workflow, &things.execution);
                let status = world.tell(who, &sent).await;
                let fits = match mark {
                    'y' => ![401, 403, 404].contains(&status),
                    'n' => status == 403,
                    _ => status == 404,
                };
                if !fits {
                    wrong.push(format!("{message} by {who:?} on {whose:?}: {status}, not {mark}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn written(message: &str, workflow: &str, execution: &str) -> Value {
    match message.split_once(' ') {
        Some(("subscribe", "events")) => {
            json!({"type": "subscribe", "id": "s", "channel": "events", "after_position": "latest"})
        }
        Some(("subscribe", _)) => {
            json!({"type": "subscribe", "id": "s", "channel": "execution", "execution_id": execution})
        }
        Some((_, "execute")) => json!({"type": "command", "id": 1, "name": "execute", "workflow_id": workflow}),
        Some((_, name)) => {
            let mut sent = json!({"type": "command", "id": 1, "name": name, "execution_id": execution});
            match name {
                "signal" => sent["signal"] = json!("go"),
                "fork" => sent["at_version"] = json!(1),
                _ => {}
            }
            sent
        }
        None => json!({"type": "ping"}),
    }
}

impl World {
    /// The status of what a message is answered with; 200 if it is no error.
    async fn tell(&self, who: Who, message: &Value) -> u64 {
        let token = match who {
            Who::Admin => &self.admin.token,
            Who::User => &self.user.token,
            _ => self.viewer_token(),
        };
        let mut socket = self.harness.connect(Some(token)).await;
        socket.send(message.clone()).await;
        let answer = socket.next().await.expect("an answer");
        if answer["type"] == "error" { answer["status"].as_u64().expect("a status") } else { 200 }
    }
}
