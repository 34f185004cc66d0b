-- The log on Postgres. Forward only: later migrations expand, then contract. Runs inside one transaction, with
-- search_path set to the log's schema.
--
-- Keys of text are compared by their bytes (collate "C"): the order is SQLite's, and an index outlives an update of
-- the system's collations. Wide columns stand first, so that no row has padding.

create table meta (
    key text primary key,
    value text not null
);

-- One row per partition from the start; `epoch` is the fencing token. Never changed by an append (see everline_append
-- for the one exception).
create table partitions (
    partition int4 primary key,
    epoch int8 not null default 0,
    -- No wakeup that is due at or before this time is there. Readers begin behind it: deleted rows that a long
    -- transaction elsewhere keeps from being vacuumed are not stepped over again and again.
    past_until int8 not null default -9000000000000000,
    -- Who took it over last; null if it was given up since.
    owner uuid
) with (fillfactor = 50);

-- Who lives. By the database's clock only. Few rows, changed twice a second each.
create table nodes (
    node uuid primary key,
    name text not null,
    draining boolean not null,
    alive_until timestamptz not null
) with (fillfactor = 50);

-- One row per partition and batch that holds events. The key reads the last commit (head, previous hash) and pages
-- the chain when it is verified. `head` is the last offset; the first is head - event_count + 1.
create table commits (
    head int8 not null,
    epoch int8 not null,
    event_count int8 not null,
    committed_at int8 not null,
    partition int4 not null,
    merkle_root bytea not null,
    hash bytea not null,
    primary key (partition, head)
);

-- `bucket` is the birth month of the stream (from its id, months since January 1970), so that old streams can be
-- archived and dropped whole. Its tables are made by everline_create_buckets.
create table events (
    "offset" int8 not null,
    version int8 not null,
    recorded_at int8 not null,
    partition int4 not null,
    bucket int4 not null,
    schema_version int4 not null,
    codec int4 not null,
    stream uuid not null,
    id uuid not null,
    correlation_id uuid not null,
    causation_id uuid not null,
    tenant text collate "C" not null,
    type text collate "C" not null,
    actor text collate "C" not null,
    traceparent text collate "C",
    key_id text collate "C",
    data bytea not null
) partition by range (bucket);

-- Read by read_partition and verify_chain. Keeps offsets unique within a bucket; across buckets everline_append
-- does, which compares the partition's end under its lock.
create unique index events_by_position on events (partition, "offset", bucket);

-- Read by read_stream, by the version probes of append, and by wakeups (last event of a stream); keeps versions
-- unique.
create unique index events_by_stream on events (bucket, stream, version);

-- Streams from before Everline was: ids that were made up, as tests do.
create table events_early (like events including defaults including constraints);
alter table events attach partition events_early for values from (minvalue) to (600);

create function everline_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% are never changed', tg_argv[0] using errcode = 'restrict_violation';
end $$;

-- For each row: only such triggers are handed on to the tables of the buckets.
create trigger events_refuse_change before update or delete on events
    for each row execute function everline_refuse_change('events');
create trigger events_refuse_truncate before truncate on events
    for each statement execute function everline_refuse_change('events');
create trigger events_refuse_truncate before truncate on events_early
    for each statement execute function everline_refuse_change('events');
create trigger commits_refuse_change before update or delete on commits
    for each row execute function everline_refuse_change('commits');
create trigger commits_refuse_truncate before truncate on commits
    for each statement execute function everline_refuse_change('commits');
revoke update, delete, truncate on events, events_early, commits from public;

-- Answers to commands, by the day on which they were decided (days since 1970): a day is dropped whole.
create table commands (
    "offset" int8 not null,
    partition int4 not null,
    day int4 not null,
    command_id uuid not null,
    digest bytea,
    answer bytea not null
) partition by range (day);

-- Read by command_answer and by the duplicate probes; refuses the second append of a command on the same day.
create unique index commands_by_id on commands (command_id, day);

-- One table, whose past rows are deleted: buckets by due day would have to be dropped, which waits for every
-- transaction that reads and makes appends wait behind it; what is due far ahead would need a table of its own that
-- is deleted from anyway; and a row written as "far ahead" and again as "this week" would be there twice. Rows are
-- few and small beside the events of their streams. The key reads what is due (wakeups) and what is past
-- (forget_past).
create table wakeups (
    due_at int8 not null,
    partition int4 not null,
    bucket int4 not null,
    stream uuid not null,
    kind text collate "C" not null,
    tenant text collate "C" not null,
    primary key (partition, due_at, stream, kind)
) with (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);

