//! Who may want an event: by tenant, type and key, so that an event finds its waits without looking at the others.
//!
//! What is found is a candidate. The decider looks at type, key, time and filter again.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use domain::blob::BlobRef;
use domain::event::RecordedEvent;
use domain::execution::event::MatchedEvent;
use domain::ids::TenantId;
use domain::time::Timestamp;

/// The stored type of what `emit_event` nodes write; they are known by their author's type, too.
const EMITTED: &str = "execution.event.emitted";

/// A condition of a wait: the wait's number and which of its conditions.
pub(super) type Place = (u64, u32);

/// One condition of a wait for an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// Which of the wait's conditions, from 0.
    pub(super) condition: u32,
    pub(super) event_type: String,
    pub(super) key: Option<Value>,
    pub(super) since: Timestamp,
}

/// An event as it is offered.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) event: MatchedEvent,
    pub(super) data: Value,
    /// What it takes up, about.
    pub(super) bytes: usize,
}

/// Waits by what they are for.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<TenantId, HashMap<String, Interested>>);

#[derive(Debug, Default)]
struct Interested {
    /// Whatever the key; also keys that are no plain values, which the decider compares.
    any: BTreeSet<Place>,
    by_key: HashMap<String, BTreeSet<Place>>,
    since: HashMap<Place, Timestamp>,
}

