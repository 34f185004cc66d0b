//! What an expression can see: names, the time of the decision, derived ids.
//!
//! Scopes answer lazily, one step at a time: `nodes.fetch.output.total` asks the scope for `nodes`, that object
//! for `fetch`, that one for `output`, and borrows the leaf. Nothing on the way is built or cloned.
//!
//! Absent: any clock or random source; [`Scope::now`] and [`Scope::uuid`] come from the command.

use crate::blob::BlobRef;
use crate::time::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The names an expression is evaluated over.
pub trait Scope {
    /// What `name` stands for.
    fn name<'a>(&'a self, name: &str) -> Binding<'a>;
    /// The time of the command being decided.
    fn now(&self) -> Timestamp;
    /// The id the `n`-th call of `uuid()` gives, counted from 0 within one evaluation or one rendering.
    fn uuid(&self, n: u32) -> Uuid;
}

/// An object whose fields are looked up one at a time; `'a` is how long the values it hands out live.
pub trait Object<'a> {
    /// The field `key`.
    fn get(&self, key: &str) -> Binding<'a>;
    /// Every key, for iteration, for `size` and for messages.
    fn keys(&self) -> Vec<String>;
}

/// What a name or a field stands for.
pub enum Binding<'a> {
    /// A value that lives elsewhere; it is not cloned.
    Value(&'a Value),
    /// A value made for the occasion; keep it small.
    Owned(Value),
    /// An object that is looked into lazily.
    Object(Box<dyn Object<'a> + 'a>),
    /// The value lies beside the log; the evaluation ends with `NeedsBlob`, unless only `has` asks.
    NeedsBlob(BlobRef),
    /// There is no such name or field.
    Missing,
}

/// A scope over a plain JSON object: every top-level key is a name.
#[derive(Debug, Clone, Copy)]
pub struct JsonScope<'a> {
    /// The object; anything else has no names.
    pub context: &'a Value,
    /// What `now()` gives.
    pub now: Timestamp,
    /// What `uuid()` is derived from.
    pub seed: Uuid,
}

impl Scope for JsonScope<'_> {
    fn name<'a>(&'a self, name: &str) -> Binding<'a> {
        self.context.get(name).map_or(Binding::Missing, Binding::Value)
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn uuid(&self, n: u32) -> Uuid {
        derived_uuid(self.seed, n)
    }
}

/// The `n`-th id derived from `seed`: the first half of SHA-256 over both, as a UUID of version 8.
pub fn derived_uuid(seed: Uuid, n: u32) -> Uuid {
    let digest = Sha256::new().chain_update(seed.as_bytes()).chain_update(n.to_be_bytes()).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
