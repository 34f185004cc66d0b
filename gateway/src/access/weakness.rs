//! A guard taken away, so that the matrix test can show that it would notice. Only in builds with debug assertions:
//! what is released has no such switch.

use domain::access::{Authority, Grant, Reach};
use http::Method;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Principal;
use crate::failure::Failure;

use super::rules::{Rule, rule_of};

/// Which guard of a route is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The table: every recognised caller has what the route needs.
    Rule,
    /// The judgement of things: whoever has a grant has it for all of the tenant, wherever it is judged.
    Judgement,
}

/// What is taken away at the moment: a guard of one route, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Weakness(Arc<Mutex<Option<(Guard, String, String)>>>);

impl Weakness {
    /// Takes a guard of a route away, and gives back the one before.
    pub fn set(&self, guard: Guard, method: &str, route: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((guard, method.to_owned(), route.to_owned()));
    }

    /// The authority of a request as it would be without the guard that is away; otherwise what was found.
    pub(crate) fn apply(
        &self,
        principal: &Principal,
        (method, route): (&Method, &str),
        found: Result<Option<Box<Authority>>, Failure>,
    ) -> Result<Option<Box<Authority>>, Failure> {
        let away = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((guard, of_method, of_route)) = away else { return found };
        let Some(Rule::Needs(permission)) = rule_of(method, route) else { return found };
        if of_method != method.as_str() || of_route != route {
            return found;
        }
        let all = Grant { permission, reach: Reach::Any, condition: None };
        match (guard, found) {
            (Guard::Judgement, Ok(Some(authority))) => {
                Ok(Some(Box::new(Authority { grants: vec![all], ..*authority })))
            }
            (Guard::Rule, _) => Ok(Some(Box::new(Authority {
                user: principal.user,
                email: principal.email.clone(),
                role: principal.role.clone(),
                permission,
                grants: vec![all],
            }))),
            (_, found) => found,
        }
    }
}
