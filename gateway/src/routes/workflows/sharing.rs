//! The body of `/workflows/{id}/share`.

use domain::identity::user::UserStatus;
use domain::ids::parse_id;
use domain::rejection::Problem;
use domain::workflow::event::{ShareAccess, Visibility, WorkflowShared};
use serde_json::Value;

use crate::app::App;
use crate::failure::Failure;
use crate::request::{Caller, Fields};

/// The most users of one body that are read; the decider takes fewer.
const MAX_USERS: usize = 1_000;

/// Reads with whom a workflow is shared.
pub(super) fn read(fields: &mut Fields) -> WorkflowShared {
    let visibility = match fields.text("visibility").as_deref() {
        None | Some("private") => Visibility::Private,
        Some("public") => Visibility::Public,
        Some(_) => {
            fields.report("/visibility", "invalid_value", "use private or public");
            Visibility::Private
        }
    };
    let access = match fields.text("access").as_deref() {
        None | Some("read") => ShareAccess::Read,
        Some("execute") => ShareAccess::Execute,
        Some(_) => {
            fields.report("/access", "invalid_value", "use read or execute");
            ShareAccess::Read
        }
    };
    let mut users = Vec::new();
    match fields.any("users") {
        None | Some(Value::Null) => {}
        Some(Value::Array(given)) => {
            for (index, user) in given.iter().enumerate().take(MAX_USERS) {
                match user.as_str().and_then(parse_id) {
                    Some(id) => users.push(id),
                    None => fields.report(&format!("/users/{index}"), "invalid_id", "expected a user's id"),
                }
            }
        }
        Some(_) => fields.report("/users", "wrong_type", "expected an array of users' ids"),
    }
    WorkflowShared { visibility, users, access }
}

/// Refuses users that the tenant does not have.
pub(super) async fn check_users(app: &App, caller: &Caller, shared: &WorkflowShared) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for (index, id) in shared.users.iter().enumerate() {
        let user = app.directory.user(*id).await?;
        let known = user.is_some_and(|user| {
            user.tenant == caller.principal.tenant && user.state.status != UserStatus::Deleted
        });
        if !known {
            let detail = format!("the tenant has no user {id}");
            problems.push(Problem::new(format!("/users/{index}"), "unknown_user", detail));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::invalid_body(problems)) }
}
