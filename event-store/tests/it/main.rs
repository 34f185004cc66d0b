//! The promises of the log, kept by every implementation ([`contract`]), and what is SQLite's own ([`sqlite`],
//! [`damage`], [`full`]) or Postgres' own ([`postgres`], [`postgres_faults`], [`pooled`], [`pgbouncer`]); and moving
//! it from one to the other ([`transfer`]). The same with large values in a folder or a bucket, and what is these places'
//! own, is in [`values`]. What gateways share of their limits is in [`rate_counters`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by stopping")]

mod contract;
mod damage;
mod full;
mod pgbouncer;
mod pooled;
mod postgres;
mod postgres_faults;
mod rate_counters;
mod sqlite;
mod support;
mod transfer;
mod values;
