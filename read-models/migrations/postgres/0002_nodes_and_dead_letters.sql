-- Only what is new: the tables of version 1 stay as they are, with two columns more. What an earlier release has
-- projected is shown as far as it is there; `everline projection rebuild` adds the rest.

alter table executions add column parent_id uuid, add column origin_id uuid;

-- Read by the list of executions with a `parent` filter: the children of an execution.
create index executions_by_parent on executions (tenant, parent_id, id) where parent_id is not null;

-- Read by the list of executions with an `origin` filter: the forks of an execution.
create index executions_by_origin on executions (tenant, origin_id, id) where origin_id is not null;

-- Nodes inside loops and branches. The primary key serves the projection, which knows a path's parts, and the list of
-- a container's nodes in the order of its iterations.
create table execution_nodes (
    tenant text collate "C" not null,
    execution_id uuid not null,
    parent text collate "C" not null,
    iteration bigint not null,
    node_id text collate "C" not null,
    view text collate "C" not null,
    primary key (tenant, execution_id, parent, iteration, node_id)
);

-- Nodes that ran out of attempts; `id` is that of the event that says so.
create table dead_letters (
    tenant text collate "C" not null,
    id uuid not null,
    redriven boolean not null,
    execution_id uuid not null,
    workflow_id uuid not null,
    node_id text collate "C" not null,
    error_kind text collate "C" not null,
    dead_lettered_at bigint not null,
    redriven_at bigint,
    view text collate "C" not null,
    primary key (tenant, id)
);

-- Read by the list of dead letters, which shows either those that wait or those that were redriven.
create index dead_letters_by_redriven on dead_letters (tenant, redriven, id);

-- Read by the projection when an execution is retried, and by the list with an `execution_id` filter.
create index dead_letters_by_execution on dead_letters (tenant, execution_id, id);
