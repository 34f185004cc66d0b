-- Buckets of rate limits, shared by gateways (see src/rate_counters.rs). Unlogged: after a crash of the server they are
-- full again, which is right within a minute. No index but the key: `full_at` changes with every exchange, and its few
-- rows are scanned once a minute. Room in the pages, so that changes stay in them.
create unlogged table rate_counters (
    -- 16 bytes of a hash of what is counted
    key uuid primary key,
    -- microseconds since 1970, by the server's clock, at which the bucket is full
    full_at int8 not null,
    -- the time of the last exchange
    seen_at int8 not null
) with (fillfactor = 50);
