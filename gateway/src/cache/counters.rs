//! How often each cache was of use.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hits and misses of one cache.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Counted {
    /// Counts a look.
    pub(crate) fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Prometheus text of caches by name.
pub(crate) fn render(caches: &[(&str, &Counted)]) -> String {
    let mut out = String::new();
    let mut counter = |kind: &str, help: &str, of: fn(&Counted) -> &AtomicU64| {
        let name = format!("everline_cache_{kind}_total");
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter")
            .expect("writing to a String cannot fail");
        for (cache, counted) in caches {
            let count = of(counted).load(Ordering::Relaxed);
            writeln!(out, "{name}{{cache=\"{cache}\"}} {count}").expect("writing to a String cannot fail");
        }
    };
    counter("hits", "Looks into a cache that found something usable.", |counted| &counted.hits);
    counter("misses", "Looks into a cache that did not.", |counted| &counted.misses);
    out
}
