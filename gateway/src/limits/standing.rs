//! What an answer says of limits: draft-ietf-httpapi-ratelimit-headers-10.
//!
//! `RateLimit-Policy: "key";q=600;w=60` names the limit and its quota, `RateLimit: "key";r=599;t=1` what remains of it and
//! after how many seconds all of it would be there again, or, where nothing remains, the next one.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::bucket::{Left, Rate};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The tightest of the limits that a request counted in; none where nothing is limited.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing(Option<Box<Limit>>);

#[derive(Debug, Clone)]
struct Limit {
    policy: &'static str,
    rate: Rate,
    remaining: u32,
    after_s: u64,
}

impl Standing {
    /// Nothing is left of a limit for so many seconds.
    pub(super) fn exhausted(policy: &'static str, rate: Rate, after_s: u64) -> Self {
        Self(Some(Box::new(Limit { policy, rate, remaining: 0, after_s })))
    }

    /// One more limit; the one of which less remains stays.
    pub(super) fn add(&mut self, policy: &'static str, rate: Rate, left: Left) {
        let limit = Limit { policy, rate, remaining: left.remaining, after_s: left.full_after_s };
        *self = std::mem::take(self).or_tighter(Self(Some(Box::new(limit))));
    }

    /// The tighter of two.
    pub(crate) fn or_tighter(self, other: Self) -> Self {
        match (&self.0, &other.0) {
            (Some(one), Some(another)) if another.remaining < one.remaining => other,
            (None, _) => other,
            (Some(_), _) => self,
        }
    }

    /// Adds the headers.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let Some(limit) = &self.0 else { return };
        let policy = format!("\"{}\";q={};w=60", limit.policy, limit.rate.per_minute);
        let standing = format!("\"{}\";r={};t={}", limit.policy, limit.remaining, limit.after_s);
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, standing)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_is_told() {
        let rate = Rate::new(600, 0).expect("a rate");
        let mut standing = Standing::default();
        standing.add("user", rate, Left { remaining: 12, full_after_s: 59 });
        standing.add("key", rate, Left { remaining: 3, full_after_s: 60 });
        standing.add("tenant", rate, Left { remaining: 400, full_after_s: 1 });
        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"key\";q=600;w=60");
        assert_eq!(headers["ratelimit"], "\"key\";r=3;t=60");
        let mut headers = HeaderMap::new();
        Standing::default().write(&mut headers);
        assert!(headers.is_empty());
    }
}
