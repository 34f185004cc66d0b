//! Tenants, users, roles and API keys: what each command leads to, and what is refused.

use domain::access::{Grant, Permission, Reach, Role};
use domain::aggregate::{AggregateState, claim_taken};
use domain::command::Command;
use domain::decision::{ClaimChange, ClaimOp, ClaimScope};
use domain::event::UserEvent;
use domain::identity::api_key::command::ApiKeyCommand;
use domain::identity::bootstrap_admin_id;
use domain::identity::role::MAX_ROLES;
use domain::identity::role::command::RoleCommand;
use domain::identity::tenant::command::TenantCommand;
use domain::identity::tenant::event::TenantSettings;
use domain::identity::user::command::UserCommand;
use domain::identity::user::event::{self as user, PasswordChange};
use domain::identity::user::{EMAIL_CLAIM, UserState, UserStatus, evolve};
use domain::rejection::RejectionKind;
use serde_json::json;
use std::collections::BTreeMap;

use crate::given::{Given, given, now, pairs, right};
use crate::scenario::id;

fn tenant(command: TenantCommand) -> Command {
    Command::Tenant(command)
}

fn create_tenant() -> Command {
    tenant(TenantCommand::Create { name: "Acme".to_owned(), settings: TenantSettings::default() })
}

fn create_user() -> UserCommand {
    UserCommand::Create {
        email: "ada@example.com".to_owned(),
        name: Some("Ada".to_owned()),
        role: "user".to_owned(),
        invited: false,
        operator: false,
    }
}

fn a_user() -> Given {
    let mut user = given([]);
    user.when(Command::User(create_user())).expect("a user");
    user
}

fn role(name: &str, grants: Vec<Grant>) -> Role {
    Role { name: name.to_owned(), description: None, grants }
}

fn grant(permission: Permission, condition: Option<&str>) -> Grant {
    Grant { permission, reach: Reach::Any, condition: condition.map(str::to_owned) }
}

fn define(role: Role, new: bool) -> Command {
    Command::Role(RoleCommand::Define { role, new })
}

fn key(scopes: &[&str]) -> ApiKeyCommand {
    ApiKeyCommand::Create {
        name: "ci".to_owned(),
        owner: id(7),
        fingerprint: "0123456789abcdef".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        expires_at: None,
    }
}

#[test]
fn a_tenant_is_made_once_and_its_answer_shows_it() {
    let mut acme = given([]).of("acme");
    let outcome = acme.when(create_tenant()).expect("accepted");
    assert_eq!(outcome.answer["id"], "acme");
    assert_eq!((&outcome.answer["name"], &outcome.answer["etag"]), (&json!("Acme"), &json!(1)));
    assert_eq!(acme.refused(create_tenant()), "tenant_exists");
}

#[test]
fn everlines_own_slug_is_nobodys_and_all_problems_come_at_once() {
    let settings = TenantSettings { requests_per_minute: Some(0) };
    let command = tenant(TenantCommand::Create { name: "\u{7}".to_owned(), settings });
    let expected = [
        ("/name", "invalid_name"),
        ("/display_name", "invalid_name"),
        ("/settings/requests_per_minute", "out_of_range"),
    ];
    assert_eq!(given([]).of("system").problems(command), pairs(&expected));
}

#[test]
fn a_tenant_is_suspended_and_resumed_and_repeating_either_changes_nothing() {
    let mut acme = given([]).of("acme");
    acme.when(create_tenant()).expect("accepted");
    let suspend = || tenant(TenantCommand::Suspend { reason: Some("unpaid".to_owned()) });
    assert_eq!(acme.types(suspend()), ["tenant.suspended"]);
    assert!(acme.types(suspend()).is_empty());
    let outcome = acme.when(tenant(TenantCommand::Resume)).expect("accepted");
    assert_eq!(outcome.answer["suspended"], false);
    assert!(acme.types(tenant(TenantCommand::Resume)).is_empty());
    let mut nobody = given([]).of("nobody");
    assert_eq!(nobody.refused(suspend()), "tenant_not_found");
}

#[test]
fn the_tenant_of_the_operators_cannot_be_suspended() {
    let mut default = given([]);
    default.when(create_tenant()).expect("accepted");
    assert_eq!(default.refused(tenant(TenantCommand::Suspend { reason: None })), "tenant_of_operators");
}

