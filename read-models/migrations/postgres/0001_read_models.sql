-- Everything here can be derived again from the log. The same tables as on SQLite; times are milliseconds since
-- 1970, JSON is text, byte for byte as it was made. Texts sort by their bytes, as on SQLite. A rebuild copies the
-- tables with `like … including all`: give an index its name here, it keeps it.

create table workflows (
    tenant text collate "C" not null,
    id uuid not null,
    name text collate "C" not null,
    description text collate "C",
    latest_version bigint not null,
    published_version bigint,
    enabled boolean not null,
    deleted boolean not null,
    etag bigint not null,
    created_at bigint not null,
    updated_at bigint not null,
    created_by text collate "C" not null,
    definition text collate "C" not null,
    primary key (tenant, id)
);

create table workflow_versions (
    tenant text collate "C" not null,
    workflow_id uuid not null,
    version bigint not null,
    hash text collate "C" not null,
    created_at bigint not null,
    created_by text collate "C" not null,
    definition text collate "C" not null,
    primary key (tenant, workflow_id, version)
);

-- The primary key serves the list of a tenant: newest first is `id desc`, because ids are made in time order.
create table executions (
    tenant text collate "C" not null,
    id uuid not null,
    partition bigint not null,
    workflow_id uuid not null,
    workflow_name text collate "C" not null,
    status text collate "C" not null,
    started_at bigint not null,
    finished_at bigint,
    priority bigint not null,
    version bigint not null,
    error text collate "C",
    attributes text collate "C" not null,
    view text collate "C" not null,
    primary key (tenant, id)
);

-- Read by the list of executions with a `workflow_id` filter. No index holds a column that an upsert changes, so
-- that Postgres can keep the new row on the old one's page (HOT).
create index executions_by_workflow on executions (tenant, workflow_id, id);

create table checkpoints (
    projection text collate "C" not null,
    partition bigint not null,
    last_offset bigint not null,
    primary key (projection, partition)
);

-- Counts rebuilds, so that a writer notices that the tables under its cache were exchanged.
create table projections (
    name text collate "C" not null primary key,
    generation bigint not null
);

-- Streams with an event that cannot be folded. `skipped` counts the later events that were passed over.
create table parked_streams (
    projection text collate "C" not null,
    stream uuid not null,
    partition bigint not null,
    event_offset bigint not null,
    reason text collate "C" not null,
    skipped bigint not null,
    primary key (projection, stream)
);
