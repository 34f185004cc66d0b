//! The promises of the log, kept by every implementation ([`contract`]), and what is SQLite's own ([`sqlite`],
//! [`damage`], [`full`]); and moving it ([`transfer`]).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by stopping")]

mod contract;
mod damage;
mod full;
mod sqlite;
mod support;
mod transfer;
