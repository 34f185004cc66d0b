//! Events: what a decider produces, what the log keeps, and the catalogue that joins the two.
//!
//! An [`Event`] is typed; a [`RecordedEvent`] is the stored form with its metadata. The catalogue macro
//! gives every variant its stable dotted name and schema version, and decoding runs the upcasters first,
//! so the rest of the program sees only today's shapes.

use bytes::Bytes;
use serde::Serialize;
use serde::ser::SerializeStruct;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

use crate::audit::event as audit;
use crate::bulk::event as bulk;
use crate::execution::event as execution;
use crate::identity::api_key::event as api_key;
use crate::identity::role::event as role;
use crate::identity::tenant::event as tenant;
use crate::identity::user::event as user;
use crate::ids::{Actor, Position, TenantId};
use crate::lane::event as lane;
use crate::time::Timestamp;
use crate::upcast;
use crate::variables::event as variables;
use crate::workflow::event as workflow;

/// The stored bytes of an event do not decode.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No such type in the catalogue: written by a newer Everline.
    #[error(
        "event type `{event_type}` version {schema_version} is not known to this version of Everline; upgrade it"
    )]
    UnknownType {
        /// The stored type.
        event_type: String,
        /// The stored schema version.
        schema_version: u16,
    },
    /// The data is not of the catalogue's shape.
    #[error("event of type `{event_type}` version {schema_version} does not decode")]
    Malformed {
        /// The stored type.
        event_type: String,
        /// The stored schema version.
        schema_version: u16,
        /// What the decoder said.
        #[source]
        source: serde_json::Error,
    },
}

