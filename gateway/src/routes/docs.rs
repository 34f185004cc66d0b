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

/// What an error code means.
#[utoipa::path(get, path = "/docs/errors/{code}", tag = "docs", params(("code" = String, Path)),
    responses((status = 200, description = "A page.", content_type = "text/html", body = String)))]
pub(crate) async fn error_page(params: PathParams) -> Result<Response, Failure> {
    let code = params.text("code");
    let fits = (1..=64).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        return Err(Failure::new(status::NOT_FOUND, "there is no such error code"));
    }
    let known = status::CODES.iter().find(|known| known.code == code);
    let text = match known {
        Some(known) => format!("{}. HTTP status {}.", known.title, known.status.as_u16()),
        None => "The engine refused the command; the problem's <code>detail</code> says why and what to do."
            .to_owned(),
    };
    Ok(html(format!(
        "<!doctype html><meta charset=utf-8><title>{code}</title><h1><code>{code}</code></h1><p>{text}</p>"
    )))
}

fn html(text: String) -> Response {
    let mut response = Html(text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
