//! The gateway's own counters, as Prometheus text.

use http::Method;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By route template and method: both are of a fixed set, so there are few.
    routes: RwLock<HashMap<String, ByMethod>>,
    pub(crate) sockets: Gauge,
    pub(crate) event_streams: Gauge,
    pub(crate) slow_clients: AtomicU64,
    pub(crate) panics: AtomicU64,
}

type ByMethod = HashMap<&'static str, Arc<Mutex<Route>>>;

/// The method as it is counted. Callers may make methods up, and a series is kept for ever: all but the standard
/// ones are counted together, under the name that OpenTelemetry gives them.
fn counted_as(method: &Method) -> &'static str {
    const STANDARD: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    STANDARD.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

#[derive(Debug, Default)]
struct Route {
    statuses: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// How many there are now.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gauge(Arc<AtomicI64>);

/// One more, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicI64>);

impl Gauge {
    /// Counts one more.
    pub(crate) fn count(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Notes an answered request.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let series = self.series(counted_as(method), route);
        let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
        *series.statuses.entry(status).or_default() += 1;
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            series.buckets[bucket] += 1;
        }
        series.count += 1;
        series.seconds += seconds;
    }

    fn series(&self, method: &'static str, route: &str) -> Arc<Mutex<Route>> {
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(route).and_then(|methods| methods.get(method)) {
            return series.clone();
        }
        drop(known);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.entry(route.to_owned()).or_default().entry(method).or_default().clone()
    }

    /// The text for scrapers.
    pub(crate) fn render(&self) -> String {
        let mut out = String::with_capacity(8 * 1024);
        out.push_str("# HELP everline_http_requests_total Requests answered.\n");
        out.push_str("# TYPE everline_http_requests_total counter\n");
        self.each(|method, route, series| {
            for (status, count) in &series.statuses {
                line(
                    &mut out,
                    "everline_http_requests_total",
                    method,
                    route,
                    &format!(",status=\"{status}\""),
                    *count,
                );
            }
        });
        out.push_str("# HELP everline_http_request_duration_seconds Time to the head of the answer.\n");
        out.push_str("# TYPE everline_http_request_duration_seconds histogram\n");
        let name = "everline_http_request_duration_seconds";
        self.each(|method, route, series| {
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(series.buckets) {
                below += count;
                line(&mut out, &format!("{name}_bucket"), method, route, &format!(",le=\"{bound}\""), below);
            }
            line(&mut out, &format!("{name}_bucket"), method, route, ",le=\"+Inf\"", series.count);
            line(&mut out, &format!("{name}_sum"), method, route, "", series.seconds);
            line(&mut out, &format!("{name}_count"), method, route, "", series.count);
        });
        let gauges = [
            ("everline_websocket_connections", "gauge", "Open WebSocket connections.", load(&self.sockets)),
            ("everline_sse_streams", "gauge", "Open SSE streams.", load(&self.event_streams)),
            (
                "everline_websocket_slow_clients_total",
                "counter",
                "WebSocket clients cut off because they did not read.",
                self.slow_clients.load(Ordering::Relaxed) as i64,
            ),
            (
                "everline_http_panics_total",
                "counter",
                "Requests whose handler panicked.",
                self.panics.load(Ordering::Relaxed) as i64,
            ),
        ];
        for (name, kind, help, value) in gauges {
            write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
                .expect("writing to a String cannot fail");
        }
        out
    }

    fn each(&self, mut visit: impl FnMut(&str, &str, &Route)) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = routes.iter().collect();
        names.sort_by_key(|(route, _)| *route);
        for (route, methods) in names {
            let mut methods: Vec<_> = methods.iter().collect();
            methods.sort_by_key(|(method, _)| **method);
            for (method, series) in methods {
                visit(method, route, &series.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

fn load(gauge: &Gauge) -> i64 {
    gauge.0.load(Ordering::Relaxed)
}

fn line(out: &mut String, name: &str, method: &str, route: &str, more: &str, value: impl std::fmt::Display) {
    writeln!(out, "{name}{{method=\"{method}\",route=\"{route}\"{more}}} {value}")
        .expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::default();
        metrics.answered(&Method::GET, "/livez", 200, Duration::from_millis(2));
        metrics.answered(&Method::GET, "/livez", 200, Duration::from_secs(60));
        let text = metrics.render();
        assert!(
            text.contains("everline_http_requests_total{method=\"GET\",route=\"/livez\",status=\"200\"} 2\n")
        );
        assert!(text.contains("route=\"/livez\",le=\"0.0025\"} 1\n"));
        assert!(text.contains("route=\"/livez\",le=\"+Inf\"} 2\n"));
    }

    #[test]
    fn invented_methods_share_one_series() {
        let metrics = Metrics::default();
        for number in 0..100 {
            let method = Method::from_bytes(format!("X{number}").as_bytes()).expect("a method");
            metrics.answered(&method, "unmatched", 405, Duration::from_millis(1));
        }
        let text = metrics.render();
        let line = "everline_http_requests_total{method=\"_OTHER\",route=\"unmatched\",status=\"405\"} 100\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("X1"));
    }
}
