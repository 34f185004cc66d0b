//! W3C trace context of a request: taken from a valid `traceparent`, else begun here.

use http::HeaderMap;
use std::sync::Arc;

/// The trace that a request belongs to.
#[derive(Debug, Clone)]
pub(crate) struct TraceContext(Arc<str>);

impl TraceContext {
    /// From the request's headers, or fresh from 16 random bytes and 8 more.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given =
            headers.get("traceparent").and_then(|value| value.to_str().ok()).filter(|text| is_valid(text));
        given.map_or_else(Self::fresh, |text| Self(Arc::from(text)))
    }

    /// A trace of its own, sampled by nobody.
    pub(crate) fn fresh() -> Self {
        use std::fmt::Write;
        let bytes: [u8; 24] = crate::random::bytes();
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        for (index, byte) in bytes.iter().enumerate() {
            if index == 16 {
                text.push('-');
            }
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        }
        text.push_str("-00");
        Self(Arc::from(text))
    }

    /// As it travels in commands.
    pub(crate) fn traceparent(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The header's text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace's id, 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> &str {
        // Both makers above guarantee the form `00-<32>-<16>-<2>`.
        self.0.get(3..35).unwrap_or_default()
    }
}

/// `version-traceid-parentid-flags` of version 00, in lower-case hexadecimal, neither id all zeros.
fn is_valid(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let zeros = |part: &str| part.bytes().all(|b| b == b'0');
    version == "00" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && !zeros(trace) && !zeros(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_valid_traceparent_is_kept_and_another_replaced() {
        let mut headers = HeaderMap::new();
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", HeaderValue::from_static(good));
        let context = TraceContext::of(&headers);
        assert_eq!(context.as_str(), good);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for bad in ["", "00-zz-00-00", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-a-b-c"]
        {
            headers.insert("traceparent", HeaderValue::from_static(bad));
            assert!(is_valid(TraceContext::of(&headers).as_str()));
            assert_ne!(TraceContext::of(&headers).as_str(), bad);
        }
    }
}
