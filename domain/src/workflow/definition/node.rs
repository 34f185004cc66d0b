//! One node of a graph: what all types have in common.

use serde_json::Value;

use crate::execution::event::ErrorKind;
use crate::node_type::{NodeType, PLANNED, RunsIn};
use crate::nodes::NodeConfig;
use crate::rejection::Problem;

use super::MAX_DURATION_MS;
use super::problems::Problems;
use super::reader::{Reader, join, shown, wrong_type};

/// The most attempts that a retry policy can ask for.
const MAX_ATTEMPTS: u64 = 100;
/// The shortest silence that means anything: workers give a sign of life every second.
const MIN_HEARTBEAT_MS: u64 = 3_000;
/// Names that would be read as CEL literals or operators.
const RESERVED_IDS: [&str; 4] = ["true", "false", "null", "in"];

/// A valid node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique in its graph: `[a-z][a-z0-9_]{0,63}`.
    pub id: String,
    /// Its place in the document's list.
    pub index: usize,
    /// For people.
    pub name: Option<String>,
    /// The type.
    pub node_type: NodeType,
    /// What the type needs.
    pub config: NodeConfig,
    /// How often and when to try again; without it there is one attempt.
    pub retry: Option<Retry>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// What a failure means for the execution.
    pub on_error: OnError,
    /// The node of the same graph that undoes its work.
    pub compensate: Option<String>,
    /// Whether it is undone also where its outcome is not known.
    pub compensate_unknown: bool,
    /// How long its worker may be silent, in milliseconds.
    pub heartbeat_timeout_ms: Option<u64>,
}

/// What a node's failure means for its execution, after its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The execution fails.
    #[default]
    Fail,
    /// The node completes with `{"error": …}` and goes on as if nothing had happened.
    Continue,
    /// The node completes with `{"error": …}` and leaves by its `error` handle.
    Route,
}

/// When to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts in all.
    pub max_attempts: u32,
    /// Pause before the second attempt, in milliseconds.
    pub initial_interval_ms: u64,
    /// How the pause grows.
    pub backoff: Backoff,
    /// By how much, for exponential backoff.
    pub factor: f64,
    /// The longest pause, in milliseconds.
    pub max_interval_ms: u64,
    /// Whether a pause is drawn from its upper half, so that many failures do not come back at once.
    pub jitter: bool,
    /// Which failures are worth another attempt.
    pub retry_on: Vec<ErrorKind>,
}

/// How pauses grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Always the initial interval.
    Constant,
    /// Multiplied by the factor each time.
    Exponential,
}

impl Retry {
    /// The pause after a number of failed attempts (from 1), in milliseconds. `random` decides the jitter.
    pub fn pause_ms(&self, failed_attempts: u32, random: u64) -> u64 {
        let exponent = f64::from(failed_attempts.saturating_sub(1));
        let grown = match self.backoff {
            Backoff::Constant => self.initial_interval_ms as f64,
            Backoff::Exponential => self.initial_interval_ms as f64 * self.factor.powf(exponent),
        };
        // A float too large for u64 saturates in the cast.
        let pause = (grown as u64).min(self.max_interval_ms);
        if self.jitter && pause > 1 { pause / 2 + random % (pause - pause / 2 + 1) } else { pause }
    }
}

impl Node {
    /// The handles that edges may leave it by; `None` is the plain one.
    pub fn handles(&self) -> Vec<Option<&str>> {
        let mut handles: Vec<Option<&str>> = match &self.config {
            NodeConfig::Condition(_) => vec![Some("true"), Some("false")],
            NodeConfig::Switch(switch) => switch.case_names().chain(["default"]).map(Some).collect(),
            _ => vec![None],
        };
        if self.on_error == OnError::Route {
            handles.push(Some("error"));
        }
        handles
    }
}

