//! An event on its way to readers: serialised once, whoever asks first, and shared.

use domain::event::RecordedEvent;
use std::sync::{Arc, OnceLock};

/// A committed event. Clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct LiveEvent(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    event: Arc<RecordedEvent>,
    json: OnceLock<Arc<str>>,
}

impl LiveEvent {
    pub(crate) fn new(event: Arc<RecordedEvent>) -> Self {
        Self(Arc::new(Shared { event, json: OnceLock::new() }))
    }

    /// The event itself.
    pub(crate) fn event(&self) -> &RecordedEvent {
        &self.0.event
    }

    /// Its public shape.
    pub(crate) fn json(&self) -> Arc<str> {
        let json = self.0.json.get_or_init(|| {
            // Data is JSON when it is written; should it be damaged, readers learn that instead of nothing.
            let text = serde_json::to_string(&*self.0.event);
            Arc::from(text.unwrap_or_else(|_| format!("{{\"id\":\"{}\",\"damaged\":true}}", self.0.event.id)))
        });
        json.clone()
    }
}
