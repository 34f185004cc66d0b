//! Large values at the edge: out of requests into blobs, and back into answers.

use domain::blob::{self, BlobRef};
use domain::ids::TenantId;
use domain::rejection::Problem;
use serde_json::Value;

use crate::app::App;
use crate::failure::Failure;
use crate::status;

/// Makes a caller's value fit to travel: stores it beside the log if it is large. A value that looks like a
/// reference is refused, because a caller must not name contents by hash.
pub(crate) async fn check_in(
    app: &App,
    tenant: &TenantId,
    value: Value,
    pointer: &str,
) -> Result<Value, Failure> {
    refuse_reserved(&value, pointer)?;
    let (value, blob) = blob::claim_check(value);
    if let Some(blob) = blob {
        app.blobs.put(tenant, &blob).await?;
    }
    Ok(value)
}

/// Refuses a value that looks like a reference to a large value.
pub(crate) fn refuse_reserved(value: &Value, pointer: &str) -> Result<(), Failure> {
    if BlobRef::from_value(value).is_none() {
        return Ok(());
    }
    let detail = "an object whose only key is `$blob` stands for a stored value; send the value itself";
    let problem = Problem::new(pointer, status::RESERVED_VALUE.code, detail);
    Err(Failure::new(status::RESERVED_VALUE, detail).with_errors(vec![problem]))
}

/// Puts large values back into an answer, up to a number of bytes; what does not fit stays a reference.
pub(crate) struct Unpacker<'a> {
    app: &'a App,
    tenant: &'a TenantId,
    left: u64,
}

impl<'a> Unpacker<'a> {
    /// With the configured number of bytes.
    pub(crate) fn new(app: &'a App, tenant: &'a TenantId) -> Self {
        Self { app, tenant, left: u64::from(app.config.answer_blob_bytes) }
    }

    /// Replaces a reference by its content, where that fits.
    pub(crate) async fn unpack(&mut self, value: &mut Value) -> Result<(), Failure> {
        let Some(reference) = BlobRef::from_value(value) else { return Ok(()) };
        let Some(left) = self.left.checked_sub(reference.bytes) else { return Ok(()) };
        // A reference to something that is not there may be a node's own data; it is shown as it is.
        if let Some(content) = self.app.blobs.get(self.tenant, &reference).await?
            && let Ok(content) = serde_json::from_slice(&content)
        {
            self.left = left;
            *value = content;
        }
        Ok(())
    }
}