#[test]
fn a_tenant_may_change_its_name_but_not_its_own_limits() {
    let mut acme = given([]).of("acme");
    acme.when(create_tenant()).expect("accepted");
    let limit = TenantSettings { requests_per_minute: Some(60) };
    let update = |name: &str, settings| {
        tenant(TenantCommand::Update { name: Some(name.to_owned()), settings: Some(settings) })
    };
    let mut acme = acme.with_authority(right(id(7), Permission::TenantUpdate, Reach::Any));
    assert_eq!(acme.refused(update("Acme", limit.clone())), "forbidden");
    assert_eq!(acme.types(update("Acme Ltd", TenantSettings::default())), ["tenant.updated"]);
    let mut acme = acme.with_authority(right(id(8), Permission::TenantManage, Reach::Any));
    assert_eq!(acme.types(update("Acme Ltd", limit.clone())), ["tenant.updated"]);
    assert!(acme.types(update("Acme Ltd", limit)).is_empty(), "as it is already");
}

#[test]
fn a_user_takes_the_email_in_the_whole_installation_and_gives_it_back() {
    let mut user = given([]);
    let outcome = user.when(Command::User(create_user())).expect("accepted");
    let claim = |op| ClaimChange {
        kind: EMAIL_CLAIM,
        key: "ada@example.com".to_owned(),
        op,
        scope: ClaimScope::Installation,
    };
    assert_eq!(outcome.claims, [claim(ClaimOp::Take)]);
    assert_eq!((&outcome.answer["role"], &outcome.answer["status"]), (&json!("USER"), &json!("active")));
    assert_eq!(user.refused(Command::User(create_user())), "user_exists");
    let outcome = user.when(Command::User(UserCommand::Delete)).expect("accepted");
    assert_eq!(outcome.claims, [claim(ClaimOp::Release)]);
    assert_eq!(user.refused(Command::User(UserCommand::Enable)), "user_not_found");
    assert_eq!(user.refused(Command::User(create_user())), "user_exists", "a stream has one life");
    assert_eq!(claim_taken(&claim(ClaimOp::Take), id(3)).code, "email_taken");
    let name = ClaimChange { kind: "workflow_name", ..claim(ClaimOp::Take) };
    assert_eq!(claim_taken(&name, id(3)).code, "workflow_name_taken");
}

#[test]
fn all_problems_of_a_new_user_come_at_once() {
    let create = |email: &str, name: &str, role: &str| {
        Command::User(UserCommand::Create {
            email: email.to_owned(),
            name: Some(name.to_owned()),
            role: role.to_owned(),
            invited: true,
            operator: false,
        })
    };
    let expected = [("/email", "invalid_email"), ("/name", "invalid_name"), ("/role", "invalid_name")];
    for email in
        ["", "ada", "@b", "Ada@example.com", " a@b", "a\u{0}@b", "\"a\"@b", "a@b\\", &"a".repeat(260)]
    {
        assert_eq!(given([]).problems(create(email, &"n".repeat(101), "9")), pairs(&expected), "{email:?}");
    }
    let longest = format!("{}@b", "a".repeat(252));
    let role = "r".repeat(40);
    assert_eq!(given([]).types(create(&longest, &"😀".repeat(100), &role)), ["user.created"]);
}

#[test]
fn only_the_first_administrator_is_made_an_operator() {
    let create = UserCommand::Create {
        email: "root@example.com".to_owned(),
        name: None,
        role: "ADMIN".to_owned(),
        invited: false,
        operator: true,
    };
    let refused = given([]).when(Command::User(create.clone())).expect_err("refused");
    assert_eq!(refused.kind, RejectionKind::Forbidden);
    let mut first = given([]);
    first.stream = bootstrap_admin_id();
    assert_eq!(first.when(Command::User(create)).expect("accepted").answer["operator"], true);
}

#[test]
fn what_a_user_is_already_leads_to_no_event() {
    let mut user = a_user();
    let same = [
        UserCommand::Rename { name: Some("Ada".to_owned()) },
        UserCommand::ChangeRole { role: "User".to_owned() },
        UserCommand::Activate,
        UserCommand::Enable,
        UserCommand::DisableTotp,
    ];
    for command in same {
        let outcome = user.when(Command::User(command)).expect("accepted");
        assert!(outcome.events.is_empty());
        assert_eq!(outcome.answer["version"], 1, "it is answered all the same");
    }
    let link = || {
        let (provider, fingerprint) = ("corporate".to_owned(), "a".repeat(64));
        Command::User(UserCommand::LinkIdentity { provider, fingerprint })
    };
    let twice = [
        Command::User(UserCommand::VerifyEmail),
        Command::User(UserCommand::EnableTotp),
        Command::User(UserCommand::Disable),
        link(),
    ];
    for command in twice {
        assert_eq!(user.types(command.clone()).len(), 1, "{}", command.name());
        assert!(user.types(command).is_empty());
    }
    assert_eq!(user.refused(Command::User(UserCommand::Activate)), "user_disabled");
    let changed = UserCommand::ChangePassword { how: PasswordChange::Reset };
    assert_eq!(user.types(Command::User(changed.clone())), ["user.password_changed"]);
    assert_eq!(user.types(Command::User(changed)), ["user.password_changed"], "each is another");
}