macro_rules! catalogue {
    ($($category:ident as $short:ident : $enum_name:ident { $($(#[$doc:meta])* $variant:ident ( $data:ty ) = $name:literal v $version:literal),+ $(,)? })+) => {
        $(
            #[doc = concat!("The events of the `", stringify!($category), "` aggregate.")]
            #[derive(Debug, Clone, PartialEq)]
            pub enum $enum_name { $($(#[$doc])* $variant($data)),+ }

            impl $enum_name {
                /// The stable dotted name.
                pub fn event_type(&self) -> &'static str {
                    match self { $(Self::$variant(_) => $name),+ }
                }

                /// The schema version that this build writes.
                pub fn schema_version(&self) -> u16 {
                    match self { $(Self::$variant(_) => $version),+ }
                }

                /// The data as JSON.
                pub fn encode(&self) -> Bytes {
                    let json = match self { $(Self::$variant(data) => serde_json::to_vec(data)),+ };
                    Bytes::from(json.expect("event data has string keys and finite numbers"))
                }
            }

            $(impl From<$data> for $enum_name { fn from(data: $data) -> Self { Self::$variant(data) } })+

            impl From<$enum_name> for Event { fn from(event: $enum_name) -> Self { Self::$short(event) } }
        )+

        /// Any event of the catalogue.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $(#[doc = concat!("Of the `", stringify!($category), "` aggregate.")] $short($enum_name)),+
        }

        impl Event {
            /// The stable dotted name.
            pub fn event_type(&self) -> &'static str {
                match self { $(Self::$short(event) => event.event_type()),+ }
            }

            /// The schema version that this build writes.
            pub fn schema_version(&self) -> u16 {
                match self { $(Self::$short(event) => event.schema_version()),+ }
            }

            /// The data as JSON.
            pub fn encode(&self) -> Bytes {
                match self { $(Self::$short(event) => event.encode()),+ }
            }

            /// Reads stored data of any schema version ever written.
            pub fn decode(event_type: &str, schema_version: u16, data: &[u8]) -> Result<Self, EventError> {
                let malformed = |source| EventError::Malformed {
                    event_type: event_type.to_owned(), schema_version, source,
                };
                let current = CATALOGUE.iter().find(|entry| entry.event_type == event_type);
                let unknown = || EventError::UnknownType { event_type: event_type.to_owned(), schema_version };
                let current = current.filter(|entry| schema_version <= entry.schema_version).ok_or_else(unknown)?;
                let data: Cow<'_, [u8]> = if schema_version == current.schema_version {
                    Cow::Borrowed(data)
                } else {
                    Cow::Owned(upcast::upcast(event_type, schema_version, data).map_err(malformed)?)
                };
                match event_type {
                    $($($name => serde_json::from_slice::<$data>(&data)
                        .map(|data| Self::$short($enum_name::$variant(data))).map_err(malformed),)+)+
                    _ => Err(unknown()),
                }
            }
        }

        /// Every event type that this build knows, with the schema version it writes.
        pub const CATALOGUE: &[CatalogueEntry] = &[
            $($(CatalogueEntry { event_type: $name, schema_version: $version, category: stringify!($category) }),+),+
        ];
    };
}

/// One line of the [`CATALOGUE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The stable dotted name.
    pub event_type: &'static str,
    /// The schema version that this build writes.
    pub schema_version: u16,
    /// The aggregate: the first segment of the name.
    pub category: &'static str,
}

catalogue! {
    workflow as Workflow: WorkflowEvent {
        /// A definition was stored under a name.
        Created(workflow::WorkflowCreated) = "workflow.created" v 2,
        /// A new version of the definition was stored.
        Updated(workflow::WorkflowUpdated) = "workflow.updated" v 1,
        /// A version became the one that new executions take.
        Published(workflow::WorkflowPublished) = "workflow.published" v 1,
        /// New executions are accepted again.
        Enabled(workflow::WorkflowEnabled) = "workflow.enabled" v 1,
        /// New executions are refused.
        Disabled(workflow::WorkflowDisabled) = "workflow.disabled" v 1,
        /// Hidden and refused until restored; the name is free again.
        Deleted(workflow::WorkflowDeleted) = "workflow.deleted" v 1,
        /// Back from deletion.
        Restored(workflow::WorkflowRestored) = "workflow.restored" v 1,
        /// Others see it, or no longer.
        Shared(workflow::WorkflowShared) = "workflow.shared" v 1,
    }
    variables as Variables: VariablesEvent {
        /// A tenant variable got a value.
        Set(variables::VariableSet) = "variables.set" v 1,
        /// A tenant variable is gone.
        Deleted(variables::VariableDeleted) = "variables.deleted" v 1,
    }
    tenant as Tenant: TenantEvent {
        /// There is a tenant.
        Created(tenant::TenantCreated) = "tenant.created" v 1,
        /// Its name or settings are others.
        Updated(tenant::TenantUpdated) = "tenant.updated" v 1,
        /// Nobody of it is recognised any more.
        Suspended(tenant::TenantSuspended) = "tenant.suspended" v 1,
        /// Its users are recognised again.
        Resumed(tenant::TenantResumed) = "tenant.resumed" v 1,
    }
    user as User: UserEvent {
        /// There is a user.
        Created(user::UserCreated) = "user.created" v 1,
        /// Another name.
        Renamed(user::UserRenamed) = "user.renamed" v 1,
        /// Another role.
        RoleChanged(user::UserRoleChanged) = "user.role_changed" v 1,
        /// The invitation is accepted.
        Activated(user::UserActivated) = "user.activated" v 1,
        /// The e-mail reaches them.
        EmailVerified(user::UserEmailVerified) = "user.email_verified" v 1,
        /// Not recognised until enabled.
        Disabled(user::UserDisabled) = "user.disabled" v 1,
        /// Recognised again.
        Enabled(user::UserEnabled) = "user.enabled" v 1,
        /// Gone.
        Deleted(user::UserDeleted) = "user.deleted" v 1,
        /// Another password.
        PasswordChanged(user::UserPasswordChanged) = "user.password_changed" v 1,
        /// A second factor is needed.
        TotpEnabled(user::UserTotpEnabled) = "user.totp_enabled" v 1,
        /// No second factor is needed.
        TotpDisabled(user::UserTotpDisabled) = "user.totp_disabled" v 1,
        /// They may come in through a provider.
        IdentityLinked(user::UserIdentityLinked) = "user.identity_linked" v 1,
    }
    role as Role: RoleEvent {
        /// There is a role, or it is another now.
        Defined(role::RoleDefined) = "role.defined" v 1,
        /// It is gone.
        Deleted(role::RoleDeleted) = "role.deleted" v 1,
    }
    api_key as ApiKey: ApiKeyEvent {
        /// There is a key.
        Created(api_key::ApiKeyCreated) = "api_key.created" v 1,
        /// It is gone.
        Revoked(api_key::ApiKeyRevoked) = "api_key.revoked" v 1,
    }
    audit as Audit: AuditEvent {
        /// Somebody asked for something.
        Recorded(audit::AuditRecorded) = "audit.recorded" v 1,
    }
    bulk as Bulk: BulkEvent {
        /// A job began.
        Started(bulk::BulkStarted) = "bulk.started" v 1,
        /// A runner has it.
        Leased(bulk::BulkLeased) = "bulk.leased" v 1,
        /// A page is done.
        Progressed(bulk::BulkProgressed) = "bulk.progressed" v 1,
        /// All is done.
        Completed(bulk::BulkCompleted) = "bulk.completed" v 1,
        /// Stopped on request.
        Cancelled(bulk::BulkCancelled) = "bulk.cancelled" v 1,
    }
    lane as Lane: LaneEvent {
        /// An execution asks for a slot.
        Requested(lane::LaneRequested) = "lane.requested" v 1,
        /// It has one.
        Granted(lane::LaneGranted) = "lane.granted" v 1,
        /// There is none, and it does not wait.
        Refused(lane::LaneRefused) = "lane.refused" v 1,
        /// One that has a slot is to end for another.
        EvictionRequested(lane::LaneEvictionRequested) = "lane.eviction_requested" v 1,
        /// A slot is free, or a request is withdrawn.
        Released(lane::LaneReleased) = "lane.released" v 1,
    }
    execution as Execution: ExecutionEvent {
        /// Input accepted.
        Started(execution::ExecutionStarted) = "execution.started" v 4,
        /// A new execution goes on from another's state.
        Forked(execution::ExecutionForked) = "execution.forked" v 2,
        /// A concurrency key holds it back.
        Queued(execution::ExecutionQueued) = "execution.queued" v 1,
        /// It has a slot of its concurrency key.
        Admitted(execution::ExecutionAdmitted) = "execution.admitted" v 1,
        /// A worker node is ready.
        NodeScheduled(execution::NodeScheduled) = "execution.node.scheduled" v 2,
        /// A worker has leased it for longer than a second, or its iterations or branches have begun.
        NodeStarted(execution::NodeStarted) = "execution.node.started" v 2,
        /// An iteration of a loop or a branch is done.
        ScopeCompleted(execution::ScopeCompleted) = "execution.scope.completed" v 1,
        /// A back edge was taken.
        RunStarted(execution::RunStarted) = "execution.run.started" v 1,
        /// A node has its output.
        NodeCompleted(execution::NodeCompleted) = "execution.node.completed" v 1,
        /// One attempt failed.
        NodeFailed(execution::NodeFailed) = "execution.node.failed" v 1,
        /// No edge to it can be taken any more.
        NodeSkipped(execution::NodeSkipped) = "execution.node.skipped" v 1,
        /// Stopped with its execution.
        NodeCancelled(execution::NodeCancelled) = "execution.node.cancelled" v 2,
        /// Waits inside the engine.
        NodeWaiting(execution::NodeWaiting) = "execution.node.waiting" v 2,
        /// Another attempt is due later.
        NodeRetryScheduled(execution::NodeRetryScheduled) = "execution.node.retry_scheduled" v 1,
        /// A delay or back-off runs.
        TimerStarted(execution::TimerStarted) = "execution.timer.started" v 1,
        /// It is due.
        TimerFired(execution::TimerFired) = "execution.timer.fired" v 1,
        /// It is no longer needed.
        TimerCancelled(execution::TimerCancelled) = "execution.timer.cancelled" v 1,
        /// A signal came in.
        SignalReceived(execution::SignalReceived) = "execution.signal.received" v 1,
        /// A signal or an event met a condition of a wait.
        WaitSatisfied(execution::WaitSatisfied) = "execution.wait.satisfied" v 1,
        /// A node wrote an event for others.
        EventEmitted(execution::EventEmitted) = "execution.event.emitted" v 1,
        /// A node answered the webhook.
        Responded(execution::ExecutionResponded) = "execution.responded" v 1,
        /// A node ran out of attempts.
        NodeDeadLettered(execution::NodeDeadLettered) = "execution.node.dead_lettered" v 1,
        /// A node's work is undone.
        NodeCompensated(execution::NodeCompensated) = "execution.node.compensated" v 1,
        /// It undoes its work.
        CompensationStarted(execution::CompensationStarted) = "execution.compensation.started" v 1,
        /// Its work is undone, or could not be.
        CompensationFinished(execution::CompensationFinished) = "execution.compensation.finished" v 1,
        /// A node asks for a child.
        ChildStarted(execution::ChildStarted) = "execution.child.started" v 2,
        /// The child has ended.
        ChildFinished(execution::ChildFinished) = "execution.child.finished" v 1,
        /// A completed child is to undo its work.
        ChildCompensationRequested(execution::ChildCompensationRequested) = "execution.child.compensation_requested" v 1,
        /// The child has undone its work, or could not.
        ChildCompensated(execution::ChildCompensated) = "execution.child.compensated" v 1,
        /// Nothing new starts.
        Paused(execution::ExecutionPaused) = "execution.paused" v 1,
        /// It goes on.
        Resumed(execution::ExecutionResumed) = "execution.resumed" v 1,
        /// What had failed is tried again.
        Retried(execution::ExecutionRetried) = "execution.retried" v 1,
        /// Something an operator should know.
        Warning(execution::ExecutionWarning) = "execution.warning" v 1,
        /// The end, with an output.
        Completed(execution::ExecutionCompleted) = "execution.completed" v 2,
        /// The end, with an error.
        Failed(execution::ExecutionFailed) = "execution.failed" v 2,
        /// The end, on request.
        Cancelled(execution::ExecutionCancelled) = "execution.cancelled" v 2,
        /// The end, at once.
        Terminated(execution::ExecutionTerminated) = "execution.terminated" v 1,
    }
}

/// How `data` is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Plain JSON.
    #[default]
    Json,
}

impl Codec {
    /// The number in the `codec` column.
    pub fn number(self) -> i64 {
        match self {
            Self::Json => 0,
        }
    }

    /// The codec of a number in the `codec` column.
    pub fn from_number(number: i64) -> Option<Self> {
        (number == 0).then_some(Self::Json)
    }
}

/// An event as the log keeps it and as every reader gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    /// Where it is in the log.
    pub position: Position,
    /// The aggregate.
    pub stream: Uuid,
    /// Its number in the stream, from 1.
    pub version: u64,
    /// Whose it is.
    pub tenant: TenantId,
    /// The stable dotted name.
    pub event_type: Cow<'static, str>,
    /// The schema version of `data`.
    pub schema_version: u16,
    /// The event's own id.
    pub id: Uuid,
    /// When it was recorded; never goes back within a partition.
    pub recorded_at: Timestamp,
    /// What all of it belongs to.
    pub correlation_id: Uuid,
    /// The command or event that caused it.
    pub causation_id: Uuid,
    /// Who caused it.
    pub actor: Actor,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// How `data` is stored.
    pub codec: Codec,
    /// The key that `data` is encrypted with, if it is.
    pub key_id: Option<Arc<str>>,
    /// The data, byte for byte as stored.
    pub data: Bytes,
}

