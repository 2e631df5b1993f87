-- name: use_utc
-- Make bounds read and print the same in every session.
select set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true);

-- name: limit_locks
-- Wait for a lock no longer than this, in this transaction.
select set_config('lock_timeout', %(limit)s, true);

-- name: limit_locks_of_session
-- The same for a statement that allows no transaction around it; returns nothing of use.
select set_config('lock_timeout', %(limit)s, false);

-- name: lock_setting
-- The session's limit, to put it back.
select current_setting('lock_timeout');

-- name: server
-- Its clock, the process behind this connection, and whether it can be written to.
select clock_timestamp(), pg_backend_pid(), current_setting('transaction_read_only') = 'on';

-- name: try_run_lock
-- One run of a kind at a time.
select pg_try_advisory_lock(hashtext('detection ' || %(kind)s), hashtext(%(schema)s));

-- name: try_run_lock_briefly
-- The same until the transaction ends, for who comes through a pooler.
select pg_try_advisory_xact_lock(hashtext('detection ' || %(kind)s), hashtext(%(schema)s));

-- name: run_unlock
-- Give it back.
select pg_advisory_unlock(hashtext('detection ' || %(kind)s), hashtext(%(schema)s));

-- name: enter
-- One change of a table's partitions at a time, no long wait for a lock, and bounds that read the same everywhere.
select set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('lock_timeout', %(limit)s, true),
       pg_advisory_xact_lock(hashtext('detection partitions'), hashtext(%(schema)s || '.' || %(table)s));

-- name: parent
-- A table that is partitioned by range on one timestamptz column.
select c.oid::bigint as oid, a.attname::text as key,
       (select t.spcname::text from pg_tablespace t where t.oid = c.reltablespace) as tablespace,
       c.relacl is null and not c.relrowsecurity and pg_get_userbyid(c.relowner) = current_user
           and not exists (select from pg_default_acl)
           and not exists (select from pg_attribute l where l.attrelid = c.oid and l.attacl is not null) as is_plain
  from pg_class c
  join pg_partitioned_table p on p.partrelid = c.oid
  join pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
 where c.relnamespace = to_regnamespace(%(schema)s) and c.relname = %(table)s
   and p.partstrat = 'r' and p.partnatts = 1 and a.atttypid = 'timestamptz'::regtype;

-- name: partitions
-- The table partitions as the catalog bounds them, in order; names say nothing.
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
-- Take at once the lock that attaching takes; readers and writers go on.
lock table {schema}.{{parent}} in share update exclusive mode;

-- name: use_tablespace
-- Make what follows where the parent's partitions go.
select set_config('default_tablespace', %(tablespace)s, true);

-- name: create
-- A table in the parent's likeness. A partition may have no identity of its own: the parent's serves.
create table {schema}.{{child}} (like {schema}.{{parent}} including all excluding identity);

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
-- As attaching will, whatever indexes there are.
select set_config('enable_indexscan', 'off', true), set_config('enable_indexonlyscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true);

-- name: scan_as_usual
-- Indexes are of use again.
select set_config('enable_indexscan', 'on', true), set_config('enable_indexonlyscan', 'on', true),
       set_config('enable_bitmapscan', 'on', true);

-- name: read_default
-- Every page of it.
select count(*) from {{namespace}}.{{default}};

-- name: lock_default
-- Nobody writes to the default partition while rows leave it.
lock table {{namespace}}.{{default}} in access exclusive mode;

-- name: move
-- Take the rows of a month out of the default partition.
with moved as (
    delete from {{namespace}}.{{default}} where {{key}} >= {{lower}} and {{key}} < {{upper}} returning {{columns}}
)
insert into {schema}.{{child}} ({{columns}}) select {{columns}} from moved;

-- name: attach
-- Put a table in its place.
alter table {schema}.{{parent}} attach partition {schema}.{{child}} for values from ({{lower}}) to ({{upper}});

-- name: detach_concurrently
-- Take a table partition out without holding anybody up.
alter table {schema}.{{parent}} detach partition {{namespace}}.{{child}} concurrently;

-- name: detach
-- The same in one step, under an exclusive lock.
alter table {schema}.{{parent}} detach partition {{namespace}}.{{child}};

-- name: finalize
-- End a detachment that was interrupted.
alter table {schema}.{{parent}} detach partition {{namespace}}.{{child}} finalize;

-- name: lock_child
-- Nobody reads it when it goes; its lock is not waited for long.
select set_config('lock_timeout', {{limit}}, true);
lock table {schema}.{{child}} in access exclusive mode;

-- name: relation
-- The table of this oid, if it stands alone.
select relname::text, relnamespace::regnamespace::text from pg_class
 where oid = %(oid)s::bigint::oid and not relispartition and relkind = 'r';

-- name: drop
-- Without cascade: what still depends on it keeps it.
drop table {schema}.{{child}};