-- The key reads the holder of a name (claim_holder) and keeps names unique.
create table claims (
    tenant text collate "C" not null,
    kind text collate "C" not null,
    key text collate "C" not null,
    stream uuid not null,
    primary key (tenant, kind, key)
);

-- The key reads a value (read_blob) and stores the same content of a tenant once.
create table blobs (
    bytes int8 not null,
    tenant text collate "C" not null,
    sha256 text collate "C" not null,
    media_type text not null,
    content bytea not null,
    primary key (tenant, sha256)
);

-- Beside the log, not in it: hashes by which secrets are recognised. Rows change and go.
create table verifiers (
    kind text collate "C" not null,
    lookup text collate "C" not null,
    tenant text collate "C" not null,
    principal text not null,
    name text not null,
    hash text not null,
    family uuid,
    created_at int8 not null,
    expires_at int8,
    used_at int8,
    primary key (kind, lookup)
);

-- Read by list.
create index verifiers_by_tenant on verifiers (kind, tenant);

-- Read by delete_family.
create index verifiers_by_family on verifiers (family) where family is not null;

-- Read by forget_expired.
create index verifiers_by_expiry on verifiers (expires_at) where expires_at is not null;

-- How far readers without tables of their own are. The key reads and moves one.
create table checkpoints (
    reader text collate "C" not null,
    partition int4 not null,
    last_offset int8 not null,
    primary key (reader, partition)
) with (fillfactor = 50);

-- Advisory locks of the log: (1163284301, partition) for a partition's end, (1163284302, 0) for buckets,
-- (1163284303, 0) for migrations, (1163284304, hash) for a family of verifiers.

-- Makes the transaction's commit wait for the disk, and nothing less.
create function everline_durable() returns void language plpgsql as $$
begin
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
end $$;

