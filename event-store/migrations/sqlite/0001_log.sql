-- The log on SQLite. Forward only: later migrations expand, then contract.
--
-- Layout by measurement (500 events of 100 streams in one transaction, synchronous=full, events/s):
-- events with a rowid and two indexes 88,000; keyed by position in the rowid 80,000; without rowid 74,000.
-- A rowid table only ever grows at its right edge, which SQLite does fastest; the indexes' entries are small.

create table meta (
    key text primary key,
    value text not null
) without rowid;

-- One row per partition from the start; `epoch` is the fencing token.
create table partitions (
    partition integer primary key,
    epoch integer not null
);

-- One row per partition and batch that holds events. The key reads the last commit (head, previous hash) and
-- pages the chain when it is verified. `head` is the last offset; the first is head - event_count + 1.
create table commits (
    partition integer not null,
    head integer not null,
    epoch integer not null,
    event_count integer not null,
    merkle_root blob not null,
    hash blob not null,
    committed_at integer not null,
    primary key (partition, head)
) without rowid;

-- `bucket` is the birth month of the stream (from its id), so that old streams can be moved away whole.
create table events (
    partition integer not null,
    offset integer not null,
    bucket integer not null,
    stream blob not null,
    version integer not null,
    tenant text not null,
    type text not null,
    schema_version integer not null,
    id blob not null,
    recorded_at integer not null,
    correlation_id blob not null,
    causation_id blob not null,
    actor text not null,
    traceparent text,
    codec integer not null,
    key_id text,
    data blob not null
);

-- Read by read_partition and verify_chain; keeps offsets unique.
create unique index events_by_position on events (partition, offset);

-- Read by read_stream, by the version probes of append, and by wakeups (last event of a stream); keeps
-- versions unique.
create unique index events_by_stream on events (bucket, stream, version);

create trigger events_refuse_update before update on events
begin
    select raise(abort, 'events are never changed');
end;

create trigger events_refuse_delete before delete on events
begin
    select raise(abort, 'events are never changed');
end;

create trigger commits_refuse_update before update on commits
begin
    select raise(abort, 'commits are never changed');
end;

create trigger commits_refuse_delete before delete on commits
begin
    select raise(abort, 'commits are never changed');
end;

-- Insertion order is time order, so old rows are found at the left edge of the rowid without an index by day.
create table commands (
    command_id blob not null,
    digest blob,
    answer blob not null,
    partition integer not null,
    offset integer not null,
    day integer not null
);

-- Read by command_answer and by the duplicate probe; refuses the second append of a command.
create unique index commands_by_id on commands (command_id);

-- Insert-only until past. The key reads what is due (wakeups) and what is past (forget_past).
create table wakeups (
    partition integer not null,
    due_at integer not null,
    stream blob not null,
    kind text not null,
    bucket integer not null,
    tenant text not null,
    primary key (partition, due_at, stream, kind)
) without rowid;

-- The key reads the holder of a name (claim_holder) and keeps names unique.
create table claims (
    tenant text not null,
    kind text not null,
    key text not null,
    stream blob not null,
    primary key (tenant, kind, key)
) without rowid;

create table blobs (
    tenant text not null,
    sha256 text not null,
    media_type text not null,
    bytes integer not null,
    content blob not null
);

-- Read by read_blob; stores the same content of a tenant once.
create unique index blobs_by_hash on blobs (tenant, sha256);

-- Beside the log, not in it: hashes by which secrets are recognised. Rows change and go.
create table verifiers (
    kind text not null,
    lookup text not null,
    tenant text not null,
    principal text not null,
    name text not null,
    hash text not null,
    family blob,
    created_at integer not null,
    expires_at integer,
    used_at integer,
    primary key (kind, lookup)
) without rowid;

-- Read by list.
create index verifiers_by_tenant on verifiers (kind, tenant);

-- Read by delete_family.
create index verifiers_by_family on verifiers (family) where family is not null;

-- Read by forget_expired.
create index verifiers_by_expiry on verifiers (expires_at) where expires_at is not null;

-- How far readers without tables of their own are. The key reads and moves one.
create table checkpoints (
    reader text not null,
    partition integer not null,
    last_offset integer not null,
    primary key (reader, partition)
) without rowid;
