//! Judging what a request reads. Writes are judged by their deciders, on folded state.
//!
//! Invariant: another tenant's thing is answered like one that does not exist, before anybody's grants are looked at.

use domain::access::{Authority, Reach, Resource, judge};
use domain::ids::TenantId;
use read_models::{Viewer, WorkflowRow};
use uuid::Uuid;

use crate::app::App;
use crate::failure::Failure;
use crate::histories;
use crate::reading::read_error;
use crate::request::Caller;
use crate::status;

/// Whether a thing is within an authority.
///
/// # Errors
/// It is not.
pub(crate) fn may(authority: &Authority, resource: &Resource<'_>) -> Result<(), Failure> {
    judge(authority, resource).map_err(|denied| Failure::new(status::FORBIDDEN, denied.to_string()))
}

/// Whether an execution is within an authority.
///
/// # Errors
/// It is not, or the tenant has no such execution.
pub(crate) async fn may_execution(
    app: &App,
    tenant: &TenantId,
    authority: &Authority,
    id: Uuid,
) -> Result<(), Failure> {
    let found = app.things.execution(id).await?;
    let thing = found.filter(|thing| thing.tenant == *tenant).ok_or_else(|| histories::not_found(id))?;
    if authority.is_unbounded() {
        return Ok(());
    }
    let shared = app.things.sharing(thing.workflow, authority.user).await?;
    // Only conditions look at what changes with every event.
    let status = match authority.grants.iter().any(|grant| grant.condition.is_some()) {
        true => Some(status_of(app, tenant, id).await?),
        false => None,
    };
    may(authority, &thing.resource(id, shared, status))
}

async fn status_of(app: &App, tenant: &TenantId, id: Uuid) -> Result<&'static str, Failure> {
    if let Some(view) = app.models.execution(tenant, id).await.map_err(read_error)? {
        return Ok(view.status.as_str());
    }
    Ok(histories::read(app, id, None).await?.view.status.as_str())
}

/// Whether a workflow is within an authority.
///
/// # Errors
/// It is not, or the tenant has no such workflow.
pub(crate) async fn may_workflow(
    app: &App,
    tenant: &TenantId,
    authority: &Authority,
    id: Uuid,
) -> Result<(), Failure> {
    let found = app.things.workflow(id).await?;
    let thing = found
        .filter(|thing| thing.tenant.as_ref() == Some(tenant))
        .ok_or_else(|| Failure::new(status::WORKFLOW_NOT_FOUND, format!("there is no workflow {id}")))?;
    may(authority, &thing.resource(id, authority.user))
}

impl Caller {
    /// With which right the caller acts here.
    ///
    /// # Errors
    /// The route needs no permission: then nothing may be judged by it.
    pub(crate) fn authority(&self) -> Result<&Authority, Failure> {
        let missing = || Failure::new(status::FORBIDDEN, "this route judges nothing; report this as a bug");
        self.authority.as_deref().ok_or_else(missing)
    }

    /// Who looks, for lists: SQL leaves out what no grant could admit.
    ///
    /// # Errors
    /// The route needs no permission.
    pub(crate) fn viewer(&self) -> Result<Viewer, Failure> {
        let authority = self.authority()?;
        let tenant = self.principal.tenant.clone();
        Ok(Viewer { tenant, user: authority.user, reach: widest(authority) })
    }

    /// Whether a thing is within the caller's right to this route.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn may(&self, resource: &Resource<'_>) -> Result<(), Failure> {
        may(self.authority()?, resource)
    }

    /// Whether what belongs to nobody but the tenant is within the caller's right to this route.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn may_kind(&self, kind: &'static str) -> Result<(), Failure> {
        self.may(&Resource { kind, ..Resource::default() })
    }

    /// Whether an execution is within the caller's right to this route.
    ///
    /// # Errors
    /// It is not, or there is none.
    pub(crate) async fn may_execution(&self, app: &App, id: Uuid) -> Result<(), Failure> {
        may_execution(app, &self.principal.tenant, self.authority()?, id).await
    }

    /// Whether a workflow is within the caller's right to this route.
    ///
    /// # Errors
    /// It is not, or there is none.
    pub(crate) async fn may_workflow(&self, app: &App, id: Uuid) -> Result<(), Failure> {
        may_workflow(app, &self.principal.tenant, self.authority()?, id).await
    }
}

/// The reach of the widest grant, whatever its condition. An authority has a grant at least.
fn widest(authority: &Authority) -> Reach {
    authority.grants.iter().map(|grant| grant.reach).max().unwrap_or(Reach::Own)
}

/// Whether a list that was read by [`Caller::viewer`] shows nothing too much: no condition narrows its reach.
pub(crate) fn is_exact(authority: &Authority) -> bool {
    authority.plain_reach() == Some(widest(authority))
}

/// Leaves out of a page, read by [`Caller::viewer`], what conditions do not admit. `execution` names each item's.
pub(crate) async fn only_visible<T>(
    app: &App,
    caller: &Caller,
    items: Vec<T>,
    execution: impl Fn(&T) -> Uuid,
) -> Result<Vec<T>, Failure> {
    if is_exact(caller.authority()?) { Ok(items) } else { only_allowed(app, caller, items, execution).await }
}

/// Leaves out what the caller's right does not admit, judging each.
pub(crate) async fn only_allowed<T>(
    app: &App,
    caller: &Caller,
    items: Vec<T>,
    execution: impl Fn(&T) -> Uuid,
) -> Result<Vec<T>, Failure> {
    if caller.authority()?.is_unbounded() {
        return Ok(items);
    }
    let mut allowed = Vec::with_capacity(items.len());
    for item in items {
        match caller.may_execution(app, execution(&item)).await {
            Ok(()) => allowed.push(item),
            Err(failure) if is_refusal(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(allowed)
}

/// Leaves out of a page of workflows, read by [`Caller::viewer`], what conditions do not admit.
pub(crate) async fn only_visible_workflows(
    app: &App,
    caller: &Caller,
    rows: Vec<WorkflowRow>,
) -> Result<Vec<WorkflowRow>, Failure> {
    if is_exact(caller.authority()?) { Ok(rows) } else { only_allowed_workflows(app, caller, rows).await }
}

/// Leaves out workflows that the caller's right does not admit, judging each.
pub(crate) async fn only_allowed_workflows(
    app: &App,
    caller: &Caller,
    rows: Vec<WorkflowRow>,
) -> Result<Vec<WorkflowRow>, Failure> {
    if caller.authority()?.is_unbounded() {
        return Ok(rows);
    }
    let mut allowed = Vec::with_capacity(rows.len());
    for row in rows {
        match caller.may_workflow(app, row.id).await {
            Ok(()) => allowed.push(row),
            Err(failure) if is_refusal(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(allowed)
}

/// Whether a judgement said no, rather than that it could not be made.
fn is_refusal(failure: &Failure) -> bool {
    failure.status.is_client_error()
}
