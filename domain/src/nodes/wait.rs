//! `wait`: waits for a signal, an approval or an event, or for any or all of several.

use serde_json::{Value, json};

use crate::execution::event::{ErrorKind, WaitCondition, WaitFor, WaitMode};
use crate::expression::{Credentials, Fuel, Program, References, Scope, Template};
use crate::time::Timestamp;
use crate::workflow::definition::{MAX_DURATION_MS, Reader};

use super::condition::evaluate_bool;
use super::{Step, StepError, whole_ms};

/// The most conditions of one wait.
const MAX_CONDITIONS: usize = 20;

const SINCE_RULE: &str = "`since` must be an RFC 3339 time, for instance 2026-11-21T09:30:00Z";

/// `for` with `signal`, or `type` and `key`; `filter`, `since`; or `any` / `all` of such; `timeout_ms`, `on_timeout`.
#[derive(Debug, Clone)]
pub struct Wait {
    conditions: Vec<Condition>,
    mode: WaitMode,
    timeout_ms: Option<Template>,
    on_timeout: OnTimeout,
}

/// What happens when a wait has lasted too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnTimeout {
    /// The node fails.
    #[default]
    Fail,
    /// It completes with null.
    Continue,
}

#[derive(Debug, Clone)]
struct Condition {
    wait_for: WaitFor,
    signal: Option<Template>,
    event_type: Option<Template>,
    key: Option<Template>,
    since: Option<Template>,
    filter: Option<Program>,
    /// Where it stands below the node's `config`.
    pointer: String,
}

impl Wait {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let any = reader.list("any");
        let all = reader.list("all");
        let timeout_ms = reader.optional("timeout_ms").and_then(|value| {
            if !value.is_string() {
                reader.number("timeout_ms", 1, MAX_DURATION_MS);
            }
            reader.template("timeout_ms", value, Credentials::Refused)
        });
        let on_timeout = match reader.text("on_timeout") {
            None | Some("fail") => OnTimeout::Fail,
            Some("continue") => OnTimeout::Continue,
            Some(_) => {
                reader.report("on_timeout", "invalid_value", "use fail or continue");
                OnTimeout::Fail
            }
        };
        let (conditions, mode) = match (any, all) {
            (Some(_), Some(_)) => {
                reader.report("all", "conflicting_fields", "use `any` or `all`, not both");
                reader.finish();
                return None;
            }
            (None, None) => {
                let condition = Condition::parse(&mut reader, "");
                (vec![condition?], WaitMode::One)
            }
            (Some(list), None) => (Condition::parse_list(&mut reader, "any", list)?, WaitMode::Any),
            (None, Some(list)) => (Condition::parse_list(&mut reader, "all", list)?, WaitMode::All),
        };
        reader.finish();
        Some(Self { conditions, mode, timeout_ms, on_timeout })
    }

    /// What happens when it has lasted too long.
    pub fn on_timeout(&self) -> OnTimeout {
        self.on_timeout
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let conditions = self
            .conditions
            .iter()
            .map(|condition| condition.render(scope, fuel))
            .collect::<Result<_, _>>()?;
        let timeout_ms = match &self.timeout_ms {
            None => None,
            Some(template) => {
                let value = template.render(scope, fuel).map_err(|e| StepError::render("/timeout_ms", e))?;
                let ms = whole_ms(&value).ok_or_else(|| {
                    let message = format!(
                        "`timeout_ms` must be a whole number of milliseconds up to {MAX_DURATION_MS}"
                    );
                    StepError::fail(ErrorKind::InvalidConfig, message, json!({"pointer": "/timeout_ms"}))
                })?;
                Some(ms)
            }
        };
        Ok(Step::Await { conditions, mode: self.mode, timeout_ms })
    }

    /// How many conditions it has.
    pub(crate) fn conditions(&self) -> usize {
        self.conditions.len()
    }

    /// Whether the filter of a condition lets something through; `scope` has `payload` and `event` beside all else.
    pub(crate) fn lets_through(
        &self,
        condition: usize,
        scope: &dyn Scope,
        fuel: &mut Fuel,
    ) -> Result<bool, StepError> {
        let Some(condition) = self.conditions.get(condition) else { return Ok(false) };
        match &condition.filter {
            None => Ok(true),
            Some(filter) => evaluate_bool(filter, &format!("{}/filter", condition.pointer), scope, fuel),
        }
    }

    pub(super) fn references(&self) -> References {
        let mut all = self.timeout_ms.as_ref().map(Template::references).unwrap_or_default();
        for condition in &self.conditions {
            let templates = [&condition.signal, &condition.event_type, &condition.key, &condition.since];
            for template in templates.into_iter().flatten() {
                all.extend(&template.references());
            }
        }
        all
    }

    /// The names that its filters use, which see `payload` and `event` too.
    pub(crate) fn filter_references(&self) -> References {
        let filters = self.conditions.iter().filter_map(|condition| condition.filter.as_ref());
        filters.fold(References::default(), |mut all, filter| {
            all.extend(filter.references());
            all
        })
    }
}

