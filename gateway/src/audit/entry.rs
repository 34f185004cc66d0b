//! What an entry is made of.

use domain::access::Permission;
use domain::audit::event::{AuditEntry, AuditResult};
use domain::ids::{Actor, Slot, TenantId, new_id};

use crate::app::App;
use crate::auth::Principal;
use crate::client::Client;

/// The most characters of a resource's name: as many as an e-mail has.
const MAX_RESOURCE: usize = 254;

/// What somebody did.
#[derive(Debug)]
pub(crate) struct Act {
    /// A command's name, or `Login`, `Logout`, … of what is no command.
    pub(crate) action: &'static str,
    /// What it needed.
    pub(crate) permission: Option<Permission>,
    /// What it was done to: an id, a name, an e-mail. Never a secret.
    pub(crate) resource: Option<String>,
    /// What became of it.
    pub(crate) result: AuditResult,
    /// The code of a refusal.
    pub(crate) code: Option<String>,
}

/// The entry of an act, now, by a client and whom it was recognised as.
pub(crate) fn entry(app: &App, client: &Client, principal: Option<&Principal>, act: Act) -> AuditEntry {
    let now = app.clock.now();
    let default = TenantId::default_tenant();
    let tenant = principal.map_or(&default, |principal| &principal.tenant);
    AuditEntry {
        id: new_id(now, Slot::of_tenant(tenant), crate::random::number()),
        at: now,
        actor: principal.map_or_else(anonymous, |principal| principal.actor.clone()),
        user: principal.map(|principal| principal.user),
        action: act.action.to_owned(),
        permission: act.permission.map(|permission| permission.to_string()),
        route: client.asks.to_string(),
        resource: act.resource.map(cut),
        result: act.result,
        code: act.code,
        position: None,
        ip: client.ip.map(|ip| ip.to_string()),
        user_agent: client.user_agent.as_deref().map(str::to_owned),
        request_id: Some(client.request_id.to_string()).filter(|id| !id.is_empty()),
        count: 1,
    }
}

fn anonymous() -> Actor {
    Actor::new("anonymous", "-")
}

fn cut(text: String) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MAX_RESOURCE).collect()
}
