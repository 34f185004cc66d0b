//! Who looks: a tenant, a user of it, and how far their right to see reaches.
//!
//! Lists and single reads take a [`Viewer`]. What is not within its reach is not there for it in lists. Single reads
//! give [`Seen`], so that whoever asks can tell what is there but not theirs (403) from what is not there (404).
//! Deliberately absent: judging. Conditions of grants are not known here: a caller that has some reads by the widest
//! reach and judges one by one.

use uuid::Uuid;

use domain::access::{Reach, SharedWith};
use domain::ids::TenantId;

use crate::sql::Statement;

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// Nothing of another tenant is ever seen.
    pub tenant: TenantId,
    /// The user; of a key, its owner.
    pub user: Uuid,
    /// How far they see.
    pub reach: Reach,
}

impl Viewer {
    /// Everything of a tenant, for whoever is nobody in particular.
    pub fn any(tenant: &TenantId) -> Self {
        Self { tenant: tenant.clone(), user: Uuid::nil(), reach: Reach::Any }
    }

    /// Whether there are rows of the tenant that they do not see.
    pub(crate) fn is_bounded(&self) -> bool {
        self.reach != Reach::Any
    }

    /// The condition under which executions in `table` are seen, after others.
    pub(crate) fn push_executions(&self, query: &mut Statement, table: &str) {
        match self.reach {
            Reach::Any => {}
            Reach::Own => {
                query.push(&format!(" and {table}.owner = ")).push_bind(self.user);
            }
            Reach::Shared => {
                query.push(&format!(" and ({table}.owner = ")).push_bind(self.user);
                query.push(&format!(" or {table}.workflow_id in ("));
                self.push_visible_workflows(query);
                query.push("))");
            }
        }
    }

    /// The condition under which workflows in `table` are seen, after others.
    pub(crate) fn push_workflows(&self, query: &mut Statement, table: &str) {
        match self.reach {
            Reach::Any => {}
            Reach::Own => {
                query.push(&format!(" and {table}.owner = ")).push_bind(self.user);
            }
            Reach::Shared => {
                query.push(&format!(" and ({table}.owner = ")).push_bind(self.user);
                query.push(&format!(" or {table}.visibility = 'public' or {table}.id in ("));
                self.push_shares(query);
                query.push("))");
            }
        }
    }

    /// The workflows that everybody sees, and those that are shared with them, perhaps twice.
    pub(crate) fn push_visible_workflows(&self, query: &mut Statement) {
        query.push("select w.id from workflows w where w.tenant = ");
        query.push_bind(self.tenant.as_str()).push(" and w.visibility = 'public' union all ");
        self.push_shares(query);
    }

    /// The workflows that are shared with them.
    fn push_shares(&self, query: &mut Statement) {
        query.push("select s.workflow_id from workflow_shares s where s.tenant = ");
        query.push_bind(self.tenant.as_str()).push(" and s.user_id = ").push_bind(self.user);
    }

    /// The condition under which the execution named by a column is seen, after others.
    pub(crate) fn push_execution_of(&self, query: &mut Statement, column: &str) {
        if self.is_bounded() {
            query.push(" and exists (select 1 from executions e where e.tenant = ");
            query.push_bind(self.tenant.as_str()).push(&format!(" and e.id = {column}"));
            self.push_executions(query, "e");
            query.push(")");
        }
    }

    /// The condition under which things with a plain owner are seen, after others. They are not shared.
    pub(crate) fn push_owned(&self, query: &mut Statement, column: &str) {
        if self.is_bounded() {
            query.push(&format!(" and {column} = ")).push_bind(self.user);
        }
    }
}

/// A thing that is there, with what a judgement needs to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<T> {
    /// The thing.
    pub item: T,
    /// The user to whom it belongs.
    pub owner: Option<Uuid>,
    /// How it is shared with the viewer. Looked up only where that matters: not if they see everything or own it.
    pub shared: SharedWith,
}

impl<T> Seen<T> {
    /// Whether a viewer's reach covers it: the one for whom it was read.
    pub fn is_within(&self, viewer: &Viewer) -> bool {
        let own = self.owner == Some(viewer.user);
        match viewer.reach {
            Reach::Any => true,
            Reach::Own => own,
            Reach::Shared => own || self.shared != SharedWith::Nobody,
        }
    }
}
