//! A build without OpenID Connect: there are no providers.

use http::HeaderMap;

use super::{Arrival, Callback, Question};
use crate::app::App;
use crate::config::GatewayConfig;
use crate::failure::Failure;
use crate::status;

/// No providers.
pub(crate) struct Providers;

impl Providers {
    pub(crate) fn new(_config: &GatewayConfig) -> Self {
        Self
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    pub(crate) async fn ask(
        &self,
        _app: &App,
        _name: &str,
        _headers: &HeaderMap,
        _redirect: Option<String>,
    ) -> Result<Question, Failure> {
        Err(absent())
    }

    pub(crate) async fn answer(
        &self,
        _app: &App,
        _name: &str,
        _headers: &HeaderMap,
        _callback: Callback,
    ) -> Result<Arrival, Failure> {
        Err(absent())
    }
}

fn absent() -> Failure {
    Failure::new(status::PROVIDER_NOT_FOUND, "this build has no OpenID Connect")
}
