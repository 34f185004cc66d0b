-- Read by of_principal: the sessions, second factors and one-time tokens of a user.
create index verifiers_by_principal on verifiers (principal, kind);

-- When sessions and keys were last used, give or take a minute: a session's family, a key's stream.
create table verifier_uses (
    id blob not null primary key,
    used_at integer not null
) without rowid;
