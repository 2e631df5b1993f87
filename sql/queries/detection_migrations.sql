-- name: lock
-- One migrator at a time per schema, the others wait; behind a pooler, where a session is others' as well, no lock.
select pg_advisory_lock(hashtextextended('detection_migrations:' || %(schema)s::text, 0))
 where pg_backend_pid() = %(pid)s;

-- name: unlock
-- Let the next migrator in.
select pg_advisory_unlock(hashtextextended('detection_migrations:' || %(schema)s::text, 0))
 where pg_backend_pid() = %(pid)s;

-- name: lock_in_transaction
-- One migration at a time per schema, behind a pooler, too.
select pg_advisory_xact_lock(hashtextextended('detection_migrations:' || %(schema)s::text, 0));

-- name: limit
-- Let no reader or writer queue long behind this transaction: not while it waits for a lock, nor when its client stops.
-- A statement of a migration may take as long as it takes.
select set_config('lock_timeout', %(lock_ms)s, true), set_config('statement_timeout', '0', true),
       set_config('idle_in_transaction_session_timeout', %(idle_ms)s, true);

-- name: create_schema
-- The schema that holds everything.
create schema if not exists {schema};

-- name: create_table
-- The applied migrations with their checksums.
create table if not exists {schema}.detection_migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
);

-- name: table_exists
-- Whether the table of applied migrations exists.
select exists (
    select from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %(schema)s and c.relname = 'detection_migrations'
);

-- name: act_as_owner
-- Act as the owner of the schema's tables, so that all tables have one owner, whichever member migrates.
select set_config('role', pg_get_userbyid(c.relowner), true) from pg_catalog.pg_class c
 where c.oid = '{schema}.detection_migrations'::regclass and pg_has_role(c.relowner, 'MEMBER');

-- name: applied
-- Names and checksums of the applied migrations.
select name, checksum from {schema}.detection_migrations;

-- name: record
-- Note that a migration was applied.
insert into {schema}.detection_migrations (name, checksum) values (%(name)s, %(checksum)s);
