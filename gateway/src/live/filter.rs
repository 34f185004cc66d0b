//! The filter language of lists, streams, subscriptions and `everline tail`: one CEL expression over `event`.
//!
//! `event` has the fields of an event's public shape: `id`, `type`, `schema_version`, `position`, `stream`, `version`,
//! `tenant`, `actor`, `correlation_id`, `causation_id`, `traceparent`, `recorded_at`, `data`; and `category`. Parsed
//! once for each reader. Invariants: the verdict depends on the event alone, so past and live agree: `now()` is its
//! time, `uuid()` is derived from its id; an event on which the expression fails, runs out of fuel or is not true does
//! not match. Deliberately absent: values that lie beside the log; a filter sees their reference.

use domain::event::RecordedEvent;
use domain::expression::{Binding, Fuel, Object, Program, Scope, derived_uuid};
use domain::rejection::Problem;
use domain::time::Timestamp;
use serde_json::Value;
use std::cell::OnceCell;
use uuid::Uuid;

use crate::failure::Failure;
use crate::status;

/// What looking at one event may cost: some tenths of a millisecond.
pub(super) const STEPS_PER_EVENT: u64 = 10_000;
/// What it may build.
const BYTES_PER_EVENT: u64 = 256 * 1024;

/// What an expression can see of an event.
const FIELDS: [&str; 14] = [
    "id",
    "type",
    "category",
    "schema_version",
    "position",
    "stream",
    "version",
    "tenant",
    "actor",
    "correlation_id",
    "causation_id",
    "traceparent",
    "recorded_at",
    "data",
];

/// A parsed filter. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventFilter(Program);

impl EventFilter {
    /// Parses a filter.
    ///
    /// # Errors
    /// What is wrong with it and where: it does not parse, or uses other names than `event`. `pointer` says where it
    /// stands in the request.
    pub(crate) fn parse(source: &str, pointer: &str) -> Result<Self, Failure> {
        let program = Program::parse(source).map_err(|error| {
            let problem = Problem::new(pointer, error.code, error.to_string());
            Failure::new(status::INVALID_FILTER, error.to_string()).with_errors(vec![problem])
        })?;
        let stranger = program.references().roots.iter().find(|name| *name != "event");
        if let Some(name) = stranger {
            let detail = format!("`{name}` is not known to filters; they see `event` and nothing else");
            let problem = Problem::new(pointer, "unknown_name", detail.clone());
            return Err(Failure::new(status::INVALID_FILTER, detail).with_errors(vec![problem]));
        }
        Ok(Self(program))
    }

    /// Whether an event matches.
    pub(crate) fn matches(&self, event: &RecordedEvent) -> bool {
        self.look(event).0
    }

    /// Whether an event matches, and the steps that it took to find out.
    pub(super) fn look(&self, event: &RecordedEvent) -> (bool, u64) {
        let mut fuel = Fuel::new(STEPS_PER_EVENT, BYTES_PER_EVENT);
        let scope = EventScope { event, data: OnceCell::new() };
        let verdict = matches!(self.0.evaluate(&scope, &mut fuel), Ok(Value::Bool(true)));
        (verdict, STEPS_PER_EVENT - fuel.steps_left())
    }

    /// Whether an event matches that a caller has made up; why not, if it could not be told.
    pub(crate) fn try_matches(&self, event: &Value) -> Result<bool, String> {
        let mut fuel = Fuel::new(STEPS_PER_EVENT, BYTES_PER_EVENT);
        match self.0.evaluate(&MadeUpScope { event }, &mut fuel) {
            Ok(Value::Bool(verdict)) => Ok(verdict),
            Ok(other) => Err(format!("a filter gives true or false, and this gave {}", kind_of(&other))),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// One event; its data is parsed when somebody looks at it.
struct EventScope<'e> {
    event: &'e RecordedEvent,
    data: OnceCell<Value>,
}

impl Scope for EventScope<'_> {
    fn name<'a>(&'a self, name: &str) -> Binding<'a> {
        if name == "event" { Binding::Object(Box::new(EventObject(self))) } else { Binding::Missing }
    }

    fn now(&self) -> Timestamp {
        self.event.recorded_at
    }

    fn uuid(&self, n: u32) -> Uuid {
        derived_uuid(self.event.id, n)
    }
}

struct EventObject<'a>(&'a EventScope<'a>);

