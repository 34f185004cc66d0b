//! Answers that are not problems.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri, header};
use serde::Serialize;

use crate::cursor::next_link;
use crate::failure::Failure;
use crate::status;

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Failure> {
    let mut response = (status, body(value)?).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The body of a JSON answer.
pub(crate) fn body(value: &impl Serialize) -> Result<Bytes, Failure> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Failure::new(status::INTERNAL, "the answer could not be written")
    })?;
    // Answers that are kept take no more than they say.
    Ok(Bytes::from(bytes.into_boxed_slice()))
}

/// A page of a list.
#[derive(Serialize)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_cursor: Option<String>,
}

impl<T: Serialize> List<T> {
    /// The page with its link to the next one.
    pub(crate) fn answer(&self, uri: &Uri) -> Result<Response, Failure> {
        let mut response = json(StatusCode::OK, self)?;
        link_next(&mut response, uri, self.next_cursor.as_deref());
        Ok(response)
    }
}

/// Adds the link to the next page, if there is one.
pub(crate) fn link_next(response: &mut Response, uri: &Uri, cursor: Option<&str>) {
    if let Some(link) = cursor.and_then(|cursor| next_link(uri, cursor)) {
        response.headers_mut().insert(header::LINK, link);
    }
}
