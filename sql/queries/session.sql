-- name: begin
-- Make a session independent of the defaults of the server, the database and the role; behind a pooler, where another
-- process answers than the one connected to, set nothing: the session is others' as well.
select pg_backend_pid() = %(pid)s, current_setting('session_replication_role'),
       (select count(set_config(name, value, false))
          from (values ('TimeZone', 'UTC'), ('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres'),
                       ('client_encoding', 'UTF8'), ('bytea_output', 'hex'), ('extra_float_digits', '1'),
                       ('standard_conforming_strings', 'on'), ('default_transaction_isolation', 'read committed'),
                       ('idle_session_timeout', '0'),
                       ('default_transaction_read_only',
                        case when %(read_only)s then 'on' else current_setting('default_transaction_read_only') end)
               ) as setting (name, value)
         where pg_backend_pid() = %(pid)s);

-- name: run_triggers
-- Let the triggers and foreign keys of the registry work in a session whose role would leave them out.
select set_config('session_replication_role', 'origin', false);

-- name: limit_statements
-- The longest that one statement may take, in milliseconds, until the transaction ends.
select set_config('statement_timeout', %(limit_ms)s, true);

-- name: read_only_transaction
-- Nothing in this transaction may write.
set transaction read only;

-- name: use_schema
-- Names without a schema are looked up in ours, then in public, and values have one text whatever the server's
-- settings are, until the transaction ends.
select set_config('search_path', quote_ident(%(schema)s::text) || ', public', true),
       set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('IntervalStyle', 'postgres', true), set_config('bytea_output', 'hex', true),
       set_config('extra_float_digits', '1', true);

-- name: plan_all_partitions
-- Leave no partition and no child out of a plan, whatever it is asked for, until the transaction ends.
select set_config('enable_partition_pruning', 'off', true), set_config('constraint_exclusion', 'off', true);

-- name: table_names
-- Relations by schema and name, with the table that each is a partition or a child of in its place, as schema.table.
with recursive relations (oid) as (
  select c.oid
    from unnest(%(schemas)s::text[], %(tables)s::text[]) as planned (nspname, relname)
    join pg_namespace n using (nspname)
    join pg_class c on c.relnamespace = n.oid and c.relname = planned.relname
  union
  select i.inhparent from relations join pg_inherits i on i.inhrelid = relations.oid
)
select distinct n.nspname || '.' || c.relname as name
  from relations
  join pg_class c using (oid)
  join pg_namespace n on n.oid = c.relnamespace
 where not exists (select from pg_inherits i where i.inhrelid = c.oid)
 order by name;

-- name: unlock
-- Release the session-level advisory locks of a query.
select pg_advisory_unlock_all();

-- name: limit
-- Nothing in this session (or, behind a pooler, transaction) may write or take longer, and the server ends it when the
-- client is gone or idle in a transaction. Returns its process and start, to end it from another one; sets and returns
-- nothing where another process answers than `pid`.
select pid, backend_start,
       set_config('default_transaction_read_only', 'on', %(is_local)s),
       set_config('client_connection_check_interval', '2s', %(is_local)s),
       set_config('idle_in_transaction_session_timeout', %(idle_ms)s, %(is_local)s),
       set_config('statement_timeout', coalesce(%(limit_ms)s, current_setting('statement_timeout')), %(is_local)s)
from pg_stat_get_activity(pg_backend_pid())
where %(pid)s::integer is null or pid = %(pid)s;

-- name: act_as
-- The rights of this role, and no others.
select set_config('role', %(role)s, %(is_local)s);

-- name: end_backend
-- End a session, unless its process id belongs to another one by now.
select pg_terminate_backend(pid) from pg_stat_activity
where pid = %(pid)s::integer and backend_start = %(backend_start)s::timestamptz;

-- name: login
-- A role of this name, if there is one.
select 1 from pg_roles where rolname = %(login)s;

-- name: rights
-- What the login of this session may do beyond reading: as a superuser, by replication, with the server's files and
-- programs, as an owner (or a member of one), and by writing.
select r.rolname, r.rolsuper, r.rolreplication,
       exists (select from pg_roles f
                where f.rolname in ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
                  and pg_has_role(r.oid, f.oid, 'MEMBER')),
       count(*) filter (where pg_has_role(r.oid, c.relowner, 'MEMBER')),
       count(*) filter (where has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
from pg_roles r
left join pg_class c on c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) and c.relkind in ('r', 'p')
where r.rolname = session_user
group by r.oid, r.rolname, r.rolsuper, r.rolreplication;
