//! A bulk job as a caller asks for it.

use domain::bulk::event::BulkAction;
use read_models::ExecutionFilter;
use serde_json::{Map, Value};

use crate::execution_filter::{self, PARAMETERS};
use crate::request::{Fields, Query};

/// Acts per second where nothing is said.
const DEFAULT_PER_SECOND: u64 = 50;
/// The most acts per second.
const MAX_PER_SECOND: u64 = 1_000;
/// The most characters of a reason.
const MAX_REASON_CHARS: usize = 500;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct BulkRequest {
    pub(crate) action: BulkAction,
    /// As it is kept: an object of texts.
    pub(crate) filter: Value,
    pub(crate) reason: String,
    pub(crate) per_second: u32,
    pub(crate) dry_run: bool,
}

impl BulkRequest {
    /// Reads the body.
    pub(crate) fn read(fields: &mut Fields) -> Self {
        let reason = fields.required_text("reason");
        if reason.trim().is_empty() || reason.chars().count() > MAX_REASON_CHARS {
            fields.report(
                "/reason",
                "out_of_range",
                format!("say why in 1 to {MAX_REASON_CHARS} characters"),
            );
        }
        Self {
            filter: filter(fields),
            per_second: fields.number("per_second", 1, MAX_PER_SECOND).unwrap_or(DEFAULT_PER_SECOND) as u32,
            dry_run: fields.flag("dry_run").unwrap_or(false),
            action: action(fields),
            reason,
        }
    }
}

/// The filter that a job keeps, as the read model takes it.
pub(super) fn stored_filter(filter: &Value) -> Option<ExecutionFilter> {
    let pairs =
        filter.as_object()?.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    execution_filter::read(&Query::of_pairs(pairs.collect::<Option<_>>()?)).ok()
}

fn action(fields: &mut Fields) -> BulkAction {
    let name = fields.required_text("action");
    let (signal, payload) = (fields.text("signal"), fields.any("payload"));
    let node_inputs = fields.object("node_inputs");
    if name != "signal" && (signal.is_some() || payload.is_some()) {
        fields.report("/action", "conflicting_fields", "`signal` and `payload` are for the action `signal`");
    }
    if name != "correct" && !node_inputs.is_empty() {
        fields.report("/action", "conflicting_fields", "`node_inputs` is for the action `correct`");
    }
    match name.as_str() {
        "start" => BulkAction::Start,
        "cancel" => BulkAction::Cancel,
        "terminate" => BulkAction::Terminate,
        "pause" => BulkAction::Pause,
        "resume" => BulkAction::Resume,
        "retry" => BulkAction::Retry,
        "correct" => {
            if node_inputs.is_empty() {
                fields.report("", "missing_field", "the action `correct` needs `node_inputs`");
            }
            BulkAction::Correct { node_inputs }
        }
        "signal" => {
            if signal.is_none() {
                fields.report("", "missing_field", "the action `signal` needs `signal`, its name");
            }
            BulkAction::Signal { name: signal.unwrap_or_default(), payload: payload.unwrap_or_default() }
        }
        "" => BulkAction::Pause,
        _ => {
            let detail = "use start, cancel, terminate, pause, resume, retry, correct or signal";
            fields.report("/action", "invalid_value", detail);
            BulkAction::Pause
        }
    }
}

/// The filter: the parameters of `GET /executions` as texts. An absent one must not mean every execution.
fn filter(fields: &mut Fields) -> Value {
    let found = match fields.any("filter") {
        Some(Value::Object(found)) => found,
        Some(_) => {
            fields.report("/filter", "wrong_type", "expected an object");
            return Value::Object(Map::new());
        }
        None => {
            let detail = "the field `filter` is missing; `{}` stands for every execution";
            fields.report("", "missing_field", detail);
            return Value::Object(Map::new());
        }
    };
    let mut pairs = Vec::new();
    for (name, value) in &found {
        match value {
            Value::String(text) => pairs.push((name.clone(), text.clone())),
            _ => fields.report("/filter", "wrong_type", format!("`{}` must be a string", shown(name))),
        }
    }
    let query = Query::of_pairs(pairs);
    let read = query.only(&PARAMETERS).and_then(|()| execution_filter::read(&query).map(drop));
    if let Err(failure) = read {
        fields.report("/filter", "invalid_value", failure.detail);
    }
    Value::Object(found)
}

fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<BulkRequest, Vec<(String, String)>> {
        let mut fields = Fields::open(body).expect("an object");
        let request = BulkRequest::read(&mut fields);
        fields.finish().map(|()| request).map_err(|failure| {
            failure.errors.into_iter().map(|problem| (problem.pointer, problem.code.into_owned())).collect()
        })
    }

    #[test]
    fn a_request_says_what_is_done_to_which_and_why() {
        let body = json!({"action": "signal", "signal": "go", "payload": 1, "filter": {"status": "running"}, "reason": "x"});
        let request = read(body).expect("a request");
        assert_eq!(request.action, BulkAction::Signal { name: "go".into(), payload: json!(1) });
        assert_eq!((request.per_second, request.dry_run), (50, false));
        assert_eq!(stored_filter(&request.filter).expect("a filter").statuses.len(), 1);
    }

    #[test]
    fn a_request_that_is_not_understood_says_where() {
        let found = read(
            json!({"action": "dance", "filter": {"statsu": "x", "q": 1}, "reason": " ", "per_second": 0}),
        );
        let pointers: Vec<_> = found.expect_err("defects").into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, ["/reason", "/filter", "/filter", "/per_second", "/action"]);
        let found = read(json!({"action": "cancel", "reason": "x"})).expect_err("no filter");
        assert_eq!(found, [(String::new(), "missing_field".to_owned())]);
        assert!(read(json!({"action": "correct", "reason": "x", "filter": {}})).is_err());
        assert!(read(json!({"action": "cancel", "signal": "x", "reason": "x", "filter": {}})).is_err());
    }
}
