//! Executions folded from the log: as of a version, with the nodes of their bodies, a fork's origins first.
//!
//! The log is what decides; no read model has to be waited for. It costs what the history is long, which is bounded.

use domain::execution::view::{ExecutionView, History, NodeView, Replay};
use domain::ids::TenantId;
use uuid::Uuid;

use crate::app::App;
use crate::failure::Failure;
use crate::status;

/// An execution as of a version, or as of its last event. The caller has checked that the tenant may see it.
pub(crate) async fn read(app: &App, id: Uuid, at_version: Option<u64>) -> Result<Folded, Failure> {
    let until = at_version.unwrap_or(u64::MAX);
    let mut replay = Replay::of(id, until);
    while let Some(page) = replay.wants() {
        let events = app.log.read_stream(page.stream, page.after, page.limit).await?;
        replay.give(&events).map_err(|error| {
            tracing::error!(
                execution.id = %id,
                stream.id = %page.stream,
                error = &error as &dyn std::error::Error,
                "an execution does not fold"
            );
            Failure::new(status::INTERNAL, "an event of the execution does not fold")
        })?;
    }
    let History { view, bodies } = replay.history();
    let version = view.as_ref().map_or(0, |view| view.version);
    match view {
        Some(view) if at_version.is_none_or(|wanted| wanted == version) => Ok(Folded { view, bodies }),
        None if at_version.is_none() => Err(not_found(id)),
        _ => {
            let detail = match version {
                0 => format!("execution {id} has no version {until}; its first event is version 1"),
                _ => format!("execution {id} has no version {until}; its last event is version {version}"),
            };
            Err(Failure::new(status::EXECUTION_VERSION_NOT_FOUND, detail))
        }
    }
}

/// An execution that has events.
pub(crate) struct Folded {
    /// The execution, with the top-level nodes that have an event.
    pub(crate) view: ExecutionView,
    /// The nodes of its bodies.
    pub(crate) bodies: domain::execution::view::Bodies,
}

impl Folded {
    /// With the top-level nodes that have no event.
    pub(crate) async fn with_all_nodes(mut self, app: &App, tenant: &TenantId) -> Result<Self, Failure> {
        self.view = with_all_nodes(app, tenant, self.view).await?.0;
        Ok(self)
    }

    /// The nodes directly inside a container, in no order.
    pub(crate) fn nodes_of<'a>(&'a self, parent: &'a str) -> impl Iterator<Item = &'a NodeView> {
        self.bodies.nodes_of(parent)
    }
}

/// With the top-level nodes that have no event, if the definition is known; whether it is.
pub(crate) async fn with_all_nodes(
    app: &App,
    tenant: &TenantId,
    view: ExecutionView,
) -> Result<(ExecutionView, bool), Failure> {
    let definition = app.definitions.get(app, tenant, view.workflow_id, view.workflow_version).await?;
    Ok(match definition {
        Some(definition) => (view.with_all_nodes(&definition), true),
        None => (view, false),
    })
}

/// No such execution for this tenant.
pub(crate) fn not_found(id: Uuid) -> Failure {
    Failure::new(status::EXECUTION_NOT_FOUND, format!("there is no execution {id}"))
}
