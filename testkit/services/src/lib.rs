//! Real servers for tests: a private Postgres and a private nats-server, on free ports of loopback.
