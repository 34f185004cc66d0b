//! What must be known of workflows and executions to judge them: whose they are, and who else sees them.
//!
//! Read from the log, so that nothing is judged by a read model that is behind, and remembered in bounded numbers. To
//! whom an execution belongs never changes; a workflow's sharing is forgotten when a change is heard. What can be
//! judged without a look is: a grant for everything of the tenant looks at nothing.

use domain::access::{Resource, SharedWith};
use domain::event::{Event, ExecutionEvent, RecordedEvent, WorkflowEvent};
use domain::ids::TenantId;
use domain::workflow::event::{Visibility, WorkflowShared};
use event_store::log::{LogReader, StoreError};
use lru::LruCache;
use serde_json::{Map, Value};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How many of each are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");
/// Events read at once.
const PAGE: usize = 100;
/// Forks of forks that are followed for their attributes; the domain allows fewer.
const MAX_FORKS: usize = 100;

/// A workflow as far as the judgement looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkflowThing {
    pub(crate) tenant: Option<TenantId>,
    version: u64,
    name: String,
    owner: Option<Uuid>,
    shared: WorkflowShared,
}

/// An execution as far as the judgement looks.
#[derive(Debug)]
pub(crate) struct ExecutionThing {
    pub(crate) tenant: TenantId,
    pub(crate) workflow: Uuid,
    name: String,
    owner: Option<Uuid>,
    attributes: Map<String, Value>,
}

/// What is known of them.
pub(crate) struct Things {
    log: Arc<dyn LogReader>,
    executions: Mutex<LruCache<Uuid, Arc<ExecutionThing>>>,
    workflows: Mutex<Workflows>,
    ttl: Duration,
}

struct Workflows {
    known: LruCache<Uuid, (Arc<WorkflowThing>, Option<Instant>)>,
    /// How often something was forgotten: what was read before that is not trusted afterwards.
    forgotten: u64,
}

impl WorkflowThing {
    /// Whether it is shared with a user.
    fn shared_with(&self, user: Uuid) -> SharedWith {
        let shared = &self.shared;
        if shared.visibility == Visibility::Public || shared.users.contains(&user) {
            SharedWith::Them(shared.access)
        } else {
            SharedWith::Nobody
        }
    }

    /// As the judgement sees it.
    pub(crate) fn resource(&self, id: Uuid, user: Uuid) -> Resource<'_> {
        Resource {
            kind: "workflow",
            id: Some(id),
            owner: self.owner,
            shared: self.shared_with(user),
            name: &self.name,
            ..Resource::default()
        }
    }

    fn evolve(&mut self, recorded: &RecordedEvent) -> Result<(), StoreError> {
        self.version = recorded.version;
        self.tenant.get_or_insert_with(|| recorded.tenant.clone());
        // Definitions are large; only these events say something here.
        if !matches!(&*recorded.event_type, "workflow.created" | "workflow.updated" | "workflow.shared") {
            return Ok(());
        }
        let event = recorded.decode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        match event {
            Event::Workflow(WorkflowEvent::Created(created)) => {
                self.name = created.name;
                self.owner = created.owner;
            }
            Event::Workflow(WorkflowEvent::Updated(updated)) => self.name = updated.name,
            Event::Workflow(WorkflowEvent::Shared(shared)) => self.shared = shared,
            _ => {}
        }
        Ok(())
    }
}

impl Things {
    pub(crate) fn new(log: Arc<dyn LogReader>, ttl: Duration) -> Self {
        Self {
            log,
            executions: Mutex::new(LruCache::new(REMEMBERED)),
            workflows: Mutex::new(Workflows { known: LruCache::new(REMEMBERED), forgotten: 0 }),
            ttl,
        }
    }

