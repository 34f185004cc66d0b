//! Logins through OpenID Connect: the whole flow with the certified provider, and a provider that lies.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::header::{LOCATION, SET_COOKIE};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

use super::{Live, fetched, first_line, here, passes, python};

/// A provider that runs, until it is dropped.
struct Provider {
    url: String,
    _child: Child,
}

impl Provider {
    async fn certified(port: u16, redirect: &str) -> Self {
        let folder = fetched("TEST_SERVICES_OIDC_PROVIDER", "oidc-provider-8.8.1");
        let mut command = Command::new("node");
        command.arg(here("provider.mjs")).arg(folder).arg(port.to_string()).arg(redirect);
        Self::start(port, command).await
    }

    async fn lying() -> Self {
        let port = test_services::free_port().unwrap();
        let mut command = Command::new("node");
        command.arg(here("liar.mjs")).arg(port.to_string());
        Self::start(port, command).await
    }

    async fn start(port: u16, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("node");
        assert_eq!(first_line(&mut child).await.as_deref(), Some("ready"), "the provider did not start");
        Self { url: format!("http://127.0.0.1:{port}"), _child: child }
    }
}

/// Says loudly that a test proves nothing here. CI installs what is needed, so there it is a failure.
fn has_node() -> bool {
    let found = std::process::Command::new("node").arg("--version").stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("CI").is_none(), "CI has no Node.js; `cargo xtask test` installs it");
    if !found {
        eprintln!("SKIPPED, AND NOTHING IS PROVED: there is no `node`; `cargo xtask test` installs it");
    }
    found
}

fn section(name: &str, issuer: &str, more: &str) -> String {
    format!(
        "[gateway.oidc.{name}]\nissuer = \"{issuer}\"\nclient_id = \"everline\"\nclient_secret = \"the secret of the provider\"\n{more}\n"
    )
}

#[tokio::test]
async fn people_log_in_through_the_certified_provider_and_attacks_on_the_way_fail() {
    if !has_node() {
        return;
    }
    let (port, provider_port) = (test_services::free_port().unwrap(), test_services::free_port().unwrap());
    let issuer = format!("http://127.0.0.1:{provider_port}");
    let open = "sign_up = \"open\"\nallowed_domains = \"example.test\"\nrole = \"VIEWER\"";
    // Everline starts first: discovery waits until somebody logs in.
    let everline = Live::start_on(port, &section("corp", &issuer, open)).await;
    let listed = everline.client.get("/auth/oidc").await;
    assert_eq!(listed.body["items"], json!([{"name": "corp"}]));
    let down = everline.client.get("/auth/oidc/corp").await;
    assert_eq!(
        (down.status, &down.body["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("provider_unavailable"))
    );

    let redirect = format!("{}/api/v1/auth/oidc/corp/callback", everline.url);
    let _provider = Provider::certified(provider_port, &redirect).await;
    // A provider that was down is asked again after a pause.
    let patient = Browser::new(&everline, "corp", &issuer);
    until("the provider to be asked again", || async { patient.begins().await == StatusCode::FOUND }).await;
    let mut browser = python("browser.py");
    browser.args([&everline.url, "corp", "grace", "unverified-mallory"]);
    let printed = passes(browser).await;
    let results: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let grace = &results[0];
    assert_eq!(grace["first"]["status"], 200, "{grace}\n{}", everline.log());
    assert_eq!(grace["first"]["email"], "grace@example.test");
    assert_eq!(grace["second"]["user"], grace["first"]["user"], "the same person is the same user");
    for (attack, status, code) in [
        ("replayed", 400, "login_state_invalid"),
        ("replayed_with_cookie", 400, "login_state_invalid"),
        ("of_another_browser", 400, "login_state_invalid"),
        ("wrong_state", 400, "login_state_invalid"),
        ("wrong_issuer", 400, "login_state_invalid"),
        ("no_issuer", 400, "login_state_invalid"),
        ("wrong_code", 403, "login_refused"),
    ] {
        assert_eq!(
            (&grace[attack]["status"], &grace[attack]["code"]),
            (&json!(status), &json!(code)),
            "{attack}"
        );
    }
    assert_eq!(
        grace["redirected"],
        json!({"status": 303, "location": "/device?user_code=BCDF-GHJK", "me": 200})
    );
    let mallory = &results[1]["first"];
    assert_eq!((&mallory["status"], &mallory["code"]), (&json!(403), &json!("account_not_linked")));

    // The session is one like any other, with the role of those who sign up.
    let token = grace["first"]["access_token"].as_str().unwrap();
    let me = crate::harness::Client::new(&everline.url, token).get("/auth/me").await;
    assert_eq!((&me.body["email"], &me.body["role"]), (&json!("grace@example.test"), &json!("VIEWER")));
}

/// Looks again until something is so, seldom enough for the limits of an address.
async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    crate::harness::within(what, async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    })
    .await;
}

/// A browser that follows nothing by itself.
struct Browser {
    http: reqwest::Client,
    begin: String,
    issuer: String,
}

