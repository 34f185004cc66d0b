-- Only what is new. What an earlier release has projected belongs to nobody and is shared with nobody, so that only those
-- see it who see everything; `everline projection rebuild` adds what the log knows.

alter table workflows add column owner blob;

alter table workflows add column visibility text not null default 'private';

alter table workflows add column shared_access text not null default 'read';

-- Read by the lists of those who see what is shared: workflows that everybody of a tenant sees.
create index workflows_public on workflows (tenant, id) where visibility = 'public';

-- With whom a workflow is shared. The primary key serves the projection and the judgement of one workflow.
create table workflow_shares (
    tenant text not null,
    workflow_id blob not null,
    user_id blob not null,
    primary key (tenant, workflow_id, user_id)
);

-- Read by the lists of those who see what is shared.
create index workflow_shares_by_user on workflow_shares (tenant, user_id, workflow_id);

-- Never changed by an upsert: an execution stays whose it is.
alter table executions add column owner blob;

-- Read by the lists of those who see their own, and with an `owner` filter.
create index executions_by_owner on executions (tenant, owner, id) where owner is not null;

-- The primary key serves the list. A tenant has few users: other filters look at its rows.
create table users (
    tenant text not null,
    id blob not null,
    email text not null,
    name text,
    role text not null,
    status text not null,
    operator integer not null,
    email_verified integer not null,
    totp integer not null,
    providers text not null,
    version integer not null,
    created_at integer not null,
    updated_at integer not null,
    created_by text not null,
    primary key (tenant, id)
);

create table api_keys (
    tenant text not null,
    id blob not null,
    name text not null,
    owner blob not null,
    fingerprint text not null,
    scopes text not null,
    expires_at integer,
    revoked_at integer,
    version integer not null,
    created_at integer not null,
    created_by text not null,
    primary key (tenant, id)
);

-- Read by the list of one's own keys.
create index api_keys_by_owner on api_keys (tenant, owner, id);

-- A tenant's id is its slug; `stream` is where its events are.
create table tenants (
    tenant text not null primary key,
    stream blob not null,
    name text not null,
    settings text not null,
    suspended integer not null,
    version integer not null,
    created_at integer not null,
    updated_at integer not null
);

-- One row per command or other act. `logged`: an event of the command is known; `noted`: the gateway's entry is.
-- The primary key is where the two meet.
create table audit (
    tenant text not null,
    id blob not null,
    at integer not null,
    logged integer not null,
    noted integer not null,
    actor text not null,
    user_id blob,
    action text not null,
    permission text,
    route text,
    resource text,
    result text not null,
    code text,
    log_position text,
    ip text,
    user_agent text,
    count integer not null,
    primary key (tenant, id)
);

-- Read by the list of the audit, newest first. Ids that are derived from an idempotency key are in no order of time.
-- What a command's entry adds to its row changes no column of an index.
create index audit_by_time on audit (tenant, at, id);

create table bulk_jobs (
    tenant text not null,
    id blob not null,
    status text not null,
    owner blob not null,
    action text not null,
    filter text not null,
    reason text not null,
    per_second integer not null,
    found integer not null,
    upper blob not null,
    acting text not null,
    lease_runner blob,
    lease_until integer,
    cursor blob,
    done integer not null,
    failed integer not null,
    failures text not null,
    version integer not null,
    created_at integer not null,
    updated_at integer not null,
    finished_at integer,
    created_by text not null,
    primary key (tenant, id)
);

-- Read by the runners of bulk jobs, of all tenants.
create index bulk_jobs_unfinished on bulk_jobs (id) where status = 'running';
