-- Everything here can be derived again from the log. Ids are 16-byte UUIDv7 blobs, times milliseconds since
-- 1970, JSON is text. A rebuild copies the text of these definitions: keep one `create` per statement, and
-- keep the columns of a table and of an index in one pair of parentheses.

create table workflows (
    tenant text not null,
    id blob not null,
    name text not null,
    description text,
    latest_version integer not null,
    published_version integer,
    enabled integer not null,
    deleted integer not null,
    etag integer not null,
    created_at integer not null,
    updated_at integer not null,
    created_by text not null,
    definition text not null,
    primary key (tenant, id)
);

create table workflow_versions (
    tenant text not null,
    workflow_id blob not null,
    version integer not null,
    hash text not null,
    created_at integer not null,
    created_by text not null,
    definition text not null,
    primary key (tenant, workflow_id, version)
);

-- `view` is last, so that filters read a row's head without following it into overflow pages. The primary key
-- serves the list of a tenant: newest first is `id desc`, because ids are made in time order.
create table executions (
    tenant text not null,
    id blob not null,
    partition integer not null,
    workflow_id blob not null,
    workflow_name text not null,
    status text not null,
    started_at integer not null,
    finished_at integer,
    priority integer not null,
    version integer not null,
    error text,
    attributes text not null,
    view text not null,
    primary key (tenant, id)
);

-- Read by the list of executions with a `workflow_id` filter. Other filters scan: each further index would be
-- paid by every upsert.
create index executions_by_workflow on executions (tenant, workflow_id, id);

create table checkpoints (
    projection text not null,
    partition integer not null,
    last_offset integer not null,
    primary key (projection, partition)
);

-- Counts rebuilds, so that a writer notices that the tables under its cache were exchanged.
create table projections (
    name text not null primary key,
    generation integer not null
);

-- Streams with an event that cannot be folded. `skipped` counts the later events that were passed over.
create table parked_streams (
    projection text not null,
    stream blob not null,
    partition integer not null,
    event_offset integer not null,
    reason text not null,
    skipped integer not null,
    primary key (projection, stream)
);
