//! Commands over a WebSocket: those that REST has on executions, with the same fields, and one for its key.

use domain::access::Permission;
use serde_json::Value;
use uuid::Uuid;

use crate::access;
use crate::acting::{self, Act, ForkRequest};
use crate::app::App;
use crate::executing::{self, ExecutionAnswer, StartRequest};
use crate::failure::Failure;
use crate::request::{Caller, Fields, MessageKey, Write};
use crate::trace_context::TraceContext;

use super::messages::required_id;

/// Fields of the message that are not fields of the request's body.
const ENVELOPE: [&str; 6] = ["type", "id", "name", "idempotency_key", "execution_id", "workflow_id"];

/// A command as it came.
pub(super) struct CommandMessage {
    key: Option<MessageKey>,
    /// What the body of the same request would be; kept only for its key.
    body: Value,
    action: Action,
}

enum Action {
    Execute(Box<StartRequest>),
    Fork(Uuid, Box<ForkRequest>),
    /// A verb, and what it means.
    Act(Uuid, String, Act),
}

impl CommandMessage {
    /// What the body of the same request would be, if the message has a key.
    pub(super) fn body_of(message: &Value) -> Value {
        let Some(fields) = message.as_object().filter(|fields| fields.contains_key("idempotency_key")) else {
            return Value::Null;
        };
        if fields.get("name").is_some_and(|name| name == "signal") {
            return fields.get("payload").cloned().unwrap_or_default();
        }
        let fields = fields.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str()));
        Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Reads the fields of a command.
    pub(super) fn read(body: Value, fields: &mut Fields) -> Self {
        let key = fields.text("idempotency_key").and_then(|text| {
            let key = MessageKey::parse(text);
            if key.is_none() {
                let detail = "a key has 1 to 255 visible ASCII characters";
                fields.report("/idempotency_key", "invalid_idempotency_key", detail);
            }
            key
        });
        Self { key, body, action: Action::read(fields) }
    }

    /// What it does, for the audit.
    pub(super) fn verb(&self) -> &'static str {
        match &self.action {
            Action::Execute(_) => "execute",
            Action::Fork(..) => "fork",
            Action::Act(_, _, act) => act.verb(),
        }
    }

    /// Sends it, and waits where it says so.
    pub(super) async fn carry_out(self, app: &App, caller: Caller) -> Result<ExecutionAnswer, Failure> {
        // One connection is in one trace; each command begins its own.
        let authority = Some(access::authority(&caller.principal, self.action.permission())?);
        let caller = Caller { trace: TraceContext::fresh(), authority, ..caller };
        let write = Write::of_message(caller, self.key, &self.action.path(), &self.body);
        match self.action {
            Action::Execute(request) => executing::start(app, write, *request, "api").await,
            Action::Fork(origin, request) => acting::fork(app, write, origin, *request).await,
            Action::Act(execution, _, act) => acting::act(app, write, execution, act).await,
        }
    }
}

impl Action {
    /// What its request needs.
    fn permission(&self) -> Permission {
        match self {
            Self::Execute(_) => Permission::WorkflowExecute,
            Self::Fork(..) => Permission::ExecutionFork,
            Self::Act(_, _, act) => act.permission(),
        }
    }

    fn read(fields: &mut Fields) -> Self {
        let name = fields.required_text("name");
        if name == "execute" {
            let workflow = required_id(fields, "workflow_id");
            return Self::Execute(Box::new(StartRequest::read(workflow, fields)));
        }
        let execution = required_id(fields, "execution_id");
        let act = match name.as_str() {
            "fork" => return Self::Fork(execution, Box::new(ForkRequest::read(fields))),
            "signal" => {
                let signal = fields.required_text("signal");
                let payload = fields.any("payload").unwrap_or_default();
                return Self::Act(
                    execution,
                    format!("signals/{signal}"),
                    Act::Signal { name: signal, payload },
                );
            }
            verb => Act::read(verb, fields),
        };
        let act = act.unwrap_or_else(|| {
            let detail = "use execute, signal, cancel, terminate, pause, resume, retry or fork";
            fields.report("/name", "unknown_command", detail);
            Act::Cancel { reason: None }
        });
        Self::Act(execution, name, act)
    }

    /// The path of the same request.
    fn path(&self) -> String {
        match self {
            Self::Execute(request) => format!("/api/v1/workflows/{}/execute", request.workflow_id),
            Self::Fork(origin, _) => format!("/api/v1/executions/{origin}/fork"),
            Self::Act(execution, verb, _) => format!("/api/v1/executions/{execution}/{verb}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(message: Value) -> Result<(CommandMessage, Value), Vec<String>> {
        let body = CommandMessage::body_of(&message);
        let mut fields = Fields::open(message).expect("an object");
        fields.any("type");
        fields.any("id");
        let command = CommandMessage::read(body.clone(), &mut fields);
        let pointers = |failure: Failure| failure.errors.into_iter().map(|p| p.pointer).collect();
        fields.finish().map(|()| (command, body)).map_err(pointers)
    }

    const ID: &str = "0190b2c4-7d5e-7abc-8def-0123456789ab";

    #[test]
    fn every_command_has_the_path_and_the_body_of_its_request() {
        let executions = format!("/api/v1/executions/{ID}");
        for (extra, path, body) in [
            (json!({"name": "pause", "reason": "x"}), format!("{executions}/pause"), json!({"reason": "x"})),
            (json!({"name": "terminate"}), format!("{executions}/terminate"), json!({})),
            (json!({"name": "resume"}), format!("{executions}/resume"), json!({})),
            (json!({"name": "cancel"}), format!("{executions}/cancel"), json!({})),
            (
                json!({"name": "retry", "node_inputs": {"a": 1}}),
                format!("{executions}/retry"),
                json!({"node_inputs": {"a": 1}}),
            ),
            (
                json!({"name": "fork", "at_version": 2}),
                format!("{executions}/fork"),
                json!({"at_version": 2}),
            ),
            (
                json!({"name": "signal", "signal": "go", "payload": [1]}),
                format!("{executions}/signals/go"),
                json!([1]),
            ),
        ] {
            let mut message = json!({"type": "command", "id": 1, "execution_id": ID, "idempotency_key": "k"});
            message.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            let (command, read_body) = read(message.clone()).unwrap_or_else(|e| panic!("{message}: {e:?}"));
            assert_eq!((command.action.path(), read_body), (path, body));
            assert!(command.key.is_some());
        }
    }

    #[test]
    fn a_command_that_is_not_understood_says_where() {
        let base = |name: &str| json!({"type": "command", "id": 1, "name": name, "execution_id": ID});
        assert_eq!(read(base("dance")).err(), Some(vec!["/name".to_owned()]));
        assert_eq!(read(base("fork")).err(), Some(vec![String::new()]), "at_version is missing");
        let mut keyed = base("pause");
        keyed["idempotency_key"] = json!("not a key");
        assert_eq!(read(keyed).err(), Some(vec!["/idempotency_key".to_owned()]));
    }
}
