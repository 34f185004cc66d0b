//! Every answer that a test gets is one that the OpenAPI document has: its status stands at its operation.
//!
//! What was answered is read from the gateway's counters when the test is over, so no test has to ask for it.

use serde_json::Value;
use std::collections::BTreeSet;

/// Looks, when it goes, at all that its gateway has answered.
pub(crate) struct Documented(pub(crate) Box<dyn Fn() -> String + Send + Sync>);

impl Drop for Documented {
    fn drop(&mut self) {
        // A test that has failed says why itself.
        if !std::thread::panicking() {
            let undocumented = undocumented(&(self.0)());
            assert!(
                undocumented.is_empty(),
                "answers that docs/openapi.json does not have: {undocumented:?}"
            );
        }
    }
}

fn undocumented(counters: &str) -> BTreeSet<String> {
    let document: Value = serde_json::from_slice(&gateway::openapi_document()).expect("JSON");
    let series = counters.lines().filter_map(|line| line.strip_prefix("everline_http_requests_total{"));
    let mut found = BTreeSet::new();
    for line in series {
        let label = |name: &str| {
            let start = line.find(&format!("{name}=\"")).expect("a label") + name.len() + 2;
            line[start..].split('"').next().expect("a value").to_owned()
        };
        let (method, route, status) = (label("method"), label("route"), label("status"));
        // `HEAD` is answered as `GET`; other methods than the documented ones are 405, or 204 for `OPTIONS`.
        let method = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
        let operation = &document["paths"][&route][&method];
        let known = operation["responses"].get(&status).is_some();
        let foreign = operation.is_null()
            && (route == "unmatched" || ["405", "204", "429", "503"].contains(&status.as_str()));
        if !known && !foreign {
            found.insert(format!("{status} of {} {route}", method.to_uppercase()));
        }
    }
    found
}

#[test]
fn an_answer_that_is_not_in_the_document_is_found() {
    let line = |method: &str, route: &str, status: u16| {
        format!(
            "everline_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} 1\n"
        )
    };
    let fine =
        line("GET", "/livez", 200) + &line("HEAD", "/api/v1/workflows", 200) + &line("POST", "/livez", 405);
    assert!(undocumented(&fine).is_empty());
    let strange = line("GET", "/livez", 418) + &line("POST", "/api/v1/workflows", 200);
    assert_eq!(undocumented(&strange).len(), 2);
}
