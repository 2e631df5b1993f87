-- name: use_utc
-- Read and print bounds in UTC and ISO format until the transaction ends.
select set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true);

-- name: limit_locks
-- Limit lock waits (ms) until the transaction ends.
select set_config('lock_timeout', %(limit)s, true);

-- name: limit_locks_of_session
-- Limit lock waits (ms) in the session, for statements that cannot run in a transaction.
select set_config('lock_timeout', %(limit)s, false);

-- name: lock_setting
-- The session's limit of lock waits, to restore it.
select current_setting('lock_timeout');

-- name: server
-- The server's clock, the process behind this connection, and whether the server is read-only.
select clock_timestamp(), pg_backend_pid(), current_setting('transaction_read_only') = 'on';

-- name: try_run_lock
-- Take the advisory lock of a run of this kind, if it is free.
select pg_try_advisory_lock(hashtext('detection ' || %(kind)s), hashtext(%(schema)s));

-- name: try_run_lock_in_transaction
-- The same until the transaction ends, for runs through a pooler.
select pg_try_advisory_xact_lock(hashtext('detection ' || %(kind)s), hashtext(%(schema)s));

-- name: run_unlock
-- Release the advisory lock of a run.
select pg_advisory_unlock(hashtext('detection ' || %(kind)s), hashtext(%(schema)s));

-- name: lock_table_changes
-- Let one transaction at a time change a table's partitions; limit lock waits, and print bounds in UTC and ISO format.
select set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('lock_timeout', %(limit)s, true),
       pg_advisory_xact_lock(hashtext('detection partitions'), hashtext(%(schema)s || '.' || %(table)s));

-- name: parent
-- A table that is partitioned by range on one timestamptz column, with what its policy says of new partitions.
select c.oid::bigint as oid, a.attname::text as key,
       (select t.spcname::text from pg_tablespace t where t.oid = c.reltablespace) as tablespace,
       c.relreplident = 'f' as has_full_identity,
       coalesce(policy.step, 'month') as step, coalesce(policy.leaf_options, '{{}}') as leaf_options,
       c.relacl is null and not c.relrowsecurity and pg_get_userbyid(c.relowner) = current_user
           and not exists (select from pg_default_acl)
           and not exists (select from pg_attribute l where l.attrelid = c.oid and l.attacl is not null) as is_plain
  from pg_class c
  join pg_partitioned_table p on p.partrelid = c.oid
  join pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
  left join {schema}.detection_partition_policies policy on policy.table_name = c.relname
 where c.relnamespace = to_regnamespace(%(schema)s) and c.relname = %(table)s
   and p.partstrat = 'r' and p.partnatts = 1 and a.atttypid = 'timestamptz'::regtype;

