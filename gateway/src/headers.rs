//! Headers that every answer has, so that browsers do not do with it what it is not for.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::client::Client;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Of answers that are no pages: nothing of them is loaded or run, and nobody shows them in a frame.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// What pages with a policy of their own get added.
const NO_FRAMES: &str = "frame-ancestors 'none'";
/// A year. Without subdomains: they are not ours to speak for.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Whether an answer is for its caller alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A recognised caller's.
    Caller,
    /// Anybody's.
    Anybody,
}

/// Adds the headers that are always right. What a route has set stays.
pub(crate) fn secure(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    let policy = match headers.get(header::CONTENT_SECURITY_POLICY).map(HeaderValue::to_str) {
        Some(Ok(own)) if own.contains("frame-ancestors") => return,
        Some(Ok(own)) => HeaderValue::try_from(format!("{own}; {NO_FRAMES}")).unwrap_or(POLICY),
        _ => POLICY,
    };
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
}

/// Adds what depends on the request.
pub(crate) fn of_request(headers: &mut HeaderMap, client: &Client, audience: Audience) {
    if client.https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
    }
    if let Ok(id) = HeaderValue::try_from(&*client.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if audience == Audience::Caller && !headers.contains_key(header::CACHE_CONTROL) {
        // What has a version may be kept by its caller, who asks whether it still holds.
        let caching = if headers.contains_key(header::ETAG) { "private, no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_its_policy_and_is_shown_in_no_frame() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("script-src 'self'"));
        secure(&mut headers);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "script-src 'self'; frame-ancestors 'none'");
        secure(&mut headers);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "script-src 'self'; frame-ancestors 'none'");
    }

    #[test]
    fn what_a_caller_may_read_is_kept_by_nobody_else() {
        let caching = |etag: bool, audience| {
            let mut headers = HeaderMap::new();
            if etag {
                headers.insert(header::ETAG, HeaderValue::from_static("\"1\""));
            }
            of_request(&mut headers, &Client::default(), audience);
            headers.get(header::CACHE_CONTROL).cloned()
        };
        assert_eq!(caching(false, Audience::Caller).expect("a header"), "no-store");
        assert_eq!(caching(true, Audience::Caller).expect("a header"), "private, no-cache");
        assert_eq!(caching(false, Audience::Anybody), None);
    }
}