/// A login as far as the provider: what it was asked, and the cookie.
struct Asked {
    state: String,
    nonce: String,
    cookie: String,
}

impl Browser {
    fn new(everline: &Live, name: &str, issuer: &str) -> Self {
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        let http = builder.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let begin = format!("{}/api/v1/auth/oidc/{name}", everline.url);
        Self { http, begin, issuer: issuer.to_owned() }
    }

    async fn begins(&self) -> StatusCode {
        self.http.get(&self.begin).send().await.unwrap().status()
    }

    async fn ask(&self) -> Asked {
        let question = self.http.get(&self.begin).send().await.unwrap();
        assert_eq!(question.status(), StatusCode::FOUND);
        let location = reqwest::Url::parse(question.headers()[LOCATION].to_str().unwrap()).unwrap();
        let of = |name: &str| location.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let cookie = question.headers()[SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Asked { state: of("state"), nonce: of("nonce"), cookie }
    }

    /// Brings the provider's answer, in which it lies so.
    async fn answer(&self, asked: &Asked, lie: &str, sub: &str) -> (u16, Value) {
        let code = json!({"lie": lie, "nonce": asked.nonce, "sub": sub}).to_string();
        let code = URL_SAFE_NO_PAD.encode(code);
        let query =
            [("code", code.as_str()), ("state", &asked.state), ("iss", &self.issuer), ("session_state", "x")];
        let request = self.http.get(format!("{}/callback", self.begin)).query(&query);
        let answer = request.header("cookie", &asked.cookie).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn login(&self, lie: &str, sub: &str) -> (u16, Value) {
        self.answer(&self.ask().await, lie, sub).await
    }
}

#[tokio::test]
async fn nothing_that_a_lying_provider_says_is_believed() {
    if !has_node() {
        return;
    }
    let (liar, other) = (Provider::lying().await, Provider::lying().await);
    let open = "sign_up = \"open\"";
    let configuration = section("liar", &liar.url, open)
        + &section("other", &other.url, open)
        + &section("closed", &liar.url, "");
    let everline = Live::start(&configuration).await;
    let browser = Browser::new(&everline, "liar", &liar.url);

    let (status, session) = browser.login("", "ada").await;
    assert_eq!(
        (status, &session["user"]["email"]),
        (200, &json!("ada@example.test")),
        "{session}\n{}",
        everline.log()
    );
    for lie in [
        "issuer",
        "audience",
        "audiences",
        "expired",
        "nonce",
        "no nonce",
        "key",
        "unknown key",
        "own key",
        "none",
        "shared secret",
        "no token",
    ] {
        let (status, body) = browser.login(lie, "ada").await;
        assert_eq!((status, &body["code"]), (401, &json!("provider_token_invalid")), "{lie}: {body}");
        assert!(!body.to_string().contains("eyJ"), "no token is shown: {body}");
    }
    for lie in ["huge", "redirect"] {
        let (status, body) = browser.login(lie, "ada").await;
        assert_eq!((status, &body["code"]), (503, &json!("provider_unavailable")), "{lie}: {body}");
    }
    let (status, body) = browser.login("unverified", "eve").await;
    assert_eq!((status, &body["code"]), (403, &json!("account_not_linked")), "{body}");

    // A new key is fetched when a token names it, after the pause in which keys are not fetched again.
    until("the new key", || async { browser.login("new key", "ada").await.0 == 200 }).await;

    // An e-mail that belongs to a user with a password opens nothing, whoever vouches for it.
    let taken = json!({"email": "boss@example.test", "password": super::PASSWORD, "role": "USER"});
    assert_eq!(everline.client.post("/users", &taken).await.status, StatusCode::CREATED);
    let (status, body) = browser.login("", "boss").await;
    assert_eq!((status, &body["code"]), (403, &json!("account_not_linked")), "{body}");
    // Somebody who was invited comes in, also where sign-up is closed; nobody else does.
    let closed = Browser::new(&everline, "closed", &liar.url);
    assert_eq!(closed.login("", "guest").await.1["code"], "account_not_linked");
    let invited = json!({"email": "guest@example.test", "role": "USER"});
    assert_eq!(everline.client.post("/users", &invited).await.status, StatusCode::CREATED);
    let (status, body) = closed.login("", "guest").await;
    assert_eq!((status, &body["user"]["role"]), (200, &json!("USER")), "{body}");

    // The answer of one provider at the callback of another: a mix-up.
    let mixed = Browser::new(&everline, "other", &liar.url);
    assert_eq!(mixed.login("", "ada").await.1["code"], "login_state_invalid");
    let asked = browser.ask().await;
    let stolen = Asked { cookie: asked.cookie.clone(), ..mixed.ask().await };
    assert_eq!(mixed.answer(&stolen, "", "ada").await.1["code"], "login_state_invalid");
    let unknown = everline.client.get("/auth/oidc/nobody").await;
    assert_eq!(
        (unknown.status, &unknown.body["code"]),
        (StatusCode::NOT_FOUND, &json!("provider_not_found"))
    );
}
