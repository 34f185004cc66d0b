-- Only what is new. What an earlier release has projected belongs to nobody and is shared with nobody, so that only those
-- see it who see everything; `everline projection rebuild` adds what the log knows.

alter table workflows add column owner uuid;

alter table workflows add column visibility text collate "C" not null default 'private';

alter table workflows add column shared_access text collate "C" not null default 'read';

-- Read by the lists of those who see what is shared: workflows that everybody of a tenant sees.
create index workflows_public on workflows (tenant, id) where visibility = 'public';

-- With whom a workflow is shared. The primary key serves the projection and the judgement of one workflow.
create table workflow_shares (
    tenant text collate "C" not null,
    workflow_id uuid not null,
    user_id uuid not null,
    primary key (tenant, workflow_id, user_id)
);

-- Read by the lists of those who see what is shared.
create index workflow_shares_by_user on workflow_shares (tenant, user_id, workflow_id);

-- Never changed by an upsert: an execution stays whose it is.
alter table executions add column owner uuid;

-- Read by the lists of those who see their own, and with an `owner` filter.
create index executions_by_owner on executions (tenant, owner, id) where owner is not null;

-- The primary key serves the list. A tenant has few users: other filters look at its rows.
create table users (
    tenant text collate "C" not null,
    id uuid not null,
    email text collate "C" not null,
    name text collate "C",
    role text collate "C" not null,
    status text collate "C" not null,
    operator boolean not null,
    email_verified boolean not null,
    totp boolean not null,
    providers text collate "C" not null,
    version bigint not null,
    created_at bigint not null,
    updated_at bigint not null,
    created_by text collate "C" not null,
    primary key (tenant, id)
);

create table api_keys (
    tenant text collate "C" not null,
    id uuid not null,
    name text collate "C" not null,
    owner uuid not null,
    fingerprint text collate "C" not null,
    scopes text collate "C" not null,
    expires_at bigint,
    revoked_at bigint,
    version bigint not null,
    created_at bigint not null,
    created_by text collate "C" not null,
    primary key (tenant, id)
);

-- Read by the list of one's own keys.
create index api_keys_by_owner on api_keys (tenant, owner, id);

-- A tenant's id is its slug; `stream` is where its events are.
create table tenants (
    tenant text collate "C" not null primary key,
    stream uuid not null,
    name text collate "C" not null,
    settings text collate "C" not null,
    suspended boolean not null,
    version bigint not null,
    created_at bigint not null,
    updated_at bigint not null
);

-- One row per command or other act. `logged`: an event of the command is known; `noted`: the gateway's entry is.
-- The primary key is where the two meet.
create table audit (
    tenant text collate "C" not null,
    id uuid not null,
    at bigint not null,
    logged boolean not null,
    noted boolean not null,
    actor text collate "C" not null,
    user_id uuid,
    action text collate "C" not null,
    permission text collate "C",
    route text collate "C",
    resource text collate "C",
    result text collate "C" not null,
    code text collate "C",
    log_position text collate "C",
    ip text collate "C",
    user_agent text collate "C",
    count bigint not null,
    primary key (tenant, id)
);

-- Read by the list of the audit, newest first. Ids that are derived from an idempotency key are in no order of time.
-- What a command's entry adds to its row changes no column of an index.
create index audit_by_time on audit (tenant, at, id);

create table bulk_jobs (
    tenant text collate "C" not null,
    id uuid not null,
    status text collate "C" not null,
    owner uuid not null,
    action text collate "C" not null,
    filter text collate "C" not null,
    reason text collate "C" not null,
    per_second bigint not null,
    found bigint not null,
    upper uuid not null,
    acting text collate "C" not null,
    lease_runner uuid,
    lease_until bigint,
    cursor uuid,
    done bigint not null,
    failed bigint not null,
    failures text collate "C" not null,
    version bigint not null,
    created_at bigint not null,
    updated_at bigint not null,
    finished_at bigint,
    created_by text collate "C" not null,
    primary key (tenant, id)
);

-- Read by the runners of bulk jobs, of all tenants.
create index bulk_jobs_unfinished on bulk_jobs (id) where status = 'running';

-- The second wall: whatever a query's conditions, it sees the rows of the tenant that its connection works for. The
-- projection and the queries of operators say `*`. Subqueries, so that the setting is read once per statement and not
-- per row. Shadow tables get the same from the program.
do $$
declare
    walled text;
begin
    foreach walled in array array['workflows', 'workflow_versions', 'workflow_shares', 'executions',
        'execution_nodes', 'dead_letters', 'users', 'api_keys', 'tenants', 'audit', 'bulk_jobs']
    loop
        execute format('alter table %I enable row level security, force row level security', walled);
        execute format('create policy tenant_wall on %I '
            'using (tenant = (select current_setting(''everline.tenant'', true)) '
            'or (select current_setting(''everline.tenant'', true) = ''*''))', walled);
    end loop;
end $$;