/// The text by which a key is found; `None`: it is not found by its text.
fn plain(key: &Value) -> Option<String> {
    match key {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Some(key.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Index {
    pub(super) fn insert(&mut self, tenant: &TenantId, wait: u64, wanted: &Wanted) {
        let types = self.0.entry(tenant.clone()).or_default();
        let interested = types.entry(wanted.event_type.clone()).or_default();
        let place = (wait, wanted.condition);
        interested.since.insert(place, wanted.since);
        match wanted.key.as_ref().and_then(plain) {
            Some(key) => interested.by_key.entry(key).or_default().insert(place),
            None => interested.any.insert(place),
        };
    }

    pub(super) fn remove(&mut self, tenant: &TenantId, wait: u64, wanted: &Wanted) {
        let Some(types) = self.0.get_mut(tenant) else { return };
        let Some(interested) = types.get_mut(&wanted.event_type) else { return };
        let place = (wait, wanted.condition);
        interested.since.remove(&place);
        interested.any.remove(&place);
        if let Some(key) = wanted.key.as_ref().and_then(plain)
            && let Some(places) = interested.by_key.get_mut(&key)
        {
            places.remove(&place);
            if places.is_empty() {
                interested.by_key.remove(&key);
            }
        }
        if interested.since.is_empty() {
            types.remove(&wanted.event_type);
        }
        if types.is_empty() {
            self.0.remove(tenant);
        }
    }

    /// The conditions that an event may meet, each with the event as it would see it.
    pub(super) fn candidates(&self, event: &RecordedEvent) -> Vec<(Place, Arc<Found>)> {
        let Some(types) = self.0.get(&event.tenant) else { return Vec::new() };
        let is_emitted = event.event_type == EMITTED;
        let by_stored_type = types.get(&*event.event_type);
        if by_stored_type.is_none() && !is_emitted {
            return Vec::new();
        }
        let Ok(mut data) = serde_json::from_slice::<Value>(&event.data) else { return Vec::new() };
        let mut found = Vec::new();
        if is_emitted {
            let author_type = data.get("type").and_then(Value::as_str).map(str::to_owned).unwrap_or_default();
            data = data.get_mut("data").map(Value::take).unwrap_or_default();
            if let Some(interested) = types.get(&author_type) {
                found.extend(interested.candidates(event, &author_type, data.clone()));
            }
        }
        if let Some(interested) = by_stored_type {
            found.extend(interested.candidates(event, &event.event_type, data));
        }
        found
    }
}

impl Interested {
    fn candidates(&self, event: &RecordedEvent, event_type: &str, data: Value) -> Vec<(Place, Arc<Found>)> {
        let key = data.get("key").and_then(plain);
        let mut places: Vec<Place> = self.any.iter().copied().collect();
        if BlobRef::from_value(&data).is_some() {
            // What is in it, the decider sees.
            places.extend(self.by_key.values().flatten());
        } else if let Some(of_key) = key.and_then(|key| self.by_key.get(&key)) {
            places.extend(of_key);
        }
        places.retain(|place| self.since.get(place).is_some_and(|since| *since <= event.recorded_at));
        if places.is_empty() {
            return Vec::new();
        }
        let found = Arc::new(Found {
            event: MatchedEvent {
                id: event.id,
                event_type: event_type.to_owned(),
                stream: event.stream,
                recorded_at: event.recorded_at,
            },
            data,
            bytes: event.data.len() + 512,
        });
        places.into_iter().map(|place| (place, found.clone())).collect()
    }
}

#[cfg(test)]
pub(in crate::event_waits) mod tests {
    use super::*;
    use domain::event::Codec;
    use domain::ids::{Actor, Partition, Position};
    use serde_json::json;
    use uuid::Uuid;

    pub(crate) fn event(tenant: &str, event_type: &str, data: &Value, at: i64, offset: u64) -> RecordedEvent {
        RecordedEvent {
            position: Position { partition: Partition(0), offset },
            stream: Uuid::nil(),
            version: 1,
            tenant: TenantId::try_from(tenant.to_owned()).expect("a tenant"),
            event_type: event_type.to_owned().into(),
            schema_version: 1,
            id: Uuid::from_u128(u128::from(offset)),
            recorded_at: Timestamp::from_unix_ms(at),
            correlation_id: Uuid::nil(),
            causation_id: Uuid::nil(),
            actor: Actor::system("test"),
            traceparent: None,
            codec: Codec::Json,
            key_id: None,
            data: serde_json::to_vec(data).expect("JSON").into(),
        }
    }

    fn wanted(event_type: &str, key: Option<Value>) -> Wanted {
        Wanted { condition: 1, event_type: event_type.to_owned(), key, since: Timestamp::from_unix_ms(50) }
    }

    fn tenant() -> TenantId {
        TenantId::try_from("acme".to_owned()).expect("a tenant")
    }

    fn places(index: &Index, event: &RecordedEvent) -> Vec<u64> {
        index.candidates(event).into_iter().map(|((wait, _), _)| wait).collect()
    }

    #[test]
    fn an_event_finds_the_waits_of_its_tenant_type_and_key() {
        let mut index = Index::default();
        index.insert(&tenant(), 1, &wanted("order.paid", Some(json!("a"))));
        index.insert(&tenant(), 2, &wanted("order.paid", Some(json!("b"))));
        index.insert(&tenant(), 3, &wanted("order.paid", None));
        index.insert(&tenant(), 4, &wanted("order.sent", None));
        let emitted = |tenant: &str, key: Value, at| {
            let data = json!({"type": "order.paid", "data": {"key": key, "total": 5}});
            event(tenant, EMITTED, &data, at, 1)
        };
        assert_eq!(places(&index, &emitted("acme", json!("a"), 60)), [3, 1]);
        assert_eq!(places(&index, &emitted("acme", json!(7), 60)), [3]);
        assert!(places(&index, &emitted("other", json!("a"), 60)).is_empty());
        assert!(places(&index, &emitted("acme", json!("a"), 49)).is_empty(), "before `since`");
        let found = index.candidates(&emitted("acme", json!("a"), 60)).remove(0).1;
        assert_eq!(found.event.event_type, "order.paid");
        assert_eq!(found.data, json!({"key": "a", "total": 5}));
    }

    #[test]
    fn stored_types_are_found_with_their_data_and_claim_checks_for_every_key() {
        let mut index = Index::default();
        index.insert(&tenant(), 1, &wanted("execution.queued", Some(json!("vip"))));
        index.insert(&tenant(), 2, &wanted("order.paid", Some(json!("b"))));
        index.insert(&tenant(), 3, &wanted("order.paid", Some(json!({"nested": 1}))));
        let queued = event("acme", "execution.queued", &json!({"key": "vip", "limit": 3}), 60, 1);
        assert_eq!(places(&index, &queued), [1]);
        let large =
            json!({"$blob": {"sha256": "0".repeat(64), "bytes": 70_000, "media_type": "application/json"}});
        let emitted = event("acme", EMITTED, &json!({"type": "order.paid", "data": large}), 60, 2);
        assert_eq!(places(&index, &emitted), [3, 2]);
    }

    #[test]
    fn nothing_is_kept_of_waits_that_are_gone() {
        let mut index = Index::default();
        let all = [wanted("a", Some(json!(1))), wanted("b", None), wanted("b", Some(json!([1])))];
        for (number, wanted) in (0..).zip(&all) {
            index.insert(&tenant(), number, wanted);
        }
        for (number, wanted) in (0..).zip(&all) {
            index.remove(&tenant(), number, wanted);
        }
        assert!(index.0.is_empty());
    }
}