impl<'a> Object<'a> for EventObject<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        let event = self.0.event;
        let text = |text: String| Binding::Owned(Value::String(text));
        match key {
            "id" => text(event.id.to_string()),
            "type" => text(event.event_type.to_string()),
            "category" => text(event.category().to_owned()),
            "schema_version" => Binding::Owned(Value::from(event.schema_version)),
            "position" => text(event.position.to_string()),
            "stream" => text(event.stream.to_string()),
            "version" => Binding::Owned(Value::from(event.version)),
            "tenant" => text(event.tenant.to_string()),
            "actor" => text(event.actor.as_str().to_owned()),
            "correlation_id" => text(event.correlation_id.to_string()),
            "causation_id" => text(event.causation_id.to_string()),
            "traceparent" => Binding::Owned(event.traceparent.as_deref().map_or(Value::Null, Value::from)),
            "recorded_at" => text(event.recorded_at.to_string()),
            // Data is JSON when it is written; damaged, it has no fields.
            "data" => Binding::Value(
                self.0.data.get_or_init(|| serde_json::from_slice(&event.data).unwrap_or(Value::Null)),
            ),
            _ => Binding::Missing,
        }
    }

    fn keys(&self) -> Vec<String> {
        FIELDS.iter().map(|name| (*name).to_owned()).collect()
    }
}

/// An event that is plain JSON, to try a filter on. A `category` that it does not have follows from its type.
struct MadeUpScope<'e> {
    event: &'e Value,
}

impl MadeUpScope<'_> {
    fn text(&self, field: &str) -> &str {
        self.event.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Scope for MadeUpScope<'_> {
    fn name<'a>(&'a self, name: &str) -> Binding<'a> {
        if name == "event" { Binding::Object(Box::new(MadeUpEvent(self))) } else { Binding::Missing }
    }

    fn now(&self) -> Timestamp {
        self.text("recorded_at").parse().unwrap_or_default()
    }

    fn uuid(&self, n: u32) -> Uuid {
        derived_uuid(self.text("id").parse().unwrap_or_default(), n)
    }
}

struct MadeUpEvent<'a>(&'a MadeUpScope<'a>);

impl<'a> Object<'a> for MadeUpEvent<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        if let Some(value) = self.0.event.get(key) {
            return Binding::Value(value);
        }
        match (key, self.0.text("type").split('.').next()) {
            ("category", Some(category)) if !category.is_empty() => Binding::Owned(Value::from(category)),
            _ => Binding::Missing,
        }
    }

    fn keys(&self) -> Vec<String> {
        self.0.event.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::event::Codec;
    use domain::ids::{Actor, Partition, Position, TenantId};
    use serde_json::json;

    fn event(data: &Value) -> RecordedEvent {
        RecordedEvent {
            position: Position { partition: Partition(3), offset: 9 },
            stream: Uuid::from_u128(5),
            version: 4,
            tenant: TenantId::default_tenant(),
            event_type: "execution.node.failed".into(),
            schema_version: 1,
            id: Uuid::from_u128(6),
            recorded_at: Timestamp::from_unix_ms(1_000),
            correlation_id: Uuid::nil(),
            causation_id: Uuid::nil(),
            actor: Actor::system("test"),
            traceparent: None,
            codec: Codec::Json,
            key_id: None,
            data: data.to_string().into(),
        }
    }

    fn matches(filter: &str, data: &Value) -> bool {
        let filter =
            EventFilter::parse(filter, "/filter").unwrap_or_else(|f| panic!("{filter}: {}", f.detail));
        let event = event(data);
        let made_up = serde_json::to_value(&event).expect("JSON");
        let verdict = filter.matches(&event);
        assert_eq!(filter.try_matches(&made_up).unwrap_or(false), verdict, "the log and JSON agree");
        verdict
    }

    #[test]
    fn every_field_of_an_event_can_be_asked_for() {
        let data = json!({"node_id": "fetch", "attempt": 3});
        for filter in [
            "event.type == 'execution.node.failed' && event.category == 'execution'",
            "event.type.startsWith('execution.') && event.data.attempt > 2",
            "event.position == '3:9' && event.version == 4 && event.schema_version == 1",
            "event.tenant == 'default' && event.actor == 'system:test'",
            "event.stream == '00000000-0000-0000-0000-000000000005'",
            "event.recorded_at.startsWith('1970-01-01T00:00:01')",
            "has(event.data.node_id) && !has(event.data.nothing)",
            "event.data.node_id in ['fetch', 'store']",
        ] {
            assert!(matches(filter, &data), "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_or_is_not_true_does_not_match() {
        let many: Vec<u32> = (0..5_000).collect();
        for filter in [
            "event.data.missing > 2",
            "event.data.n",
            "event.data.n + 'x' == 'y'",
            "event.data.many.all(a, event.data.many.all(b, a + b >= 0))",
        ] {
            assert!(!matches(filter, &json!({"n": 1, "many": many})), "{filter}");
        }
    }

    #[test]
    fn a_filter_that_does_not_parse_or_asks_for_more_than_the_event_says_where() {
        let failure = EventFilter::parse("event.type ==", "/query/filter").expect_err("refused");
        assert_eq!(
            (failure.code.as_ref(), failure.errors[0].pointer.as_str()),
            ("invalid_filter", "/query/filter")
        );
        assert!(failure.detail.contains(" at 1:"), "{}", failure.detail);
        let failure = EventFilter::parse("vars.x == 1", "/filter").expect_err("refused");
        assert_eq!(failure.errors[0].code, "unknown_name");
    }
}
