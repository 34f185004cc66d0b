//! Fetches what deciders need, and keeps what is immutable.
//!
//! Definitions by version and variables by version never change and are cached as they are. The head of a
//! workflow and the latest variables do change: the committer calls [`FactSource::changed`] before it replies,
//! so whoever has seen the reply to a publish also starts executions with it. That holds for streams whose partition
//! this process owns under a fresh lease. Of any other stream, what is cached counts only if the log has no later
//! version of it, which is one small read. The past of executions, for forks, is in [`histories`].

mod histories;

use lru::LruCache;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

use domain::aggregate::{Aggregate, AggregateState};
use domain::blob::BlobRef;
use domain::decision::Need;
use domain::event::Event;
use domain::execution::Recording;
use domain::facts::{Fact, Facts, Origin, Variables, WorkflowHead};
use domain::ids::TenantId;
use domain::variables::{VariablesState, stream_of};
use domain::workflow::WorkflowState;
use domain::workflow::definition::Definition;
use event_store::{Log, StoreError};

use crate::folding::{LoadError, load};
use crate::owned::Owned;

use histories::Recordings;

const CACHED_WORKFLOWS: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
const CACHED_DEFINITIONS: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");
const CACHED_VARIABLES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Why a fact could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl From<LoadError> for FactError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => Self::Store(error),
            LoadError::Event(_) | LoadError::Origin { .. } | LoadError::Depth(_) => {
                Self::Unusable(error.to_string())
            }
        }
    }
}

/// The caches, shared by all partitions.
pub(crate) struct FactSource {
    log: Arc<dyn Log>,
    owned: Arc<Owned>,
    caches: Mutex<Caches>,
}

struct Caches {
    /// Raised by every change; a load that began before a change does not enter the cache after it.
    changes: u64,
    heads: LruCache<Uuid, Head>,
    definitions: LruCache<(Uuid, u64), (TenantId, Arc<Definition>)>,
    latest_variables: LruCache<TenantId, (u64, Arc<Variables>)>,
    variables: LruCache<(TenantId, u64), Arc<Variables>>,
    recordings: Recordings,
}

/// A workflow's head as of a version of its stream.
#[derive(Clone)]
struct Head {
    owner: TenantId,
    version: u64,
    head: Arc<WorkflowHead>,
}

impl FactSource {
    pub(crate) fn new(log: Arc<dyn Log>, owned: Arc<Owned>) -> Self {
        let caches = Caches {
            changes: 0,
            heads: LruCache::new(CACHED_WORKFLOWS),
            definitions: LruCache::new(CACHED_DEFINITIONS),
            latest_variables: LruCache::new(CACHED_VARIABLES),
            variables: LruCache::new(CACHED_VARIABLES),
            recordings: Recordings::default(),
        };
        Self { log, owned, caches: Mutex::new(caches) }
    }

    /// Forgets what a committed event has changed.
    pub(crate) fn changed(&self, tenant: &TenantId, stream: Uuid, event: &Event) {
        match event {
            Event::Workflow(_) => {
                let mut caches = self.caches();
                caches.changes += 1;
                caches.heads.pop(&stream);
            }
            Event::Variables(_) => {
                let mut caches = self.caches();
                caches.changes += 1;
                caches.latest_variables.pop(tenant);
            }
            Event::Execution(_)
            | Event::Lane(_)
            | Event::Tenant(_)
            | Event::User(_)
            | Event::Role(_)
            | Event::ApiKey(_)
            | Event::Audit(_)
            | Event::Bulk(_) => {}
        }
    }

    /// Forgets everything that can change, after commits that were not heard of.
    pub(crate) fn forget_all(&self) {
        let mut caches = self.caches();
        caches.changes += 1;
        caches.heads.clear();
        caches.latest_variables.clear();
    }

    /// Puts what is needed into the facts.
    pub(crate) async fn fetch(
        &self,
        tenant: &TenantId,
        need: Need,
        facts: &mut Facts,
    ) -> Result<(), FactError> {
        match need {
            Need::Workflow(id) => facts.workflow = self.head(tenant, id).await?,
            Need::Definition { workflow, version } => {
                facts.definition = self.definition(tenant, workflow, version).await?;
            }
            Need::Variables(version) => facts.variables = Fact::Is(self.variables(tenant, version).await?),
            Need::Blob(reference) => {
                let content = self.blob(tenant, &reference).await?;
                facts.blobs.insert(reference.sha256, Arc::new(content));
            }
            Need::Origin { execution, at_version } => {
                facts.origin = self.origin(tenant, execution, at_version).await?;
            }
            Need::Recording { execution, until } => {
                facts.recording = self.recording(tenant, execution, until).await?;
            }
        }
        Ok(())
    }