impl Condition {
    fn parse_list(reader: &mut Reader<'_, '_>, field: &'static str, list: &[Value]) -> Option<Vec<Self>> {
        if list.is_empty() || list.len() > MAX_CONDITIONS {
            reader.report(field, "out_of_range", format!("a wait has 1 to {MAX_CONDITIONS} conditions"));
            return None;
        }
        let base = reader.pointer_of(field);
        let mut conditions = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let Some(mut inner) = Reader::open(value, &format!("{base}/{index}"), reader.problems()) else {
                continue;
            };
            conditions.extend(Self::parse(&mut inner, &format!("/{field}/{index}")));
            inner.finish();
        }
        (conditions.len() == list.len()).then_some(conditions)
    }

    fn parse(reader: &mut Reader<'_, '_>, pointer: &str) -> Option<Self> {
        let wait_for = match reader.required_text("for") {
            None => None,
            Some("signal") => Some(WaitFor::Signal),
            Some("approval") => Some(WaitFor::Approval),
            Some("event") => Some(WaitFor::Event),
            Some("webhook") => {
                let detail = "waits for a webhook come in a later release; use a signal";
                reader.report("for", "not_supported_yet", detail);
                None
            }
            Some(_) => {
                reader.report("for", "invalid_value", "use signal, approval or event");
                None
            }
        };
        let mut template = |field: &'static str| {
            let value = reader.optional(field)?;
            reader.template(field, value, Credentials::Refused)
        };
        let (signal, event_type) = (template("signal"), template("type"));
        let (key, since) = (template("key"), template("since"));
        if wait_for == Some(WaitFor::Event) && reader.optional("type").is_none() {
            reader.report("", "missing_field", "a wait for an event needs its `type`");
        }
        if wait_for == Some(WaitFor::Signal) && reader.optional("signal").is_none() {
            reader.report("", "missing_field", "a wait for a signal needs its name in `signal`");
        }
        check_constants(reader, [("signal", &signal), ("type", &event_type), ("since", &since)]);
        let filter = reader.optional("filter").and_then(|_| reader.required_expression("filter"));
        for (field, fits) in [
            ("signal", wait_for != Some(WaitFor::Event)),
            ("type", wait_for == Some(WaitFor::Event)),
            ("key", wait_for == Some(WaitFor::Event)),
        ] {
            if !fits && wait_for.is_some() && reader.optional(field).is_some() {
                reader.report(field, "not_applicable", format!("`{field}` has no meaning for this wait"));
            }
        }
        Some(Self {
            wait_for: wait_for?,
            signal,
            event_type,
            key,
            since,
            filter,
            pointer: pointer.to_owned(),
        })
    }

    fn render(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<WaitCondition, StepError> {
        let mut value = |template: &Option<Template>, field: &str| match template {
            None => Ok(None),
            Some(template) => template
                .render(scope, fuel)
                .map(Some)
                .map_err(|e| StepError::render(&format!("{}/{field}", self.pointer), e)),
        };
        let signal = self.text(value(&self.signal, "signal")?, "signal")?;
        let event_type = self.text(value(&self.event_type, "type")?, "type")?;
        let key = value(&self.key, "key")?;
        let since = match self.text(value(&self.since, "since")?, "since")? {
            None => None,
            Some(text) => Some(text.parse::<Timestamp>().map_err(|_| self.refuse("since", SINCE_RULE))?),
        };
        let signal = match self.wait_for {
            WaitFor::Approval => Some(signal.unwrap_or_else(|| "approval".to_owned())),
            WaitFor::Signal | WaitFor::Event => signal,
        };
        // The engine puts the execution's start in the place of the epoch.
        Ok(WaitCondition {
            wait_for: self.wait_for,
            signal,
            event_type,
            key,
            since: since.unwrap_or_default(),
        })
    }

    fn text(&self, value: Option<Value>, field: &str) -> Result<Option<String>, StepError> {
        match value {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(self.refuse(field, &format!("`{field}` must be a text that is not empty"))),
        }
    }

    fn refuse(&self, field: &str, message: &str) -> StepError {
        let pointer = format!("{}/{field}", self.pointer);
        StepError::fail(ErrorKind::InvalidConfig, message, json!({ "pointer": pointer }))
    }
}

/// What needs no rendering is checked before anything runs.
fn check_constants(reader: &mut Reader<'_, '_>, fields: [(&'static str, &Option<Template>); 3]) {
    for (field, template) in fields {
        if !template.as_ref().is_some_and(Template::is_constant) {
            continue;
        }
        match reader.optional(field).and_then(Value::as_str) {
            None | Some("") => reader.report(field, "wrong_type", "expected a text that is not empty"),
            Some(text) if field == "since" && text.parse::<Timestamp>().is_err() => {
                reader.report(field, "invalid_value", SINCE_RULE);
            }
            Some(_) => {}
        }
    }
}
