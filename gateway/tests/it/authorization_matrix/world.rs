//! Two tenants with users of every kind, and things of theirs, as many as are used up.

use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::TenantId;
use domain::node_type::NodeType;
use domain::time::Timestamp;
use gateway::GatewayConfig;
use read_models::DeadLetter;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

use super::cells::{Cell, Mark, Who, Whose};
use crate::harness::{Harness, text, waiting};

const PASSWORD: &str = "correct horse battery";

/// A user with a session.
pub(super) struct Person {
    pub(super) id: String,
    pub(super) token: String,
}

/// A workflow, an execution of it, and a dead letter of that.
#[derive(Debug, Clone)]
pub(super) struct Things {
    pub(super) workflow: String,
    pub(super) execution: String,
    pub(super) letter: String,
}

pub(super) struct World {
    pub(super) harness: Harness,
    pub(super) admin: Person,
    pub(super) user: Person,
    viewer: Person,
    custom: Person,
    other: Person,
    foreign: Person,
    key: String,
    /// Keys that nobody uses, by whose they are.
    keys: HashMap<&'static str, String>,
    /// Things of those who may make none any more.
    kept: HashMap<&'static str, Things>,
}

impl World {
    pub(super) async fn new() -> Self {
        let harness = Harness::projected(GatewayConfig::default()).await;
        let root = harness.key.clone();
        harness.settled().await;
        let role = json!({"name": "reader", "grants": [
            {"permission": "workflow:read"}, {"permission": "execution:read"}
        ]});
        expect(harness.post("/api/v1/roles", &role).await, StatusCode::CREATED).await;
        let admin = person(&harness, &root, "admin2@example.test", "ADMIN").await;
        let user = person(&harness, &root, "user@example.test", "USER").await;
        let other = person(&harness, &root, "other@example.test", "USER").await;
        let viewer = person(&harness, &root, "viewer@example.test", "USER").await;
        let custom = person(&harness, &root, "custom@example.test", "USER").await;
        let tenant = json!({"name": "foreign", "admin": {"email": "foreign@example.test", "password": PASSWORD}});
        let made = expect(harness.post("/api/v1/tenants", &tenant).await, StatusCode::CREATED).await;
        let foreign_token = login(&harness, "foreign@example.test").await;
        let foreign = Person { id: text(&made["admin"], "id"), token: foreign_token };
        let scoped = json!({"name": "narrow", "scopes": ["workflow:read"]});
        let key = text(&make(&harness, &user.token, "/api/v1/api-keys", &scoped).await, "key");
        let mut world = Self {
            harness,
            admin,
            user,
            viewer,
            custom,
            other,
            foreign,
            key,
            keys: HashMap::new(),
            kept: HashMap::new(),
        };
        world.keep().await;
        for (person, role) in [(&world.viewer, "VIEWER"), (&world.custom, "reader")] {
            let change = world.as_one(&root, Method::PUT, &format!("/api/v1/users/{}", person.id));
            let change = change.header("if-match", "*").json(&json!({"role": role}));
            expect(change.send().await.expect("an answer"), StatusCode::OK).await;
        }
        let variable = json!({"name": "known", "value": 1});
        expect(world.harness.post("/api/v1/variables", &variable).await, StatusCode::CREATED).await;
        world
    }

    /// Makes what those who become something else own.
    async fn keep(&mut self) {
        let people = [
            ("viewer", &self.viewer),
            ("custom", &self.custom),
            ("user", &self.user),
            ("other", &self.other),
            ("foreign", &self.foreign),
        ];
        let key = json!({"name": "unused"});
        let mut keys = HashMap::new();
        let mut kept = HashMap::new();
        for (name, person) in people {
            keys.insert(name, text(&make(&self.harness, &person.token, "/api/v1/api-keys", &key).await, "id"));
            kept.insert(name, self.make_things(&person.token, None).await);
        }
        let read = [&self.viewer, &self.custom, &self.user].map(|person| person.id.clone());
        for (name, access) in [("shared-to-read", "read"), ("shared-to-execute", "execute")] {
            let share = json!({"users": read, "access": access});
            kept.insert(name, self.make_things(&self.other.token, Some(&share)).await);
        }
        self.keys = keys;
        self.kept = kept;
    }

    /// A workflow of somebody with an execution, perhaps shared.
    async fn make_things(&self, token: &str, share: Option<&Value>) -> Things {
        let definition = waiting(&format!("w-{}", Uuid::now_v7()));
        let made = make(&self.harness, token, "/api/v1/workflows", &definition).await;
        let workflow = text(&made, "id");
        let path = format!("/api/v1/workflows/{workflow}");
        let started = self.as_one(token, Method::POST, &format!("{path}/execute")).json(&json!({}));
        let started = expect(started.send().await.expect("an answer"), StatusCode::ACCEPTED).await;
        if let Some(share) = share {
            let shared = self.as_one(token, Method::POST, &format!("{path}/share")).json(share);
            expect(shared.send().await.expect("an answer"), StatusCode::OK).await;
        }
        let execution = text(&started, "execution_id");
        let tenant = if token == self.foreign.token { "foreign" } else { "default" };
        let letter = self.make_letter(tenant, &workflow, &execution).await;
        Things { workflow, execution, letter }
    }

