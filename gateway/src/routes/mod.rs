//! The routes, one file per area, mirroring the URL tree.

mod api_keys;
mod audit;
mod auth;
mod bulk;
mod dead_letter_list;
mod device;
mod docs;
mod events;
mod execute;
mod execution_commands;
mod executions;
mod expressions;
mod filters;
pub(crate) mod health;
mod history;
mod jwks;
mod node_types;
mod nodes;
mod oidc;
mod permissions;
mod redrive;
mod roles;
mod sse;
mod tenants;
mod users;
mod variables;
mod workflows;
mod ws;

use axum::Router;
use std::sync::Arc;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::openapi;

pub(crate) use events::{after as feed_after, reader as feed_reader};
pub(crate) use sse::AnyTail;

/// Every route, and the document that describes them.
pub(crate) fn router() -> (Router<Arc<App>>, OpenApi) {
    let api = OpenApiRouter::new()
        .routes(routes!(auth::register))
        .routes(routes!(auth::login))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me))
        .routes(routes!(oidc::list))
        .routes(routes!(oidc::begin))
        .routes(routes!(oidc::callback))
        .routes(routes!(users::list, users::create))
        .routes(routes!(device::begin))
        .routes(routes!(device::token))
        .routes(routes!(device::approve))
        .routes(routes!(users::get, users::update, users::delete))
        .routes(routes!(users::disable))
        .routes(routes!(users::enable))
        .routes(routes!(users::invite))
        .routes(routes!(users::reset_password))
        .routes(routes!(permissions::list))
        .routes(routes!(roles::list, roles::create))
        .routes(routes!(roles::get, roles::put, roles::delete))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::get, api_keys::revoke))
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::get, tenants::update))
        .routes(routes!(tenants::suspend))
        .routes(routes!(tenants::resume))
        .routes(routes!(tenants::own, tenants::update_own))
        .routes(routes!(auth::sessions))
        .routes(routes!(auth::end_session))
        .routes(routes!(auth::change_password))
        .routes(routes!(auth::reset_password))
        .routes(routes!(auth::accept_invitation))
        .routes(routes!(auth::enrol_totp, auth::remove_totp))
        .routes(routes!(auth::confirm_totp))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(workflows::create, workflows::list))
        .routes(routes!(workflows::validate))
        .routes(routes!(workflows::get, workflows::update, workflows::delete))
        .routes(routes!(workflows::publish))
        .routes(routes!(workflows::enable))
        .routes(routes!(workflows::disable))
        .routes(routes!(workflows::restore))
        .routes(routes!(workflows::share))
        .routes(routes!(workflows::versions))
        .routes(routes!(workflows::version))
        .routes(routes!(execute::execute))
        .routes(routes!(executions::list))
        .routes(routes!(bulk::start, bulk::list))
        .routes(routes!(bulk::get))
        .routes(routes!(bulk::cancel))
        .routes(routes!(executions::get))
        .routes(routes!(executions::events))
        .routes(routes!(history::state))
        .routes(routes!(history::versions))
        .routes(routes!(history::executions))
        .routes(routes!(nodes::list))
        .routes(routes!(dead_letter_list::list))
        .routes(routes!(dead_letter_list::get))
        .routes(routes!(execution_commands::cancel))
        .routes(routes!(execution_commands::terminate))
        .routes(routes!(execution_commands::pause))
        .routes(routes!(execution_commands::resume))
        .routes(routes!(execution_commands::retry))
        .routes(routes!(execution_commands::signal))
        .routes(routes!(execution_commands::fork))
        .routes(routes!(redrive::several))
        .routes(routes!(redrive::one))
        .routes(routes!(executions::stream))
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(expressions::evaluate))
        .routes(routes!(filters::evaluate))
        .routes(routes!(variables::list, variables::create))
        .routes(routes!(variables::get, variables::put, variables::delete))
        .routes(routes!(node_types::list))
        .routes(routes!(docs::openapi_document))
        .routes(routes!(ws::connect));
    OpenApiRouter::with_openapi(openapi::head())
        .nest("/api/v1", api)
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::version))
        .routes(routes!(jwks::jwks))
        .routes(routes!(docs::page))
        .routes(routes!(device::page))
        .routes(routes!(device::script))
        .routes(routes!(device::style))
        .routes(routes!(docs::error_page))
        .split_for_parts()
}
