//! Parsed definitions, remembered: a version never changes.

use domain::ids::TenantId;
use domain::workflow::definition::Definition;
use lru::LruCache;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

use crate::app::App;
use crate::cache::Counted;
use crate::failure::Failure;
use crate::large_values::Unpacker;
use crate::reading::read_error;

/// How many are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Definitions by workflow and version.
pub(crate) struct Definitions {
    parsed: Mutex<LruCache<(Uuid, u64), Arc<Definition>>>,
    /// How often it was of use.
    pub(crate) counted: Counted,
}

impl Definitions {
    pub(crate) fn new() -> Self {
        Self { parsed: Mutex::new(LruCache::new(REMEMBERED)), counted: Counted::default() }
    }

    /// A definition, if it is known and fits this build. The caller has checked that the tenant may see it.
    pub(crate) async fn get(
        &self,
        app: &App,
        tenant: &TenantId,
        workflow: Uuid,
        version: u64,
    ) -> Result<Option<Arc<Definition>>, Failure> {
        let known =
            self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(&(workflow, version)).cloned();
        self.counted.count(known.is_some());
        if known.is_some() {
            return Ok(known);
        }
        let row = app.models.workflow_version(tenant, workflow, version).await.map_err(read_error)?;
        let Some(row) = row else { return Ok(None) };
        let mut document: Value = serde_json::from_str(&row.definition).unwrap_or_default();
        Unpacker::new(app, tenant).unpack(&mut document).await?;
        let Ok(definition) = Definition::parse(&document) else { return Ok(None) };
        let definition = Arc::new(definition);
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed.put((workflow, version), definition.clone());
        Ok(Some(definition))
    }
}
