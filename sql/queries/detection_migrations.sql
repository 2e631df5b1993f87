-- name: lock
-- One migrator at a time per schema; the others wait.
select pg_advisory_lock(hashtextextended('detection_migrations:' || %(schema)s::text, 0));

-- name: unlock
-- Let the next migrator in.
select pg_advisory_unlock(hashtextextended('detection_migrations:' || %(schema)s::text, 0));

-- name: create_schema
-- The schema that holds everything.
create schema if not exists {schema};

-- name: create_table
-- What was applied, and the checksum of what it was.
create table if not exists {schema}.detection_migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
);

-- name: table_exists
-- Whether anything was ever applied.
select exists (
    select from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %(schema)s and c.relname = 'detection_migrations'
);

-- name: act_as_owner
-- What a migration makes belongs to the owner of the rest, whichever of its members migrates.
select set_config('role', pg_get_userbyid(c.relowner), true) from pg_catalog.pg_class c
 where c.oid = '{schema}.detection_migrations'::regclass and pg_has_role(c.relowner, 'MEMBER');

-- name: applied
-- Names and checksums of what was applied.
select name, checksum from {schema}.detection_migrations;

-- name: record
-- Note that a migration was applied.
insert into {schema}.detection_migrations (name, checksum) values (%(name)s, %(checksum)s);
