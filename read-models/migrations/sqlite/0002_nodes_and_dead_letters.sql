-- Only what is new: the tables of version 1 stay as they are, with two columns more. What an earlier release has
-- projected is shown as far as it is there; `everline projection rebuild` adds the rest.

alter table executions add column parent_id blob;

alter table executions add column origin_id blob;

-- Read by the list of executions with a `parent` filter: the children of an execution.
create index executions_by_parent on executions (tenant, parent_id, id) where parent_id is not null;

-- Read by the list of executions with an `origin` filter: the forks of an execution.
create index executions_by_origin on executions (tenant, origin_id, id) where origin_id is not null;

-- Nodes inside loops and branches. The primary key serves the projection, which knows a path's parts, and the list of
-- a container's nodes in the order of its iterations.
create table execution_nodes (
    tenant text not null,
    execution_id blob not null,
    parent text not null,
    iteration integer not null,
    node_id text not null,
    view text not null,
    primary key (tenant, execution_id, parent, iteration, node_id)
);

-- Nodes that ran out of attempts; `id` is that of the event that says so.
create table dead_letters (
    tenant text not null,
    id blob not null,
    redriven integer not null,
    execution_id blob not null,
    workflow_id blob not null,
    node_id text not null,
    error_kind text not null,
    dead_lettered_at integer not null,
    redriven_at integer,
    view text not null,
    primary key (tenant, id)
);

-- Read by the list of dead letters, which shows either those that wait or those that were redriven.
create index dead_letters_by_redriven on dead_letters (tenant, redriven, id);

-- Read by the projection when an execution is retried, and by the list with an `execution_id` filter.
create index dead_letters_by_execution on dead_letters (tenant, execution_id, id);
