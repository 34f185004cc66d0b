//! The command line as a person uses it: login, sessions that renew themselves, administration.

use futures::future::join_all;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{ADMIN, Live, PASSWORD};
use crate::command_line::{everline, text};
use crate::harness::within;

/// Somebody at a terminal, with a configuration folder of their own.
pub(super) struct Person<'a> {
    live: &'a Live,
    folder: tempfile::TempDir,
}

impl<'a> Person<'a> {
    pub(super) fn at(live: &'a Live) -> Self {
        Self { live, folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = everline(self.folder.path(), arguments);
        command.env("XDG_CONFIG_HOME", self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) async fn types(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        within("the command", child.wait_with_output()).await.unwrap()
    }

    pub(super) async fn says(&self, arguments: &[&str]) -> String {
        let done = self.types(arguments, "").await;
        assert!(done.status.success(), "{arguments:?}: {}{}", text(&done.stderr), self.live.log());
        text(&done.stdout)
    }

    async fn refused(&self, arguments: &[&str]) -> String {
        let done = self.types(arguments, "").await;
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {}", text(&done.stdout));
        text(&done.stderr)
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.says(&[arguments, &["--output", "json"]].concat()).await;
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{arguments:?}: {said}"))
    }

    async fn log_in(&self, email: &str, password: &str) -> Output {
        self.types(&["login", "--server", &self.live.url, "--email", email], &format!("{password}\n")).await
    }

    fn credentials(&self) -> Value {
        let path = self.folder.path().join("everline/credentials.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

#[tokio::test]
async fn a_session_is_kept_renews_itself_and_ends() {
    // Every command finds its token about to expire.
    let live = Live::start("[gateway]\naccess_token_ms = 2000\n").await;
    let person = Person::at(&live);
    assert!(person.refused(&["whoami", "--server", &live.url]).await.contains("everline login"));
    let wrong = person.log_in(ADMIN, "a wrong password").await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("invalid_credentials"), "{}", text(&wrong.stderr));
    let done = person.log_in(ADMIN, PASSWORD).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let printed = text(&done.stdout) + &text(&done.stderr);
    assert!(!printed.contains("evr_") && !printed.contains("eyJ"), "no secret is printed");

    let token = person.credentials()["servers"][&live.url]["refresh_token"].clone();
    // No server is named: it is that of the last login. All renew the session, and none with a used token.
    let commands = (0..6).map(|_| person.json(&["whoami"]));
    for me in join_all(commands).await {
        assert_eq!((&me["email"], &me["server"]), (&json!(ADMIN), &json!(live.url)));
    }
    assert_ne!(person.credentials()["servers"][&live.url]["refresh_token"], token);
    let yaml = person.says(&["whoami", "--output", "yaml"]).await;
    assert!(yaml.starts_with("---\n") && yaml.contains(&format!("email: {ADMIN}\n")), "{yaml}");
    // A key goes before the session, and may stand before the command.
    let key = live.client.key.as_str();
    assert!(
        person.says(&["--api-key", key, "--server", &live.url, "workflow", "list"]).await.starts_with("ID")
    );
    assert!(person.refused(&["--api-key", "evl_wrong", "whoami"]).await.contains("unauthenticated"));

    person.says(&["logout"]).await;
    assert_eq!(person.credentials()["servers"], json!({}));
    assert!(person.refused(&["whoami", "--server", &live.url]).await.contains("everline login"));
}

#[tokio::test]
async fn a_session_that_was_ended_elsewhere_says_to_log_in_again() {
    let live = Live::start("[gateway]\naccess_token_ms = 2000\n").await;
    let person = Person::at(&live);
    assert!(person.log_in(ADMIN, PASSWORD).await.status.success());
    let stolen = person.credentials()["servers"][&live.url]["refresh_token"].clone();
    let refresh = json!({"refresh_token": stolen});
    assert!(live.client.post("/auth/refresh", &refresh).await.status.is_success());
    // The one who comes second ends the session, whoever is the thief.
    let said = person.refused(&["whoami"]).await;
    assert!(said.contains("is over") && said.contains("everline login --server"), "{said}");
}

#[tokio::test]
async fn an_administrator_manages_users_roles_keys_tenants_and_reads_the_audit() {
    let live = Live::start("").await;
    let admin = Person::at(&live);
    assert!(admin.log_in(ADMIN, PASSWORD).await.status.success());

    let role = admin.folder().join("runner.json");
    let grants = json!([{"permission": "workflow:read", "reach": "any"}, {"permission": "workflow:execute", "reach": "any"}]);
    std::fs::write(&role, json!({"name": "runner", "grants": grants}).to_string()).unwrap();
    admin.says(&["role", "define", role.to_str().unwrap()]).await;
    assert!(admin.says(&["role", "show", "runner"]).await.contains("workflow:execute"));
    assert!(admin.says(&["role", "list"]).await.contains("VIEWER"));

    let create = ["user", "create", "ada@example.test", "--role", "runner", "--password"];
    let made = admin.types(&create, "another long password\n").await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let ada = admin.json(&["user", "show", "ada@example.test"]).await;
    assert_eq!((&ada["role"], &ada["status"]), (&json!("runner"), &json!("active")));
    let colleague = Person::at(&live);
    assert!(colleague.log_in("ada@example.test", "another long password").await.status.success());
    assert!(colleague.refused(&["user", "list"]).await.contains("forbidden"));
    admin.says(&["user", "role", "ada@example.test", "USER"]).await;
    assert_eq!(admin.json(&["user", "show", "ada@example.test"]).await["role"], "USER");
    admin.says(&["user", "disable", "ada@example.test"]).await;
    colleague.refused(&["whoami"]).await;
    admin.says(&["user", "enable", "ada@example.test"]).await;
    let reset = admin.json(&["user", "reset-password", "ada@example.test"]).await;
    assert!(reset["token"].as_str().is_some_and(|token| token.len() > 20), "{reset}");
    let invited = admin.says(&["user", "create", "new@example.test"]).await;
    assert!(invited.contains("  token  "), "{invited}");
    admin.says(&["user", "delete", "new@example.test"]).await;

    let key = admin.says(&["key", "create", "ci", "--scope", "workflow:*"]).await;
    assert!(key.starts_with("evl_"), "{key}");
    let key = key.trim();
    assert!(admin.says(&["--api-key", key, "workflow", "list"]).await.starts_with("ID"));
    assert!(admin.refused(&["--api-key", key, "user", "list"]).await.contains("forbidden"));
    let keys = admin.says(&["key", "list", "--output", "yaml"]).await;
    let id = keys.lines().find_map(|line| line.trim_start_matches("- ").trim().strip_prefix("id: ")).unwrap();
    admin.says(&["key", "revoke", id.trim_matches('"')]).await;
    admin.refused(&["--api-key", key, "workflow", "list"]).await;

    let tenant = ["tenant", "create", "acme", "--admin", "boss@acme.test", "--display-name", "Acme"];
    let made = admin.types(&tenant, "the password of the boss\n").await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let boss = Person::at(&live);
    assert!(boss.log_in("boss@acme.test", "the password of the boss").await.status.success());
    assert_eq!(boss.json(&["whoami"]).await["tenant"], "acme");
    assert!(boss.refused(&["tenant", "list"]).await.contains("forbidden"));
    admin.says(&["tenant", "suspend", "acme", "--reason", "unpaid"]).await;
    boss.refused(&["whoami"]).await;
    admin.says(&["tenant", "resume", "acme"]).await;
    assert_eq!(admin.json(&["tenant", "show", "acme"]).await["suspended"], false);
}

#[tokio::test]
async fn completion_scripts_know_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let done = everline(folder.path(), &["completion", shell]).output().await.unwrap();
        assert!(done.status.success() && text(&done.stdout).contains("whoami"), "{shell}");
    }
    let done =
        everline(folder.path(), &["--server", "http://127.0.0.1:1", "completion", "bash"]).output().await;
    assert_eq!(done.unwrap().status.code(), Some(2), "what has no effect is refused");
}