-- name: partitions
-- The table partitions with their bounds from the catalog, in order.
with child as materialized (
    select c.oid, c.relname, n.nspname, c.relkind, i.inhdetachpending,
           pg_get_expr(c.relpartbound, c.oid) as bound
      from pg_inherits i
      join pg_class c on c.oid = i.inhrelid
      join pg_namespace n on n.oid = c.relnamespace
     where i.inhparent = %(parent)s::bigint::oid
), bounds as materialized (
    select *, case when is_open then null else nullif(split_part(bound, '''', 2), '')::timestamptz end as lower,
           nullif(split_part(bound, '''', case when is_open then 2 else 4 end), '')::timestamptz as upper
      from (select *, bound like '%%FROM (MINVALUE)%%' as is_open from child) c
)
select oid::bigint as oid, relname::text as name, nspname::text as namespace, relkind::text as kind,
       coalesce(bound = 'DEFAULT', false) as is_default, inhdetachpending as is_detaching,
       case when isfinite(lower) then lower end as lower, case when isfinite(upper) then upper end as upper
  from bounds order by bounds.lower nulls first, relname;

-- name: taken
-- Which of these names a relation or a type has already.
select name from unnest(%(names)s::text[]) name
 where exists (select from pg_class c where c.relnamespace = %(schema)s::regnamespace and c.relname = name::name)
    or exists (select from pg_type t where t.typnamespace = %(schema)s::regnamespace and t.typname = name::name);

-- name: referring
-- Foreign keys of other tables that point at the table or at one of its partitions.
select distinct k.confrelid::bigint as oid, k.conrelid::regclass::text as name
  from pg_constraint k
 where k.contype = 'f' and k.confrelid::bigint = any(%(oids)s::bigint[])
   and not k.conrelid::bigint = any(%(oids)s::bigint[])
 order by 2;

-- name: lock_parent
-- Take the lock of ATTACH PARTITION at the start; readers and writers are not blocked.
lock table {schema}.{{parent}} in share update exclusive mode;

-- name: use_tablespace
-- Create tables in the parent's tablespace until the transaction ends.
select set_config('default_tablespace', %(tablespace)s, true);

-- name: create
-- A table like the parent, without its identity column property, which a partition may not have of its own.
create table {schema}.{{child}} (like {schema}.{{parent}} including all excluding identity) {{options}};

-- name: identify
-- Identify a row by all of its values in a publication, as the parent does: a partition does not inherit it.
alter table {schema}.{{child}} replica identity full;

-- name: likeness
-- The statements that give a table its parent's owner, grants and row security, and no others.
with parent as (select * from pg_class where oid = %(parent)s::bigint::oid),
     child as (select * from pg_class
                where relnamespace = %(schema)s::regnamespace and relname = %(child)s)
select 1 as step, format('alter table %%s owner to %%I', c.oid::regclass, pg_get_userbyid(p.relowner)) as statement
  from parent p, child c where p.relowner <> c.relowner
union all
select 2, format('revoke all on %%s from %%s', c.oid::regclass,
                 case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
  from child c, aclexplode(c.relacl) a where a.grantee <> c.relowner
union all
select 3, format('grant %%s on %%s to %%s%%s', a.privilege_type, c.oid::regclass,
                 case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                 case when a.is_grantable and a.grantee <> p.relowner then ' with grant option' else '' end)
  from parent p, child c, aclexplode(p.relacl) a
union all
select 4, format('grant %%s (%%I) on %%s to %%s%%s', a.privilege_type, t.attname, c.oid::regclass,
                 case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                 case when a.is_grantable then ' with grant option' else '' end)
  from parent p join pg_attribute t on t.attrelid = p.oid and t.attacl is not null, child c,
       aclexplode(t.attacl) a
union all
select 5, format('alter table %%s enable row level security', c.oid::regclass)
  from parent p, child c where p.relrowsecurity
 order by 1, 2;

-- name: columns
-- The columns that hold values of their own.
select attname::text from pg_attribute
 where attrelid = %(parent)s::bigint::oid and attnum > 0 and not attisdropped and attgenerated = ''
 order by attnum;

-- name: scan_whole_tables
-- Use sequential scans only, as ATTACH PARTITION does.
select set_config('enable_indexscan', 'off', true), set_config('enable_indexonlyscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true);

-- name: scan_as_usual
-- Allow index scans again.
select set_config('enable_indexscan', 'on', true), set_config('enable_indexonlyscan', 'on', true),
       set_config('enable_bitmapscan', 'on', true);

-- name: default_periods
-- The months or days before an instant of which a default partition holds rows, in order: one step along the index for
-- each.
with recursive found as (
    select date_trunc({{step}}, min({{key}}) at time zone 'UTC') as period
      from {{namespace}}.{{default}}
     where {{key}} < {{before}}
    union all
    select (select date_trunc({{step}}, min(d.{{key}}) at time zone 'UTC')
              from {{namespace}}.{{default}} d
             where d.{{key}} >= (f.period + ('1 ' || {{step}})::interval) at time zone 'UTC' and d.{{key}} < {{before}})
      from found f
     where f.period is not null
)
select period at time zone 'UTC' as period from found where period is not null order by period limit 12;

-- name: read_default
-- Read every page of the default partition.
select count(*) from {{namespace}}.{{default}};

-- name: lock_default
-- Block reads and writes of the default partition while rows are moved out of it.
lock table {{namespace}}.{{default}} in access exclusive mode;

-- name: move
-- Move the rows of a span of time from the default partition to a table.
with moved as (
    delete from {{namespace}}.{{default}} where {{key}} >= {{lower}} and {{key}} < {{upper}} returning {{columns}}
)
insert into {schema}.{{child}} ({{columns}}) select {{columns}} from moved;

-- name: attach
-- Attach a table as a partition.
alter table {schema}.{{parent}} attach partition {schema}.{{child}} for values from ({{lower}}) to ({{upper}});

-- name: detach_concurrently
-- Detach a table partition without blocking readers and writers.
alter table {schema}.{{parent}} detach partition {{namespace}}.{{child}} concurrently;

-- name: detach
-- Detach a table partition in one step, under an exclusive lock.
alter table {schema}.{{parent}} detach partition {{namespace}}.{{child}};

-- name: finalize
-- End a detachment that was interrupted.
alter table {schema}.{{parent}} detach partition {{namespace}}.{{child}} finalize;

-- name: lock_child
-- Lock a table against readers before it is dropped, with a limit (ms) on the wait.
select set_config('lock_timeout', {{limit}}, true);
lock table {schema}.{{child}} in access exclusive mode;

-- name: outside
-- A row of a table that lies outside these bounds.
select from {schema}.{{child}} where not coalesce({{key}} >= {{lower}} and {{key}} < {{upper}}, false) limit 1;

-- name: drop
-- Drop a table, without cascade: objects that depend on it prevent it.
drop table {schema}.{{child}};

-- name: entity_indexes
-- The table (`is_parent`) and its ordinary table partitions with their whole indexes of entity and time: `is_done` if one
-- is there and is part of the table's, `complete` one to attach, `leftovers` those that were begun and not ended.
with relations as (
    select c.oid, c.relname, n.nspname, c.oid = %(parent)s::bigint::oid as is_parent
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.oid = %(parent)s::bigint::oid
        or c.relkind = 'r' and c.oid in (select inhrelid from pg_inherits
                                          where inhparent = %(parent)s::bigint::oid and not inhdetachpending)
), indexes as (
    select r.oid, i.relname::text as name, x.indisvalid, exists (select from pg_inherits h where h.inhrelid = i.oid) as is_part
      from relations r
      join pg_index x on x.indrelid = r.oid and x.indpred is null and x.indexprs is null and x.indnkeyatts = 2
      join pg_class i on i.oid = x.indexrelid
      join pg_am m on m.oid = i.relam and m.amname = 'btree'
     where (select array_agg(a.attname::text order by k.at)
              from unnest(x.indkey::int2[]) with ordinality k (attnum, at)
              join pg_attribute a on a.attrelid = r.oid and a.attnum = k.attnum) = array['entity_id', %(key)s::text]
)
select r.oid::bigint as oid, r.is_parent,
       coalesce(bool_or(r.is_parent or i.is_part and i.indisvalid) filter (where i.oid is not null), false) as is_done,
       min(i.name) filter (where r.is_parent or i.indisvalid) as complete,
       coalesce(array_agg(i.name order by i.name) filter (where not r.is_parent and not i.indisvalid and not i.is_part),
                '{{}}') as leftovers
  from relations r left join indexes i on i.oid = r.oid
 group by r.oid, r.is_parent;

-- name: index_parent
-- Give new table partitions an index of entity and time; those that exist have none yet.
create index {{index}} on only {schema}.{{parent}} (entity_id, {{key}});

-- name: index_leaf
-- Index a table partition without blocking its writers.
create index concurrently {{index}} on {{namespace}}.{{child}} (entity_id, {{key}});

-- name: drop_index
-- Drop an index that was begun and not ended.
drop index concurrently {{namespace}}.{{index}};

-- name: attach_index
-- Make an index of a table partition part of the table's.
alter index {schema}.{{index}} attach partition {{namespace}}.{{child_index}};

-- name: sizes
-- Bytes of tables and of their indexes, their estimated rows, their last vacuum and their storage parameters.
select c.oid::bigint as oid, pg_table_size(c.oid) as table_bytes, pg_indexes_size(c.oid) as index_bytes,
       case when s.n_live_tup > 0 then s.n_live_tup when c.reltuples >= 0 then c.reltuples::bigint end as rows,
       greatest(s.last_vacuum, s.last_autovacuum) as vacuumed_at,
       coalesce((select jsonb_object_agg(o.option_name, o.option_value) from pg_options_to_table(c.reloptions) o),
                '{{}}') as options
  from pg_class c
  left join pg_stat_all_tables s on s.relid = c.oid
 where c.oid::bigint = any(%(oids)s::bigint[]) and pg_table_size(c.oid) is not null;

-- name: export_facts
-- The database that a table is in, and how many blocks it has.
select current_database() || ' of ' || (select system_identifier from pg_control_system())
           || ', schema ' || n.nspname as origin,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint as blocks
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = %(oid)s::bigint::oid;

-- name: export_columns
-- The columns of a table in order, with their types.
select a.attname::text as name, t.typname::text as type_name, format_type(a.atttypid, a.atttypmod) as declared
  from pg_attribute a join pg_type t on t.oid = a.atttypid
 where a.attrelid = %(oid)s::bigint::oid and a.attnum > 0 and not a.attisdropped
 order by a.attnum;

-- name: exact_text
-- Print times in UTC and ISO format, and every digit of numbers, and leave no row out, until the transaction ends.
select set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('IntervalStyle', 'iso_8601', true), set_config('extra_float_digits', '1', true),
       set_config('bytea_output', 'hex', true), set_config('row_security', 'off', true);

-- name: copy_blocks
-- The rows of a range of blocks of a detached table, in their order there.
copy (select {{columns}} from {schema}.{{child}} where ctid >= {{first}} and ctid < {{last}})
  to stdout (format csv, encoding 'UTF8');

-- name: count_rows
-- The rows of a detached table.
select count(*) from {schema}.{{child}};
