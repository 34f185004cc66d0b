//! The caller of a request, as the middleware recognised it.

use axum::extract::FromRequestParts;
use domain::access::Authority;
use http::request::Parts;
use std::convert::Infallible;
use std::sync::Arc;

use crate::auth::Principal;
use crate::client::Client;
use crate::failure::Failure;
use crate::status;
use crate::trace_context::TraceContext;

/// Who calls, and in which trace. Only requests that passed authentication have one.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Arc<Principal>,
    pub(crate) trace: TraceContext,
    /// With which right it acts here; `None` on routes that need no permission.
    pub(crate) authority: Option<Box<Authority>>,
    /// From where it calls.
    pub(crate) client: Client,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let principal = parts.extensions.get::<Arc<Principal>>().cloned();
        // A route that wants a caller and is listed as public is a mistake here; it stays closed.
        let principal = principal
            .ok_or_else(|| Failure::new(status::UNAUTHENTICATED, "this needs an API key or access token"))?;
        let authority = parts.extensions.get::<Box<Authority>>().cloned();
        let client = parts.extensions.get::<Client>().cloned().unwrap_or_default();
        Ok(Self { principal, trace: trace_of(parts), authority, client })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(trace_of(parts))
    }
}

fn trace_of(parts: &Parts) -> TraceContext {
    parts.extensions.get::<TraceContext>().cloned().unwrap_or_else(TraceContext::fresh)
}