#[test]
fn a_user_has_at_most_ten_identities_of_providers() {
    let mut user = a_user();
    let link = |number: u32| {
        let fingerprint = format!("{number:064x}");
        Command::User(UserCommand::LinkIdentity { provider: "corporate".to_owned(), fingerprint })
    };
    for number in 0..10 {
        assert_eq!(user.types(link(number)), ["user.identity_linked"]);
    }
    assert_eq!(user.refused(link(10)), "too_many_identities");
    assert!(user.types(link(9)).is_empty());
    let bad = UserCommand::LinkIdentity { provider: String::new(), fingerprint: "x".to_owned() };
    let expected = [("/provider", "invalid_name"), ("/fingerprint", "invalid_value")];
    assert_eq!(user.problems(Command::User(bad)), pairs(&expected));
}

/// The table at the top of `user/state.rs`, walked arrow by arrow.
#[test]
fn every_arrow_of_the_table_of_users_is_what_folding_does() {
    let table: Vec<Vec<String>> = include_str!("../../src/identity/user/state.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! |"))
        .map(|line| line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    let header = &table[0];
    let statuses: BTreeMap<&str, UserStatus> = [
        UserStatus::None,
        UserStatus::Invited,
        UserStatus::Active,
        UserStatus::Disabled,
        UserStatus::Deleted,
    ]
    .map(|status| (status.as_str(), status))
    .into();
    let commands = |column: &str| -> Vec<UserCommand> {
        match column {
            "created" => vec![create_user()],
            "activated" => vec![UserCommand::Activate],
            "disabled" => vec![UserCommand::Disable],
            "enabled" => vec![UserCommand::Enable],
            "deleted" => vec![UserCommand::Delete],
            "others" => vec![
                UserCommand::Rename { name: None },
                UserCommand::ChangeRole { role: "VIEWER".to_owned() },
                UserCommand::VerifyEmail,
                UserCommand::ChangePassword { how: PasswordChange::Changed },
                UserCommand::EnableTotp,
                UserCommand::LinkIdentity { provider: "p".to_owned(), fingerprint: "a".repeat(64) },
            ],
            other => panic!("the table has a column `{other}`"),
        }
    };
    let mut walked = 0;
    for row in &table[2..] {
        let from = statuses[row[0].as_str()];
        for (column, cell) in header.iter().zip(row).skip(1) {
            let expected: Vec<_> =
                cell.split(" or ").filter(|name| *name != "–").map(|name| statuses[name]).collect();
            for command in commands(column) {
                let mut user = user_that_is(from);
                let answer = user.when(Command::User(command.clone()));
                let has_event = answer.as_ref().is_ok_and(|outcome| !outcome.events.is_empty());
                assert_eq!(has_event, !expected.is_empty(), "{from:?} {column}: {answer:?}");
                if has_event {
                    assert!(expected.contains(&status_of(&user)), "{from:?} {column} {:?}", status_of(&user));
                }
                walked += 1;
            }
        }
    }
    assert_eq!(walked, 5 * (5 + 6));
    let invited = UserEvent::Created(user::UserCreated {
        email: String::new(),
        name: None,
        role: String::new(),
        invited: true,
        operator: false,
    });
    assert_eq!(evolve(UserState::default(), &invited).status, UserStatus::Invited);
}

fn user_that_is(status: UserStatus) -> Given {
    if status == UserStatus::None {
        return given([]);
    }
    let UserCommand::Create { email, name, role, operator, .. } = create_user() else { unreachable!() };
    let mut user = given([]);
    let invited = status == UserStatus::Invited;
    user.when(Command::User(UserCommand::Create { email, name, role, invited, operator })).expect("a user");
    match status {
        UserStatus::Disabled => drop(user.when(Command::User(UserCommand::Disable)).expect("accepted")),
        UserStatus::Deleted => drop(user.when(Command::User(UserCommand::Delete)).expect("accepted")),
        UserStatus::None | UserStatus::Invited | UserStatus::Active => {}
    }
    user
}

fn status_of(user: &Given) -> UserStatus {
    let AggregateState::User(state) = &user.aggregate.state else { panic!("a user") };
    state.status
}