-- Writes a batch, or nothing. Returns 0: written; 1: a partition is under another epoch or ends elsewhere than the
-- caller believed (h_: epoch, last offset, last hash); 2: a command was answered on an earlier day; 3: a name is held
-- by somebody else than the caller believed (n_before).
--
-- The locks are taken in statements of their own: in READ COMMITTED what follows sees all that was committed under
-- them. They are ascending, so that no two appends wait for each other. What is committed becomes visible before
-- they are given back, so offsets become visible in their order.
--
-- Everything else that was judged of these partitions before the call (versions, answers) still holds if their ends
-- are where the caller believed them.
create function everline_append(
    h_partition int4[], h_epoch int8[], h_offset int8[], h_hash bytea[],
    c_partition int4[], c_head int8[], c_epoch int8[], c_count int8[], c_root bytea[], c_hash bytea[],
    c_committed_at int8[],
    e_partition int4[], e_offset int8[], e_bucket int4[], e_stream uuid[], e_version int8[], e_tenant text[],
    e_type text[], e_schema_version int4[], e_id uuid[], e_recorded_at int8[], e_correlation_id uuid[],
    e_causation_id uuid[], e_actor text[], e_traceparent text[], e_codec int4[], e_key_id text[], e_data bytea[],
    d_id uuid[], d_digest bytea[], d_answer bytea[], d_partition int4[], d_offset int8[], d_day int4[],
    w_partition int4[], w_due_at int8[], w_stream uuid[], w_kind text[], w_bucket int4[], w_tenant text[],
    n_tenant text[], n_kind text[], n_key text[], n_before uuid[], n_after uuid[],
    b_tenant text[], b_sha256 text[], b_media_type text[], b_content bytea[]
) returns int4 language plpgsql volatile as $$
declare
    locked int4;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'appends need the isolation level read committed';
    end if;
    perform everline_durable();
    foreach locked in array h_partition loop
        perform pg_advisory_xact_lock(1163284301, locked);
    end loop;

    if exists (
        select 1 from unnest(h_partition, h_epoch, h_offset, h_hash) as h (partition, epoch, "offset", hash)
        left join lateral (select p.epoch from partitions p where p.partition = h.partition limit 1) p on true
        left join lateral (select c.head, c.hash from commits c where c.partition = h.partition
                           order by c.head desc limit 1) c on true
        where p.epoch is distinct from h.epoch or coalesce(c.head, 0) <> h."offset"
           or coalesce(c.hash, decode(repeat('00', 32), 'hex')) <> h.hash
    ) then
        return 1;
    end if;

    -- The day itself is watched by its unique index, days before the one before are forgotten. One walk of the index
    -- with all ids, instead of one for each.
    if exists (
        select 1 from commands c
        where c.command_id = any (d_id)
          and c.day >= (select min(d.day) - 1 from unnest(d_day) as d (day))
          and c.day < (select max(d.day) from unnest(d_day) as d (day))
    ) then
        return 2;
    end if;

    if cardinality(n_key) > 0 then
        if exists (
            select 1 from unnest(n_tenant, n_kind, n_key, n_before) as n (tenant, kind, key, before)
            left join lateral (select c.stream from claims c where c.tenant = n.tenant and c.kind = n.kind
                               and c.key = n.key limit 1) c on true
            where c.stream is distinct from n.before
        ) then
            return 3;
        end if;
        delete from claims c using unnest(n_tenant, n_kind, n_key, n_before, n_after)
            as n (tenant, kind, key, before, after)
        where n.after is distinct from n.before
          and c.tenant = n.tenant and c.kind = n.kind and c.key = n.key and c.stream = n.before;
        insert into claims (tenant, kind, key, stream)
        select n.tenant, n.kind, n.key, n.after
        from unnest(n_tenant, n_kind, n_key, n_before, n_after) as n (tenant, kind, key, before, after)
        where n.after is distinct from n.before and n.after is not null;
    end if;

    insert into events (partition, "offset", bucket, stream, version, tenant, type, schema_version, id, recorded_at,
                        correlation_id, causation_id, actor, traceparent, codec, key_id, data)
    select * from unnest(e_partition, e_offset, e_bucket, e_stream, e_version, e_tenant, e_type, e_schema_version,
                         e_id, e_recorded_at, e_correlation_id, e_causation_id, e_actor, e_traceparent, e_codec,
                         e_key_id, e_data);
    insert into commits (partition, head, epoch, event_count, merkle_root, hash, committed_at)
    select * from unnest(c_partition, c_head, c_epoch, c_count, c_root, c_hash, c_committed_at);
    insert into commands (command_id, digest, answer, partition, "offset", day)
    select * from unnest(d_id, d_digest, d_answer, d_partition, d_offset, d_day);

    if cardinality(w_due_at) > 0 then
        -- The one row that an append may change: somebody is woken earlier than where readers begin.
        update partitions p set past_until = w.first - 1
        from (select u.partition, min(u.due_at) as first from unnest(w_partition, w_due_at) as u (partition, due_at)
              group by u.partition) w
        where p.partition = w.partition and p.past_until >= w.first;
        insert into wakeups (partition, due_at, stream, kind, bucket, tenant)
        select * from unnest(w_partition, w_due_at, w_stream, w_kind, w_bucket, w_tenant)
        on conflict do nothing;
    end if;
    if cardinality(b_sha256) > 0 then
        insert into blobs (tenant, sha256, media_type, bytes, content)
        select b.tenant, b.sha256, b.media_type, length(b.content), b.content
        from unnest(b_tenant, b_sha256, b_media_type, b_content) as b (tenant, sha256, media_type, content)
        on conflict do nothing;
    end if;
    return 0;
end $$;

-- Raises the epoch of a partition and says where it ends; no row for a partition that does not exist.
create function everline_take_over(taken int4, node uuid)
returns table (partition int4, epoch int8, head int8, hash bytea, committed_at int8)
language plpgsql volatile as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'a takeover needs the isolation level read committed';
    end if;
    perform everline_durable();
    perform pg_advisory_xact_lock(1163284301, taken);
    update partitions p set epoch = p.epoch + 1, owner = node where p.partition = taken;
    return query
        select p.partition, p.epoch, c.head, c.hash, c.committed_at from partitions p
        left join lateral (select l.head, l.hash, l.committed_at from commits l where l.partition = p.partition
                           order by l.head desc limit 1) c on true
        where p.partition = taken;
end $$;

-- Deletes wakeups that are past, at most `most`; returns how many. What is not past by the database's clock stays: a
-- former owner whose clock is ahead must not delete what the new one has yet to see. When none are left, readers begin behind them:
-- under the lock of the partition, so that no append puts one there meanwhile.
create function everline_forget_wakeups(of_partition int4, until int8, most int8) returns int8
language plpgsql volatile as $$
declare
    begun int8;
    gone int8;