    /// A dead letter as a projection would have written it.
    async fn make_letter(&self, tenant: &str, workflow: &str, execution: &str) -> String {
        let tenant = TenantId::try_from(tenant.to_owned()).expect("a slug");
        let execution: Uuid = execution.parse().expect("an id");
        let id = domain::ids::new_id(
            Timestamp::from_unix_ms(1_700_000_000_000),
            domain::ids::Slot::of(execution),
            execution.as_u128() as u64 ^ 0x5555,
        );
        let letter = DeadLetter {
            id,
            execution_id: execution,
            workflow_id: workflow.parse().expect("an id"),
            workflow_name: "w".to_owned(),
            node_id: "pause".to_owned(),
            run: 1,
            attempt: 1,
            node_type: NodeType::Delay,
            error: NodeError {
                kind: ErrorKind::Timeout,
                message: "late".to_owned(),
                retryable: false,
                details: Value::Null,
            },
            dead_lettered_at: Timestamp::from_unix_ms(1),
            redriven_at: None,
        };
        let mut tx = self.harness.models.begin().await.expect("a transaction");
        tx.put_dead_letter(&tenant, &letter).await.expect("written");
        tx.commit().await.expect("a commit");
        id.to_string()
    }

    pub(super) fn as_one(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.harness.bare(method, path).bearer_auth(token)
    }

    pub(super) fn viewer_token(&self) -> &str {
        &self.viewer.token
    }

    fn token(&self, who: Who) -> Option<&str> {
        Some(match who {
            Who::Admin => &self.admin.token,
            Who::User => &self.user.token,
            Who::Viewer => &self.viewer.token,
            Who::Custom => &self.custom.token,
            Who::Key => &self.key,
            Who::Anonymous => return None,
        })
    }

    /// The things that a cell is about: new ones where the request uses them up.
    pub(super) async fn things(&self, who: Who, whose: Whose, used_up: bool) -> Things {
        let share = |access: &str| {
            let people = [&self.admin, &self.user, &self.viewer, &self.custom].map(|person| person.id.clone());
            json!({"users": people, "access": access})
        };
        if used_up {
            return match whose {
                Whose::Own if who == Who::Admin => self.make_things(&self.admin.token, None).await,
                Whose::Own => self.make_things(&self.user.token, None).await,
                Whose::Other => self.make_things(&self.other.token, None).await,
                Whose::SharedToRead => self.make_things(&self.other.token, Some(&share("read"))).await,
                Whose::SharedToExecute => self.make_things(&self.other.token, Some(&share("execute"))).await,
                Whose::Foreign => self.kept["foreign"].clone(),
            };
        }
        let name = match (whose, who) {
            (Whose::Own, Who::Viewer) => "viewer",
            (Whose::Own, Who::Custom) => "custom",
            (Whose::Own, _) => "user",
            (Whose::Other, _) => "other",
            (Whose::SharedToRead, _) => "shared-to-read",
            (Whose::SharedToExecute, _) => "shared-to-execute",
            (Whose::Foreign, _) => "foreign",
        };
        self.kept[name].clone()
    }

    async fn path(&self, cell: &Cell) -> String {
        let used_up = cell.method != "GET" && cell.mark == Mark::Admitted;
        if let Some(rest) = cell.route.strip_prefix("/api/v1/users/{id}") {
            let id = match (cell.whose, used_up) {
                (Whose::Foreign, _) => self.foreign.id.clone(),
                (_, true) => self.fresh_user().await,
                (_, false) => self.other.id.clone(),
            };
            return format!("/api/v1/users/{id}{rest}");
        }
        if cell.route == "/api/v1/api-keys/{id}" {
            let id = match (cell.whose, cell.who) {
                (Whose::Foreign, _) => self.keys["foreign"].clone(),
                (Whose::Own, who) if used_up => {
                    let token = self.token(who).expect("a caller");
                    text(&make(&self.harness, token, "/api/v1/api-keys", &json!({"name": "k"})).await, "id")
                }
                (Whose::Own, Who::Viewer) => self.keys["viewer"].clone(),
                (Whose::Own, Who::Custom) => self.keys["custom"].clone(),
                (Whose::Own, _) => self.keys["user"].clone(),
                (_, _) if used_up => {
                    let token = &self.other.token;
                    text(&make(&self.harness, token, "/api/v1/api-keys", &json!({"name": "k"})).await, "id")
                }
                (_, _) => self.keys["other"].clone(),
            };
            return format!("/api/v1/api-keys/{id}");
        }
        if cell.route.starts_with("/api/v1/roles/{name}") && used_up {
            let name = format!("r{}", Uuid::now_v7().simple());
            let role = json!({"name": name, "grants": []});
            expect(self.harness.post("/api/v1/roles", &role).await, StatusCode::CREATED).await;
            return format!("/api/v1/roles/{name}");
        }
        let needs_thing = ["workflows/{id}", "executions/{id}", "dead-letters/{id}"];
        let route = cell.route.replace("{slug}", "foreign").replace("{v}", "1");
        let route = match cell.route.contains("/roles/") {
            true => route.replace("{name}", "reader"),
            false => route.replace("{name}", "known"),
        };
        if !needs_thing.iter().any(|part| cell.route.contains(part)) {
            if cell.route.starts_with("/api/v1/variables/") && used_up {
                self.harness.post("/api/v1/variables", &json!({"name": "known", "value": 1})).await;
            }
            return route;
        }
        let things = self.things(cell.who, cell.whose, used_up).await;
        let id = match cell.route {
            route if route.contains("/workflows/") => &things.workflow,
            route if route.contains("/dead-letters/") => &things.letter,
            _ => &things.execution,
        };
        // The other side of a comparison is one that the caller may see: so each side is judged.
        let visible = self.things(cell.who, Whose::SharedToRead, false).await;
        route.replace("{id}", id).replace("{other}", &visible.execution)
    }

