//! Conditions of grants: CEL over `resource`, `principal` and `action`.
//!
//! Invariants: what a condition sees is what is judged and nothing else; it is bounded, whatever its text and the thing;
//! whatever is not exactly `true` denies: another value, an error, no fuel left. Deliberately absent: a clock and ids.
//! A judgement is made at the gateway and made again by the decider, and both must come to the same end, so a condition
//! that asks for the time is never true.

use serde_json::{Value, json};
use std::cell::Cell;
use uuid::Uuid;

use crate::expression::{Binding, Fuel, Program, Scope};
use crate::rejection::Problem;
use crate::time::Timestamp;
use crate::workflow::event::ShareAccess;

use super::authority::{Authority, Resource, SharedWith};

/// The most bytes of a condition.
pub const MAX_CONDITION_BYTES: usize = 1_000;
/// What one judgement of one condition may spend: about a millisecond.
const STEPS: u64 = 50_000;
/// What one judgement of one condition may build.
const BYTES: u64 = 256 * 1024;
/// The names that a condition may use.
const NAMES: [&str; 3] = ["action", "principal", "resource"];

/// What is wrong with a condition.
pub(super) fn problem(pointer: String, condition: &str) -> Option<Problem> {
    if condition.len() > MAX_CONDITION_BYTES {
        let detail = format!("a condition has at most {MAX_CONDITION_BYTES} bytes");
        return Some(Problem::new(pointer, "out_of_range", detail));
    }
    let program = match Program::parse(condition) {
        Ok(program) => program,
        Err(error) => {
            let detail = format!("the condition does not parse: {error}");
            return Some(Problem::new(pointer, "expression_syntax", detail));
        }
    };
    let unknown = program.references().roots.iter().find(|name| !NAMES.contains(&name.as_str()))?;
    let detail = format!("a condition knows `resource`, `principal` and `action`, not `{unknown}`");
    Some(Problem::new(pointer, "unknown_name", detail))
}

/// Whether a condition is true of a thing.
pub(super) fn holds(condition: &str, authority: &Authority, resource: &Resource<'_>) -> bool {
    // What the log holds was checked when it was defined, perhaps by an earlier release.
    if condition.len() > MAX_CONDITION_BYTES {
        return false;
    }
    let Ok(program) = Program::parse(condition) else { return false };
    let scope = Judged::new(authority, resource);
    let value = program.evaluate(&scope, &mut Fuel::new(STEPS, BYTES));
    matches!(value, Ok(Value::Bool(true))) && !scope.asked_for_more.get()
}

/// What a condition sees.
struct Judged {
    resource: Value,
    principal: Value,
    action: Value,
    /// Whether it asked for the time or an id, which no judgement has.
    asked_for_more: Cell<bool>,
}

impl Judged {
    fn new(authority: &Authority, resource: &Resource<'_>) -> Self {
        Self {
            resource: json!({
                "kind": resource.kind,
                "id": resource.id,
                "owner": resource.owner,
                "name": resource.name,
                "workflow_id": resource.workflow,
                "status": resource.status,
                "attributes": resource.attributes.cloned().unwrap_or_default(),
                "shared": match resource.shared {
                    SharedWith::Nobody => None,
                    SharedWith::Them(ShareAccess::Read) => Some("read"),
                    SharedWith::Them(ShareAccess::Execute) => Some("execute"),
                },
            }),
            principal: json!({
                "id": authority.user,
                "email": authority.email,
                "role": authority.role,
            }),
            action: json!(authority.permission.as_str()),
            asked_for_more: Cell::new(false),
        }
    }
}

impl Scope for Judged {
    fn name<'a>(&'a self, name: &str) -> Binding<'a> {
        match name {
            "resource" => Binding::Value(&self.resource),
            "principal" => Binding::Value(&self.principal),
            "action" => Binding::Value(&self.action),
            _ => Binding::Missing,
        }
    }

    fn now(&self) -> Timestamp {
        self.asked_for_more.set(true);
        Timestamp::default()
    }

    fn uuid(&self, _n: u32) -> Uuid {
        self.asked_for_more.set(true);
        Uuid::nil()
    }
}