#[test]
fn a_role_is_defined_changed_and_deleted() {
    let mut roles = given([]);
    let first = || role("on-call", vec![grant(Permission::ExecutionCancel, None)]);
    assert_eq!(roles.types(define(first(), true)), ["role.defined"]);
    assert_eq!(roles.refused(define(first(), true)), "role_exists");
    assert!(roles.types(define(first(), false)).is_empty(), "as it is already");
    let second =
        role("on-call", vec![grant(Permission::ExecutionCancel, Some("resource.name != 'payroll'"))]);
    assert_eq!(roles.types(define(second, false)), ["role.defined"]);
    let delete = |name: &str| Command::Role(RoleCommand::Delete { name: name.to_owned() });
    let outcome = roles.when(delete("on-call")).expect("accepted");
    assert_eq!((&outcome.answer["deleted"], &outcome.answer["version"]), (&json!(true), &json!(3)));
    assert_eq!(roles.refused(delete("on-call")), "role_not_found");
}

#[test]
fn built_in_roles_stay_as_they_are_in_whatever_case() {
    for name in ["ADMIN", "admin", "User", "VIEWER"] {
        assert_eq!(given([]).refused(define(role(name, Vec::new()), false)), "role_builtin");
        let delete = Command::Role(RoleCommand::Delete { name: name.to_owned() });
        assert_eq!(given([]).refused(delete), "role_builtin");
    }
}

#[test]
fn all_problems_of_a_role_come_at_once() {
    let grants = vec![
        grant(Permission::TenantManage, None),
        grant(Permission::WorkflowRead, Some("resource.name ==")),
        grant(Permission::WorkflowRead, Some("input.secret == 1")),
        grant(Permission::WorkflowRead, Some(&"x".repeat(1_001))),
        grant(Permission::WorkflowDelete, None),
        grant(Permission::WorkflowDelete, None),
    ];
    let bad = Role { description: Some(String::new()), ..role("1st", grants) };
    let expected = [
        ("/name", "invalid_name"),
        ("/description", "out_of_range"),
        ("/grants/0/permission", "invalid_value"),
        ("/grants/1/condition", "expression_syntax"),
        ("/grants/2/condition", "unknown_name"),
        ("/grants/3/condition", "out_of_range"),
        ("/grants/5", "duplicate_entry"),
    ];
    assert_eq!(given([]).problems(define(bad, true)), pairs(&expected));
    let many: Vec<_> =
        (0..65).map(|number| grant(Permission::EventRead, Some(&format!("{number} == 1")))).collect();
    assert_eq!(given([]).problems(define(role("many", many), true)), pairs(&[("/grants", "too_many")]));
}

#[test]
fn a_tenant_has_at_most_a_hundred_roles_of_its_own() {
    let mut roles = given([]);
    for number in 0..MAX_ROLES {
        roles.when(define(role(&format!("r{number}"), Vec::new()), true)).expect("accepted");
    }
    assert_eq!(roles.refused(define(role("one-more", Vec::new()), true)), "too_many_roles");
    let changed = role("r5", vec![grant(Permission::EventRead, None)]);
    assert_eq!(roles.types(define(changed, false)), ["role.defined"], "those that are there may change");
}

#[test]
fn a_key_is_made_once_and_revoked_once() {
    let mut made = given([]);
    let outcome = made.when(Command::ApiKey(key(&["workflow:*", "execution:read"]))).expect("accepted");
    assert_eq!(outcome.answer["owner"], json!(id(7)));
    assert_eq!(made.refused(Command::ApiKey(key(&["*"]))), "api_key_exists");
    assert_eq!(made.types(Command::ApiKey(ApiKeyCommand::Revoke)), ["api_key.revoked"]);
    assert!(made.types(Command::ApiKey(ApiKeyCommand::Revoke)).is_empty());
    assert_eq!(given([]).refused(Command::ApiKey(ApiKeyCommand::Revoke)), "api_key_not_found");
}

#[test]
fn all_problems_of_a_key_come_at_once() {
    let mut bad = key(&["*", "workflow:fly", "fly:*", "workflow:", "*"]);
    let ApiKeyCommand::Create { name, fingerprint, expires_at, .. } = &mut bad else { unreachable!() };
    name.clear();
    "short".clone_into(fingerprint);
    *expires_at = Some(now());
    let expected = [
        ("/name", "invalid_name"),
        ("/fingerprint", "invalid_value"),
        ("/scopes/1", "invalid_value"),
        ("/scopes/2", "invalid_value"),
        ("/scopes/3", "invalid_value"),
        ("/scopes/4", "duplicate_entry"),
        ("/expires_at", "out_of_range"),
    ];
    assert_eq!(given([]).problems(Command::ApiKey(bad)), pairs(&expected));
    assert_eq!(given([]).problems(Command::ApiKey(key(&[]))), pairs(&[("/scopes", "missing_field")]));
    let many = vec!["*"; 65];
    assert!(
        given([])
            .problems(Command::ApiKey(key(&many)))
            .contains(&("/scopes".to_owned(), "too_many".to_owned()))
    );
}
