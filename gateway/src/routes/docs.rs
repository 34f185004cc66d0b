//! The OpenAPI document and the pages that show it.

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, header};
use std::sync::Arc;

use crate::app::App;
use crate::failure::Failure;
use crate::request::PathParams;
use crate::status;

/// The page shows nothing from elsewhere and runs nothing but its own script.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'";

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "docs",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json")))]
pub(crate) async fn openapi_document(State(app): State<Arc<App>>) -> Response {
    let mut response = app.openapi.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The API as a page.
#[utoipa::path(get, path = "/docs", tag = "docs",
    responses((status = 200, description = "A page.", content_type = "text/html", body = String)))]
pub(crate) async fn page() -> Response {
    html(include_str!("docs.html").to_owned())
}

/// The pages of `docs/errors/`, in the program itself.
#[derive(rust_embed::RustEmbed)]
#[folder = "../docs/errors/"]
struct ErrorPages;

/// What an error code means, and what to do: where the `type` of a problem leads.
#[utoipa::path(get, path = "/docs/errors/{code}", tag = "docs", params(("code" = String, Path)),
    responses((status = 200, description = "A page.", content_type = "text/markdown", body = String)))]
pub(crate) async fn error_page(params: PathParams) -> Result<Response, Failure> {
    let page = ErrorPages::get(&format!("{}.md", params.text("code")));
    let page = page.ok_or_else(|| Failure::new(status::NOT_FOUND, "there is no such error code"))?;
    let mut response = page.data.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/markdown; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn html(text: String) -> Response {
    let mut response = Html(text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
