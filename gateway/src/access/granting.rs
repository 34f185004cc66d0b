//! Nobody hands on more than they have: roles, users and keys are given within the giver's own rights.

use domain::access::Grant;

use crate::auth::Principal;
use crate::directory::covers;
use crate::failure::Failure;
use crate::status;

/// Whether a caller may hand on, or touch whoever has, these grants.
///
/// # Errors
/// One of them goes further than the caller's own.
pub(crate) fn may_grant(principal: &Principal, grants: &[Grant]) -> Result<(), Failure> {
    let own = |wanted: &Grant| principal.grants.iter().any(|have| includes(have, wanted));
    let Some(beyond) = grants.iter().find(|grant| !own(grant)) else { return Ok(()) };
    let detail = format!(
        "this would give, or touches somebody who has, {} further than you have it; ask somebody with more rights",
        beyond.permission
    );
    Err(Failure::new(status::FORBIDDEN, detail))
}

/// Whether a grant allows all that another does, as far as that can be told without looking into conditions.
pub(crate) fn includes(have: &Grant, wanted: &Grant) -> bool {
    have.permission == wanted.permission
        && have.reach >= wanted.reach
        && (have.condition.is_none() || have.condition == wanted.condition)
}

/// Whether a caller may make a key with a scope. `own_scopes` are those of the key that asks, if a key does.
///
/// # Errors
/// The caller, or the key, does not have what the scope stands for.
pub(crate) fn may_scope(
    principal: &Principal,
    own_scopes: Option<&[String]>,
    scope: &str,
) -> Result<(), Failure> {
    let refuse = |whose: &str| {
        let shown: String = scope.chars().take(64).collect();
        Failure::new(status::FORBIDDEN, format!("the scope `{shown}` goes beyond what {whose} may do"))
    };
    if own_scopes.is_some_and(|own| !own.iter().any(|have| covers(have, scope))) {
        return Err(refuse("the key that asks"));
    }
    // `*` is whatever its owner may do, now and later.
    let stands_for_any =
        scope == "*" || principal.grants.iter().any(|g| covers(scope, g.permission.as_str()));
    // What no permission is called the decider names.
    let known = domain::access::Permission::ALL.iter().any(|known| covers(scope, known.as_str()));
    if known && !stands_for_any { Err(refuse("you")) } else { Ok(()) }
}