    async fn head(&self, tenant: &TenantId, id: Uuid) -> Result<Fact<WorkflowHead>, FactError> {
        let (known, changes) = {
            let mut caches = self.caches();
            (caches.heads.get(&id).cloned(), caches.changes)
        };
        if let Some(known) = known
            && self.is_last(id, known.version).await?
        {
            return Ok(if known.owner == *tenant { Fact::Is(known.head) } else { Fact::Absent });
        }
        let Some((version, state)) = self.workflow(tenant, id).await? else { return Ok(Fact::Absent) };
        let Some(head) = state.head().map(Arc::new) else { return Ok(Fact::Absent) };
        let mut caches = self.caches();
        if caches.changes == changes {
            caches.heads.put(id, Head { owner: tenant.clone(), version, head: head.clone() });
        }
        Ok(Fact::Is(head))
    }

    /// Whether a version that was read before is a stream's last one still.
    async fn is_last(&self, stream: Uuid, version: u64) -> Result<bool, FactError> {
        if self.owned.trusts(self.owned.partition_of(stream)) {
            return Ok(true);
        }
        Ok(self.log.read_stream(stream, version, 1).await?.is_empty())
    }

    async fn definition(
        &self,
        tenant: &TenantId,
        workflow: Uuid,
        version: u64,
    ) -> Result<Fact<Definition>, FactError> {
        let key = (workflow, version);
        if let Some((owner, definition)) = self.caches().definitions.get(&key) {
            return Ok(if owner == tenant { Fact::Is(definition.clone()) } else { Fact::Absent });
        }
        let Some((_, state)) = self.workflow(tenant, workflow).await? else { return Ok(Fact::Absent) };
        let Some(stored) = state.version(version) else { return Ok(Fact::Absent) };
        let content = match BlobRef::from_value(&stored.definition) {
            Some(reference) => self.blob(tenant, &reference).await?,
            None => stored.definition.clone(),
        };
        let definition = Definition::parse(&content).map_err(|problems| {
            let first = problems.first().map_or("", |problem| problem.detail.as_str());
            FactError::Unusable(format!(
                "version {version} of workflow {workflow} is not valid any more: {first}"
            ))
        })?;
        let definition = Arc::new(definition);
        self.caches().definitions.put(key, (tenant.clone(), definition.clone()));
        Ok(Fact::Is(definition))
    }

    async fn variables(&self, tenant: &TenantId, version: Option<u64>) -> Result<Arc<Variables>, FactError> {
        let stream = stream_of(tenant);
        let (latest, changes) = {
            let mut caches = self.caches();
            if let Some(version) = version
                && let Some(known) = caches.variables.get(&(tenant.clone(), version))
            {
                return Ok(known.clone());
            }
            (caches.latest_variables.get(tenant).cloned(), caches.changes)
        };
        if version.is_none()
            && let Some((at, known)) = latest
            && self.is_last(stream, at).await?
        {
            return Ok(known);
        }
        let aggregate = self.load(stream, version).await?;
        let at = aggregate.version;
        let state = match aggregate.state {
            AggregateState::Variables(state) => *state,
            _ => VariablesState::default(),
        };
        let variables = Arc::new(state.as_fact());
        let mut caches = self.caches();
        caches.variables.put((tenant.clone(), variables.version), variables.clone());
        if version.is_none() && caches.changes == changes {
            caches.latest_variables.put(tenant.clone(), (at, variables.clone()));
        }
        Ok(variables)
    }

    async fn blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Value, FactError> {
        let content = self.log.read_blob(tenant, reference).await?.ok_or_else(|| {
            FactError::Unusable(format!("the content of claim check {} is missing", reference.sha256))
        })?;
        serde_json::from_slice(&content).map_err(|_| {
            FactError::Unusable(format!("the content of claim check {} is not JSON", reference.sha256))
        })
    }

    async fn origin(
        &self,
        tenant: &TenantId,
        execution: Uuid,
        at_version: u64,
    ) -> Result<Fact<Origin>, FactError> {
        Ok(histories::origin(&*self.log, tenant, execution, at_version).await?)
    }

    async fn recording(
        &self,
        tenant: &TenantId,
        execution: Uuid,
        until: u64,
    ) -> Result<Fact<Recording>, FactError> {
        if let Some(known) = self.caches().recordings.get(tenant, execution, until) {
            return Ok(known);
        }
        let folded = histories::record(&*self.log, tenant, execution, until).await?;
        let Some(folded) = folded else { return Ok(Fact::Absent) };
        let recording = folded.recording.clone();
        self.caches().recordings.put(execution, until, folded);
        Ok(Fact::Is(recording))
    }

    /// A workflow of the tenant and the version of its stream.
    async fn workflow(&self, tenant: &TenantId, id: Uuid) -> Result<Option<(u64, WorkflowState)>, FactError> {
        let aggregate = self.load(id, None).await?;
        match (aggregate.tenant, aggregate.state) {
            (Some(owner), AggregateState::Workflow(state)) if owner == *tenant => {
                Ok(Some((aggregate.version, *state)))
            }
            _ => Ok(None),
        }
    }

    async fn load(&self, stream: Uuid, until: Option<u64>) -> Result<Aggregate, FactError> {
        Ok(load(&*self.log, stream, until).await?)
    }

    fn caches(&self) -> std::sync::MutexGuard<'_, Caches> {
        // The caches hold copies of what the log has; a panic elsewhere cannot make them wrong.
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