    /// A workflow; `None` if there never was one.
    pub(crate) async fn workflow(&self, id: Uuid) -> Result<Option<Arc<WorkflowThing>>, StoreError> {
        let (known, asked_at) = {
            let mut workflows = self.workflows();
            (workflows.known.get(&id).cloned(), workflows.forgotten)
        };
        if let Some((thing, Some(since))) = &known
            && since.elapsed() < self.ttl
        {
            return Ok(Some(thing.clone()));
        }
        let asked = Instant::now();
        let mut thing = known.map(|(thing, _)| (*thing).clone()).unwrap_or_default();
        loop {
            let page = self.log.read_stream(id, thing.version, PAGE).await?;
            if page.first().is_some_and(|event| event.category() != "workflow") {
                return Ok(None);
            }
            page.iter().try_for_each(|event| thing.evolve(event))?;
            if page.len() < PAGE {
                break;
            }
        }
        if thing.version == 0 {
            return Ok(None);
        }
        let thing = Arc::new(thing);
        let mut workflows = self.workflows();
        let since = (workflows.forgotten == asked_at).then_some(asked);
        workflows.known.put(id, (thing.clone(), since));
        Ok(Some(thing))
    }

    /// An execution; `None` if there never was one.
    pub(crate) async fn execution(&self, id: Uuid) -> Result<Option<Arc<ExecutionThing>>, StoreError> {
        if let Some(known) = self.executions().get(&id) {
            return Ok(Some(known.clone()));
        }
        let Some((mut thing, mut origin)) = self.first_of(id).await? else { return Ok(None) };
        // A fork has the attributes of what it comes from.
        for _ in 0..MAX_FORKS {
            let Some(from) = origin else { break };
            let Some((ancestor, next)) = self.first_of(from).await? else { break };
            thing.attributes = ancestor.attributes;
            origin = next;
        }
        let thing = Arc::new(thing);
        self.executions().put(id, thing.clone());
        Ok(Some(thing))
    }

    /// What an execution's first event says, and the origin of a fork.
    async fn first_of(&self, id: Uuid) -> Result<Option<(ExecutionThing, Option<Uuid>)>, StoreError> {
        let first = self.log.read_stream(id, 0, 1).await?;
        let Some(recorded) = first.first().filter(|event| event.category() == "execution") else {
            return Ok(None);
        };
        let tenant = recorded.tenant.clone();
        let event = recorded.decode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(match event {
            Event::Execution(ExecutionEvent::Started(started)) => {
                let thing = ExecutionThing {
                    tenant,
                    workflow: started.workflow_id,
                    name: started.workflow_name,
                    owner: started.owner,
                    attributes: started.attributes,
                };
                Some((thing, None))
            }
            Event::Execution(ExecutionEvent::Forked(forked)) => {
                let thing = ExecutionThing {
                    tenant,
                    workflow: forked.workflow_id,
                    name: forked.workflow_name,
                    owner: forked.owner,
                    attributes: Map::new(),
                };
                Some((thing, Some(forked.origin)))
            }
            _ => None,
        })
    }

    /// How a workflow is shared with a user.
    pub(crate) async fn sharing(&self, workflow: Uuid, user: Uuid) -> Result<SharedWith, StoreError> {
        Ok(self.workflow(workflow).await?.map_or(SharedWith::Nobody, |thing| thing.shared_with(user)))
    }

    /// A workflow's sharing may have changed.
    pub(crate) fn forget(&self, workflow: Uuid) {
        let mut workflows = self.workflows();
        workflows.forgotten += 1;
        if let Some((_, since)) = workflows.known.peek_mut(&workflow) {
            *since = None;
        }
    }

    /// Changes may have been missed.
    pub(crate) fn forget_all(&self) {
        let mut workflows = self.workflows();
        workflows.forgotten += 1;
        for (_, (_, since)) in workflows.known.iter_mut() {
            *since = None;
        }
    }

    fn workflows(&self) -> MutexGuard<'_, Workflows> {
        self.workflows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn executions(&self) -> MutexGuard<'_, LruCache<Uuid, Arc<ExecutionThing>>> {
        self.executions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExecutionThing {
    /// As the judgement sees it.
    pub(crate) fn resource(
        &self,
        id: Uuid,
        shared: SharedWith,
        status: Option<&'static str>,
    ) -> Resource<'_> {
        Resource {
            kind: "execution",
            id: Some(id),
            owner: self.owner,
            shared,
            name: &self.name,
            workflow: Some(self.workflow),
            status,
            attributes: Some(&self.attributes),
        }
    }
}