begin
    until := least(until, (extract(epoch from clock_timestamp()) * 1000)::int8 - 5000);
    select p.past_until into begun from partitions p where p.partition = of_partition;
    if begun is null or begun >= until then
        return 0;
    end if;
    delete from wakeups where ctid = any (array(
        select w.ctid from wakeups w where w.partition = of_partition and w.due_at > begun and w.due_at <= until
        order by w.due_at, w.stream, w.kind limit most));
    get diagnostics gone = row_count;
    if gone < most then
        perform pg_advisory_xact_lock(1163284301, of_partition);
        update partitions p set past_until = until
        where p.partition = of_partition and p.past_until < until and not exists (
            select 1 from wakeups w
            where w.partition = of_partition and w.due_at > p.past_until and w.due_at <= until);
    end if;
    return gone;
end $$;

-- Makes the tables of buckets of events (months since 1970) and commands (days since 1970) that are not there.
-- Attaching lets others read and write the parent meanwhile, as `create table … partition of` does not. At most 32 at
-- once: ids and times that are made up must not fill the database with tables. Whether one is there is read from the
-- catalogue itself: `to_regclass` may answer from before the lock.
create function everline_create_buckets(months int4[], days int4[]) returns void language plpgsql volatile as $$
declare
    bucket int4;
    child text;
    made int4 := 0;
    here oid := (select c.relnamespace from pg_class c where c.oid = 'events'::regclass);
begin
    perform pg_advisory_xact_lock(1163284302, 0);
    foreach bucket in array months loop
        child := 'events_' || bucket;
        if bucket >= 600 and not exists (select 1 from pg_class where relname = child and relnamespace = here) then
            execute format('create table %I (like events including defaults including constraints)', child);
            execute format('revoke update, delete, truncate on %I from public', child);
            execute format('create trigger events_refuse_truncate before truncate on %I
                            for each statement execute function everline_refuse_change(''events'')', child);
            execute format('alter table events attach partition %I for values from (%s) to (%s)',
                           child, bucket, bucket + 1);
            made := made + 1;
        end if;
    end loop;
    foreach bucket in array days loop
        child := 'commands_' || replace(bucket::text, '-', 'before_');
        if not exists (select 1 from pg_class where relname = child and relnamespace = here) then
            execute format('create table %I (like commands including defaults including constraints)', child);
            execute format('alter table commands attach partition %I for values from (%s) to (%s)',
                           child, bucket, bucket + 1);
            made := made + 1;
        end if;
    end loop;
    if made > 32 then
        raise exception 'one append may not need % new tables', made using errcode = 'program_limit_exceeded';
    end if;
end $$;

-- Drops the tables of commands of the days before one, at most eight; returns how many. Whatever the caller's clock
-- says, the days of the last 24 hours stay: today and yesterday, by the database's clock. Dropping locks the parent
-- against everybody, and whoever comes while it waits for that stands behind it: so it is not tried while a long
-- transaction reads there, such as a pg_dump, and waits a moment at most.
create function everline_drop_days(before int4) returns int4 language plpgsql volatile as $$
declare
    child regclass;
    dropped int4 := 0;
    kept_from int4 := least(before, floor(extract(epoch from clock_timestamp()) / 86400)::int4 - 1);
begin
    if not pg_try_advisory_xact_lock(1163284302, 0) then
        return 0;
    end if;
    for child in
        select i.inhrelid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'commands'::regclass
          and substring(pg_get_expr(c.relpartbound, c.oid) from $r$FROM \('?(-?\d+)'?\)$r$)::int4 < kept_from
        order by c.relname limit 8
    loop
        if exists (
            select 1 from pg_locks l join pg_stat_activity a on a.pid = l.pid
            where l.locktype = 'relation' and l.granted and l.pid <> pg_backend_pid()
              and l.database = (select oid from pg_database where datname = current_database())
              and l.relation in (child, 'commands'::regclass)
              and a.xact_start < clock_timestamp() - interval '2 seconds'
        ) then
            return dropped;
        end if;
        perform set_config('lock_timeout', '200ms', true);
        execute format('drop table %s', child);
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;

-- Keeps a mark for a moment: whether anything can be written.
create function everline_try_write() returns void language plpgsql volatile as $$
begin
    perform everline_durable();
    insert into meta (key, value) values ('try_write', repeat('x', 16384))
    on conflict (key) do update set value = excluded.value;
    delete from meta where key = 'try_write';
end $$;
