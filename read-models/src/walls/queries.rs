//! Every public query, asked by tenant `a` for what is tenant `b`'s.

use std::collections::BTreeSet;

use domain::access::{Reach, SharedWith};

use super::rows::{A, B, id, is_of, tenant};
use crate::store::ReadModels;
use crate::viewer::Viewer;
use crate::{ApiKeyFilter, AuditFilter, BulkJobFilter, DeadLetterFilter, ExecutionFilter, UserFilter};

/// What is asked of no tenant: opening, checkpoints, and what is meant for operators and the projection.
pub(super) const UNTENANTED: &[&str] = &[
    "begin",
    "begin_shadow",
    "checkpoints",
    "close",
    "dump_rows",
    "generation",
    "open",
    "open_postgres",
    "open_postgres_existing",
    "open_temporary",
    "parked",
    "start_rebuild",
    "tenants",
    "unfinished_bulk_jobs",
    "wait_for",
];

/// Names the queries and asks them: each expression says whether something of `b` came back.
macro_rules! queries {
    (|$models:ident, $viewer:ident| $($name:ident => $leaks:expr,)+) => {
        /// The queries whose answers are a tenant's.
        pub(super) const LEAKS: &[&str] = &[$(stringify!($name)),+];

        /// Which of them show tenant `a` something of `b`, to viewers of any reach. The user is the one in `b` to whom
        /// all of it belongs: nothing but the tenant stands between.
        pub(super) async fn leaks($models: &ReadModels) -> BTreeSet<&'static str> {
            let mut found = BTreeSet::new();
            for reach in [Reach::Own, Reach::Shared, Reach::Any] {
                let $viewer = &Viewer { tenant: tenant(A), user: id(B, "user"), reach };
                $(if $leaks { found.insert(stringify!($name)); })+
            }
            found
        }
    };
}

queries! { |models, viewer|
    api_key => models.api_key(&viewer.tenant, id(B, "key")).await.unwrap().is_some(),
    api_keys => {
        let page = models.api_keys(viewer, &ApiKeyFilter::default(), None, 50).await.unwrap();
        page.items.iter().any(|row| is_of(B, &row.tenant))
    },
    audit => {
        let page = models.audit(&viewer.tenant, &AuditFilter::default(), None, 50).await.unwrap();
        page.items.iter().any(|row| is_of(B, &row.tenant))
    },
    bulk_job => models.bulk_job(&viewer.tenant, id(B, "bulk")).await.unwrap().is_some(),
    bulk_jobs => {
        let page = models.bulk_jobs(viewer, &BulkJobFilter::default(), None, 50).await.unwrap();
        page.items.iter().any(|row| is_of(B, &row.tenant))
    },
    dead_letter => models.dead_letter(&viewer.tenant, id(B, "letter")).await.unwrap().is_some(),
    dead_letter_seen => models.dead_letter_seen(viewer, id(B, "letter")).await.unwrap().is_some(),
    dead_letters => {
        let filter = DeadLetterFilter::default();
        let page = models.dead_letters(viewer, &filter, None, 50).await.unwrap();
        page.items.iter().any(|letter| letter.id == id(B, "letter"))
    },
    execution => models.execution(&viewer.tenant, id(B, "execution")).await.unwrap().is_some(),
    execution_seen => models.execution_seen(viewer, id(B, "execution")).await.unwrap().is_some(),
    executions => {
        let page = models.executions(viewer, &ExecutionFilter::default(), None, 50).await.unwrap();
        page.items.iter().any(|view| view.id == id(B, "execution"))
    },
    nodes_of => {
        let page = models.nodes_of(viewer, id(B, "execution"), "loop", None, 50).await.unwrap();
        !page.items.is_empty()
    },
    shared_users => !models.shared_users(&viewer.tenant, id(B, "workflow")).await.unwrap().is_empty(),
    sharing => {
        let shared = models.sharing(&viewer.tenant, id(B, "workflow"), viewer.user).await.unwrap();
        shared != SharedWith::Nobody
    },
    tenant => models.tenant(&viewer.tenant).await.unwrap().is_some_and(|row| is_of(B, &row.tenant)),
    user => models.user(&viewer.tenant, id(B, "user")).await.unwrap().is_some(),
    users => {
        let page = models.users(viewer, &UserFilter::default(), None, 50).await.unwrap();
        page.items.iter().any(|row| is_of(B, &row.tenant))
    },
    workflow => models.workflow(&viewer.tenant, id(B, "workflow")).await.unwrap().is_some(),
    workflow_seen => models.workflow_seen(viewer, id(B, "workflow")).await.unwrap().is_some(),
    workflow_version => {
        models.workflow_version(&viewer.tenant, id(B, "workflow"), 1).await.unwrap().is_some()
    },
    workflow_versions => {
        let page = models.workflow_versions(viewer, id(B, "workflow"), None, 50).await.unwrap();
        page.items.iter().any(|row| is_of(B, &row.tenant))
    },
    workflows => {
        let page = models.workflows(viewer, None, 50).await.unwrap();
        page.items.iter().any(|row| is_of(B, &row.tenant))
    },
}
