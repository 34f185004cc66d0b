//! Second factors: codes that are good once, recovery codes, and taking them away.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use totp_rs::{Builder, Secret};

use super::harness::{Harness, text};

const EMAIL: &str = "two@example.test";
const PASSWORD: &str = "a good password";

/// The code of the moment, or of one of the steps beside it.
fn code(secret: &str, steps: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let secret = Secret::try_from_base32(secret).expect("base32");
    let totp = Builder::new().with_secret(secret).build_noncompliant();
    totp.generate((now as i64 + steps * 30) as u64).to_string()
}

/// A user with a second factor: session, seed, recovery codes.
async fn enrolled(h: &Harness) -> (Value, String, Vec<String>) {
    h.user(EMAIL, PASSWORD).await;
    let session = h.log_in(EMAIL, PASSWORD).await;
    let access = text(&session, "access_token");
    let (status, _) = h.api(Method::POST, "auth/totp", &access, json!({"password": "wrong one"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the password is needed");
    let (status, seed) = h.api(Method::POST, "auth/totp", &access, json!({"password": PASSWORD})).await;
    assert_eq!(status, StatusCode::OK, "{seed}");
    assert!(text(&seed, "otpauth_url").starts_with("otpauth://totp/Everline"));
    let secret = text(&seed, "secret");
    assert_eq!(h.log_in(EMAIL, PASSWORD).await["token_type"], "Bearer", "a draft changes nothing");
    let (status, _) = h.api(Method::POST, "auth/totp/confirm", &access, json!({"code": "000000"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // The step before: so that those after it are left for the tests.
    let body = json!({"code": code(&secret, -1)});
    let (status, codes) = h.api(Method::POST, "auth/totp/confirm", &access, body).await;
    assert_eq!(status, StatusCode::OK, "{codes}");
    let codes = codes["recovery_codes"].as_array().expect("codes").iter();
    let codes: Vec<_> = codes.map(|code| code.as_str().expect("a code").to_owned()).collect();
    assert_eq!(codes.len(), 10);
    (session, secret, codes)
}

async fn log_in_with(h: &Harness, field: &str, value: &str) -> (StatusCode, Value) {
    h.auth("login", json!({"email": EMAIL, "password": PASSWORD, field: value})).await
}

#[tokio::test]
async fn a_code_is_needed_and_good_once() {
    let config = gateway::GatewayConfig { login_failures_per_minute: 1_000, ..Default::default() };
    let h = Harness::with(config).await;
    let (_, secret, _) = enrolled(&h).await;
    let (status, problem) = h.auth("login", json!({"email": EMAIL, "password": PASSWORD})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("second_factor_required")));
    let (_, wrong) =
        h.auth("login", json!({"email": EMAIL, "password": "wrong", "code": code(&secret, 0)})).await;
    assert_eq!(wrong["code"], "invalid_credentials", "without the password nothing is told of the factor");

    let now = code(&secret, 0);
    let logins = futures::future::join_all((0..4).map(|_| log_in_with(&h, "code", &now))).await;
    let good = logins.iter().filter(|(status, _)| *status == StatusCode::OK).count();
    assert_eq!(good, 1, "of all who send it at once, one comes in");
    let (status, problem) = log_in_with(&h, "code", &now).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_second_factor")));
    let (status, _) = log_in_with(&h, "code", &code(&secret, -1)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "nor one of a step before");
    for wrong in ["", "12345", "1234567", "abcdef", "１２３４５６"] {
        assert_eq!(log_in_with(&h, "code", wrong).await.0, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    assert_eq!(log_in_with(&h, "code", &code(&secret, 1)).await.0, StatusCode::OK, "the next one is good");
}

#[tokio::test]
async fn a_recovery_code_is_good_once_however_it_is_written() {
    let h = Harness::start().await;
    let (_, _, codes) = enrolled(&h).await;
    let typed = codes[0].to_lowercase().replace('-', " ");
    assert_eq!(log_in_with(&h, "recovery_code", &typed).await.0, StatusCode::OK);
    let (status, problem) = log_in_with(&h, "recovery_code", &codes[0]).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("invalid_second_factor")));
    assert_eq!(log_in_with(&h, "recovery_code", &codes[1]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_second_factor_is_taken_away_by_the_password_or_a_code() {
    let h = Harness::start().await;
    let (session, _, codes) = enrolled(&h).await;
    let access = text(&session, "access_token");
    for body in [json!({"password": "wrong one"}), json!({"code": "000000"})] {
        let (status, _) = h.api(Method::DELETE, "auth/totp", &access, body).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let (status, _) = h.api(Method::DELETE, "auth/totp", &access, json!({})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, problem) = h.api(Method::DELETE, "auth/totp", &h.key, json!({"password": PASSWORD})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("not_a_session")));
    let (status, _) = h.api(Method::DELETE, "auth/totp", &access, json!({"password": PASSWORD})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(h.log_in(EMAIL, PASSWORD).await["token_type"], "Bearer");
    assert_eq!(log_in_with(&h, "recovery_code", &codes[2]).await.0, StatusCode::OK, "it is not asked for");
    let (status, problem) = h.api(Method::DELETE, "auth/totp", &access, json!({"password": PASSWORD})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("totp_not_enabled")));
}
