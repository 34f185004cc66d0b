//! Pages of other origins.

use gateway::{CorsConfig, GatewayConfig, Origins};
use reqwest::{Method, Response, StatusCode};

use super::harness::Harness;

const PAGE: &str = "https://console.example.org";

async fn allowing(origins: Origins) -> Harness {
    let cors = CorsConfig { origins, ..CorsConfig::default() };
    Harness::with(GatewayConfig { cors, ..GatewayConfig::default() }).await
}

async fn preflight(h: &Harness, origin: &str) -> Response {
    let request = h.bare(Method::OPTIONS, "/api/v1/workflows").header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    request.header("access-control-request-headers", "authorization").send().await.expect("an answer")
}

fn has(response: &Response, name: &str) -> bool {
    response.headers().contains_key(name)
}

#[tokio::test]
async fn by_default_no_other_origin_may_do_anything() {
    let h = Harness::start().await;
    assert!(!has(&preflight(&h, PAGE).await, "access-control-allow-origin"));
    let answer = h.request(Method::GET, "/api/v1/auth/me").header("origin", PAGE).send().await;
    assert!(!has(&answer.expect("an answer"), "access-control-allow-origin"));
}

#[tokio::test]
async fn a_page_that_is_allowed_asks_without_credentials_and_reads_what_it_needs() {
    let h = allowing(Origins::Some(vec![PAGE.to_owned()])).await;
    let asked = preflight(&h, PAGE).await;
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
    assert_eq!(asked.headers()["access-control-allow-origin"], PAGE);
    assert_eq!(asked.headers()["access-control-allow-credentials"], "true");
    assert_eq!(asked.headers()["access-control-max-age"], "600");
    let allowed = asked.headers()["access-control-allow-headers"].to_str().expect("text").to_owned();
    for name in ["authorization", "idempotency-key", "if-match"] {
        assert!(allowed.contains(name), "{name} in {allowed}");
    }
    // Refusals must be readable too, or nobody learns what is wrong.
    for answer in [
        h.request(Method::GET, "/api/v1/auth/me"),
        h.bare(Method::GET, "/api/v1/auth/me"),
        h.request(Method::GET, "/nowhere"),
    ] {
        let answer = answer.header("origin", PAGE).send().await.expect("an answer");
        assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
        assert!(answer.headers()["vary"].to_str().expect("text").contains("origin"));
        let exposed = answer.headers()["access-control-expose-headers"].to_str().expect("text");
        for name in ["Everline-Position", "Link", "ETag", "RateLimit", "Retry-After", "X-Request-Id"] {
            assert!(exposed.contains(name), "{name} in {exposed}");
        }
    }
}

#[tokio::test]
async fn a_page_that_is_not_allowed_gets_no_permission() {
    let h = allowing(Origins::Some(vec![PAGE.to_owned()])).await;
    for origin in [
        "https://evil.example",
        "null",
        "https://console.example.org.evil.example",
        "http://console.example.org",
    ] {
        let asked = preflight(&h, origin).await;
        assert!(!has(&asked, "access-control-allow-origin"), "{origin}");
        assert!(!has(&asked, "access-control-allow-credentials"), "{origin}");
        let answer = h.request(Method::GET, "/api/v1/auth/me").header("origin", origin).send().await;
        assert!(!has(&answer.expect("an answer"), "access-control-allow-origin"), "{origin}");
    }
}

#[tokio::test]
async fn whoever_allows_all_origins_allows_none_of_them_cookies() {
    let h = allowing(Origins::All).await;
    let asked = preflight(&h, "https://anybody.example").await;
    assert_eq!(asked.headers()["access-control-allow-origin"], "*");
    assert!(!has(&asked, "access-control-allow-credentials"));
}
