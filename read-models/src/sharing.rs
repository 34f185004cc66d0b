//! With whom workflows are shared: SQL and queries.

use uuid::Uuid;

use domain::access::SharedWith;
use domain::ids::TenantId;
use domain::workflow::event::{ShareAccess, Visibility};

use crate::ReadModelError;
use crate::rows::WorkflowRow;
use crate::sql::{Columns, Statement};
use crate::store::ReadModels;
use crate::viewer::{Seen, Viewer};
use crate::write::WriteTx;

impl ReadModels {
    /// How a workflow is shared with a user. Not at all, if there is none.
    pub async fn sharing(
        &self,
        tenant: &TenantId,
        workflow: Uuid,
        user: Uuid,
    ) -> Result<SharedWith, ReadModelError> {
        let statement = Statement::of(
            tenant,
            "select w.shared_access, w.visibility = 'public' or exists (select 1 from workflow_shares s \
             where s.tenant = $1 and s.workflow_id = $2 and s.user_id = $3) \
             from workflows w where w.tenant = $1 and w.id = $2",
        )
        .bind(tenant.as_str())
        .bind(workflow)
        .bind(user);
        let row = self.inner.db.fetch_optional(statement).await;
        let Some(row) = row.map_err(ReadModelError::database("read how a workflow is shared"))? else {
            return Ok(SharedWith::Nobody);
        };
        let mut columns = Columns::of(&row, "workflows");
        let access = columns.named()?;
        Ok(if columns.take()? { SharedWith::Them(access) } else { SharedWith::Nobody })
    }

    /// The users with whom a workflow is shared by name, ascending. An event names at most 200.
    pub async fn shared_users(&self, tenant: &TenantId, workflow: Uuid) -> Result<Vec<Uuid>, ReadModelError> {
        let statement = Statement::of(
            tenant,
            "select user_id from workflow_shares where tenant = $1 and workflow_id = $2 order by user_id",
        )
        .bind(tenant.as_str())
        .bind(workflow);
        let rows = self.inner.db.fetch_all(statement).await;
        let rows = rows.map_err(ReadModelError::database("list with whom a workflow is shared"))?;
        rows.iter().map(|row| Columns::of(row, "workflow_shares").take()).collect()
    }

    /// A workflow, also a deleted one, with what a judgement needs.
    pub async fn workflow_seen(
        &self,
        viewer: &Viewer,
        id: Uuid,
    ) -> Result<Option<Seen<WorkflowRow>>, ReadModelError> {
        let Some(row) = self.workflow(&viewer.tenant, id).await? else { return Ok(None) };
        let owner = row.owner;
        let shared = self.shared_with(viewer, owner, id).await?;
        Ok(Some(Seen { item: row, owner, shared }))
    }

    /// How a workflow, or an execution of it, is shared with a viewer; asked only where it matters.
    pub(crate) async fn shared_with(
        &self,
        viewer: &Viewer,
        owner: Option<Uuid>,
        workflow: Uuid,
    ) -> Result<SharedWith, ReadModelError> {
        if !viewer.is_bounded() || owner == Some(viewer.user) {
            return Ok(SharedWith::Nobody);
        }
        self.sharing(&viewer.tenant, workflow, viewer.user).await
    }
}

impl WriteTx {
    /// Has a workflow shared with these users, and no others.
    pub async fn put_workflow_shares(
        &mut self,
        tenant: &TenantId,
        workflow: Uuid,
        users: &[Uuid],
    ) -> Result<(), ReadModelError> {
        let table = self.side.table("workflow_shares");
        let failed = || ReadModelError::database("write with whom a workflow is shared");
        let clear = format!("delete from {table} where tenant = $1 and workflow_id = $2");
        let clear = Statement::new(clear).bind(tenant.as_str()).bind(workflow);
        self.tx.execute(clear).await.map_err(failed())?;
        for user in users {
            let add = format!(
                "insert into {table} (tenant, workflow_id, user_id) values ($1, $2, $3) on conflict do nothing"
            );
            let add = Statement::new(add).bind(tenant.as_str()).bind(workflow).bind(*user);
            self.tx.execute(add).await.map_err(failed())?;
        }
        Ok(())
    }
}

pub(crate) fn visibility_name(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Private => "private",
        Visibility::Public => "public",
    }
}

pub(crate) fn access_name(access: ShareAccess) -> &'static str {
    match access {
        ShareAccess::Read => "read",
        ShareAccess::Execute => "execute",
    }
}