    async fn fresh_user(&self) -> String {
        let email = format!("{}@example.test", Uuid::now_v7().simple());
        let made = self.harness.post("/api/v1/users", &json!({"email": email, "role": "USER"})).await;
        text(&expect(made, StatusCode::CREATED).await, "id")
    }

    /// Sends a cell's request; the answer's status.
    pub(super) async fn ask(&self, cell: &Cell) -> StatusCode {
        let path = self.path(cell).await;
        let method = Method::from_bytes(cell.method.as_bytes()).expect("a method");
        let mut request = self.harness.bare(method, &path);
        if let Some(token) = self.token(cell.who) {
            request = request.bearer_auth(token);
        }
        if cell.method == "PUT" {
            request = request.header("if-match", "*");
        }
        if ["PUT", "POST"].contains(&cell.method) {
            request = request.json(&body(cell.route, &path));
        }
        request.send().await.expect("an answer").status()
    }
}

/// A body that the route takes.
fn body(route: &str, path: &str) -> Value {
    let fresh = Uuid::now_v7().simple().to_string();
    match route {
        "/api/v1/users" => json!({"email": format!("{fresh}@example.test"), "role": "VIEWER"}),
        "/api/v1/users/{id}" => json!({"name": "Ada"}),
        "/api/v1/roles" => json!({"name": format!("r{fresh}"), "grants": []}),
        "/api/v1/roles/{name}" if path.ends_with("/reader") => {
            json!({"grants": [{"permission": "workflow:read"}, {"permission": "execution:read"}]})
        }
        "/api/v1/roles/{name}" => json!({"grants": []}),
        "/api/v1/api-keys" => json!({"name": "k"}),
        "/api/v1/tenant" | "/api/v1/tenants/{slug}" => json!({"display_name": "Other"}),
        "/api/v1/tenants" => {
            let admin = json!({"email": format!("{fresh}@example.test"), "password": PASSWORD});
            json!({"name": fresh, "admin": admin})
        }
        "/api/v1/workflows" | "/api/v1/workflows/validate" | "/api/v1/workflows/{id}" => {
            waiting(&format!("w-{fresh}"))
        }
        "/api/v1/workflows/{id}/share" => json!({"visibility": "private"}),
        "/api/v1/executions/{id}/fork" => json!({"at_version": 1}),
        "/api/v1/dead-letters/redrive" => json!({"filter": {"node_id": "nobody"}}),
        "/api/v1/filters/evaluate" => json!({"filter": "true", "event": {}}),
        "/api/v1/expressions/evaluate" => json!({"expression": "1"}),
        "/api/v1/variables" => json!({"name": "known", "value": 1}),
        "/api/v1/variables/{name}" => json!({"value": 1}),
        _ => json!({}),
    }
}

async fn person(harness: &Harness, token: &str, email: &str, role: &str) -> Person {
    let body = json!({"email": email, "password": PASSWORD, "role": role});
    let made = make(harness, token, "/api/v1/users", &body).await;
    Person { id: text(&made, "id"), token: login(harness, email).await }
}

async fn login(harness: &Harness, email: &str) -> String {
    let body = json!({"email": email, "password": PASSWORD});
    let answer = harness.bare(Method::POST, "/api/v1/auth/login").json(&body).send().await.expect("an answer");
    text(&expect(answer, StatusCode::OK).await, "access_token")
}

async fn make(harness: &Harness, token: &str, path: &str, body: &Value) -> Value {
    let request = harness.bare(Method::POST, path).bearer_auth(token).json(body);
    expect(request.send().await.expect("an answer"), StatusCode::CREATED).await
}

async fn expect(answer: Response, status: StatusCode) -> Value {
    let (found, path) = (answer.status(), answer.url().path().to_owned());
    let text = answer.text().await.expect("a body");
    assert_eq!(found, status, "{path}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}