impl RecordedEvent {
    /// The typed event.
    pub fn decode(&self) -> Result<Event, EventError> {
        Event::decode(&self.event_type, self.schema_version, &self.data)
    }

    /// The aggregate's name: the first segment of the type.
    pub fn category(&self) -> &str {
        self.event_type.split('.').next().unwrap_or_default()
    }

    /// The catalogue's spelling of a stored type, without a copy where it is known.
    pub fn interned_type(stored: &str) -> Cow<'static, str> {
        CATALOGUE
            .iter()
            .find(|entry| entry.event_type == stored)
            .map_or_else(|| Cow::Owned(stored.to_owned()), |entry| Cow::Borrowed(entry.event_type))
    }
}

/// The public shape of an event, as in every answer and stream.
impl Serialize for RecordedEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data: &RawValue = serde_json::from_slice(&self.data).map_err(serde::ser::Error::custom)?;
        let mut out = serializer.serialize_struct("Event", 13)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("type", &self.event_type)?;
        out.serialize_field("schema_version", &self.schema_version)?;
        out.serialize_field("position", &self.position)?;
        out.serialize_field("stream", &self.stream)?;
        out.serialize_field("version", &self.version)?;
        out.serialize_field("tenant", &self.tenant)?;
        out.serialize_field("actor", &self.actor)?;
        out.serialize_field("correlation_id", &self.correlation_id)?;
        out.serialize_field("causation_id", &self.causation_id)?;
        out.serialize_field("traceparent", &self.traceparent)?;
        out.serialize_field("recorded_at", &self.recorded_at)?;
        out.serialize_field("data", data)?;
        out.end()
    }
}