/// Reads a node of the `nodes` list.
pub(super) fn parse(index: usize, value: &Value, pointer: &str, problems: &mut Problems) -> Option<Node> {
    let mut reader = Reader::open(value, pointer, problems)?;
    let id = read_id(&mut reader);
    let node_type = read_type(&mut reader);
    let name = reader.text("name").map(str::to_owned);
    reader.text("description");
    let timeout_ms = reader.number("timeout_ms", 1, MAX_DURATION_MS);
    let on_error = read_on_error(&mut reader);
    let retry = reader.optional("retry");
    let config = reader.optional("config");
    reader.ignore(&["position", "notes", "ui"]);
    let compensate = reader.text("compensate").map(str::to_owned);
    let compensate_unknown = reader.flag("compensate_unknown").unwrap_or(false);
    let heartbeat_timeout_ms = reader.number("heartbeat_timeout_ms", MIN_HEARTBEAT_MS, MAX_DURATION_MS);
    reader.not_yet(&["ref"]);
    let is_script = config.and_then(|config| config.get("language")).is_some_and(|language| language == "js");
    if let Some(node_type) = node_type {
        let in_engine =
            node_type.runs_in() == RunsIn::Engine && !(node_type == NodeType::Condition && is_script);
        let given = [
            ("retry", in_engine && retry.is_some()),
            ("timeout_ms", in_engine && timeout_ms.is_some()),
            ("heartbeat_timeout_ms", in_engine && heartbeat_timeout_ms.is_some()),
            ("compensate_unknown", in_engine && compensate_unknown),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            let kind = node_type.as_str();
            let detail = format!("`{field}` has no meaning for `{kind}`, which runs in the engine");
            reader.report(field, "not_applicable", detail);
        }
        if compensate_unknown && compensate.is_none() && !in_engine {
            reader.report(
                "compensate_unknown",
                "not_applicable",
                "`compensate_unknown` needs a `compensate`",
            );
        }
        if matches!(node_type, NodeType::Start | NodeType::End) && on_error != OnError::Fail {
            reader.report("on_error", "not_applicable", "`start` and `end` cannot have `on_error`");
        }
        if matches!(node_type, NodeType::Start | NodeType::End) && compensate.is_some() {
            reader.report(
                "compensate",
                "not_applicable",
                "`start` and `end` do nothing that could be undone",
            );
        }
    }
    reader.finish();
    let retry = retry.and_then(|value| parse_retry(value, &join(pointer, "retry"), problems));
    let node_type = node_type?;
    let empty = Value::Object(serde_json::Map::new());
    let config = NodeConfig::parse(node_type, config.unwrap_or(&empty), &join(pointer, "config"), problems);
    Some(Node {
        id: id?.to_owned(),
        index,
        name,
        node_type,
        config: config?,
        retry,
        timeout_ms,
        on_error,
        compensate,
        compensate_unknown,
        heartbeat_timeout_ms,
    })
}

fn read_id<'a>(reader: &mut Reader<'a, '_>) -> Option<&'a str> {
    let id = reader.required_text("id")?;
    let mut bytes = id.bytes();
    let shaped = bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && id.len() <= 64;
    if shaped && !RESERVED_IDS.contains(&id) {
        return Some(id);
    }
    reader.report(
        "id",
        "invalid_node_id",
        "a node id is a letter a-z, then up to 63 of a-z, 0-9 and _, and not true, false, null or in",
    );
    None
}

fn read_type(reader: &mut Reader<'_, '_>) -> Option<NodeType> {
    let text = reader.required_text("type")?;
    if let Some(known) = NodeType::ALL.into_iter().find(|known| known.as_str() == text) {
        return Some(known);
    }
    if PLANNED.contains(&text) {
        reader.report(
            "type",
            "node_type_not_supported_yet",
            format!("`{text}` nodes come in a later release"),
        );
    } else {
        let known: Vec<_> = NodeType::ALL.iter().map(|known| known.as_str()).collect();
        reader.report(
            "type",
            "unknown_node_type",
            format!("`{}` is not a node type; use one of {}", shown(text), known.join(", ")),
        );
    }
    None
}

fn read_on_error(reader: &mut Reader<'_, '_>) -> OnError {
    match reader.text("on_error") {
        None | Some("fail") => OnError::Fail,
        Some("continue") => OnError::Continue,
        Some("route") => OnError::Route,
        Some(_) => {
            reader.report("on_error", "invalid_value", "use fail, continue or route");
            OnError::Fail
        }
    }
}

fn parse_retry(value: &Value, pointer: &str, problems: &mut Problems) -> Option<Retry> {
    let mut reader = Reader::open(value, pointer, problems)?;
    let max_attempts = reader.number("max_attempts", 1, MAX_ATTEMPTS).unwrap_or(4) as u32;
    let initial_interval_ms = reader.number("initial_interval_ms", 0, MAX_DURATION_MS).unwrap_or(200);
    let backoff = match reader.text("backoff") {
        None | Some("exponential") => Backoff::Exponential,
        Some("constant") => Backoff::Constant,
        Some(_) => {
            reader.report("backoff", "invalid_value", "use exponential or constant");
            Backoff::Exponential
        }
    };
    let factor = reader.decimal("factor", 1.0, 100.0).unwrap_or(2.0);
    let max_interval_ms = reader.number("max_interval_ms", 0, MAX_DURATION_MS).unwrap_or(10_000);
    let jitter = reader.flag("jitter").unwrap_or(true);
    let kinds = reader.list("retry_on");
    reader.finish();
    let retry_on = match kinds {
        None => vec![ErrorKind::Timeout, ErrorKind::Http5xx, ErrorKind::Http429, ErrorKind::Connection],
        Some(kinds) => kinds
            .iter()
            .enumerate()
            .filter_map(|(index, kind)| {
                let parsed = serde_json::from_value(kind.clone()).ok();
                if parsed.is_none() && !problems.is_full() {
                    let at = join(&join(pointer, "retry_on"), &index.to_string());
                    problems.push(if kind.is_string() {
                        Problem::new(
                            at,
                            "invalid_value",
                            "not a kind of error; for instance timeout, http_5xx, http_429, connection",
                        )
                    } else {
                        wrong_type(&at, "a string", kind)
                    });
                }
                parsed
            })
            .collect(),
    };
    Some(Retry { max_attempts, initial_interval_ms, backoff, factor, max_interval_ms, jitter, retry_on })
}
