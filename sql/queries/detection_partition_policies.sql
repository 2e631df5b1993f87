-- name: policies
-- Every policy with its instants computed from now, in UTC whatever the session's time zone is.
select p.table_name,
       date_trunc(p.step, %(now)s::timestamptz at time zone 'UTC') at time zone 'UTC' as period,
       (date_trunc(p.step, (%(now)s::timestamptz at time zone 'UTC') + p.ahead) + ('1 ' || p.step)::interval)
           at time zone 'UTC' as ahead_until,
       ((%(now)s::timestamptz at time zone 'UTC') + p.ahead / 2) at time zone 'UTC' as alarm_until,
       ((%(now)s::timestamptz at time zone 'UTC') - p.retention) at time zone 'UTC' as cutoff,
       ((%(now)s::timestamptz at time zone 'UTC') - p.grace) at time zone 'UTC' as grace_cutoff,
       p.empties_default, p.step, p.entity_index, p.retention_export
  from {schema}.detection_partition_policies p
 order by p.table_name;

-- name: protections
-- Spans that must not be retired: holds, the time in which a challenger runs, what a version reads, months or days in
-- which a cycle was opened lately, and those that were created lately: a backfill creates its period just before it notes
-- its first cycle.
select h.reason, lower(h.covers) as lower, upper(h.covers) as upper
  from {schema}.detection_partition_holds h
 where (h.table_name is null or h.table_name = %(table)s)
   and (h.expires_at is null or h.expires_at > %(now)s)
union all
select 'a challenger of ' || r.model_id || ' is being compared', min(lower(r.valid)), null
  from {schema}.detection_model_roles r
 where r.role = 'CHALLENGER' and r.superseded_at is null and upper_inf(r.valid)
 group by r.model_id
union all
select h.label || ' reads it', %(now)s::timestamptz - h.reach, null
  from {schema}.detection_history_reach(%(table)s) h
union all
select 'a cycle of ' || c.cycle_id || ' was opened there lately', min(c.cycle_started_at),
       max(c.cycle_started_at) + interval '1 microsecond'
  from {schema}.detection_cycle_runs c
 where c.opened_at > least(%(grace_cutoff)s::timestamptz, %(now)s::timestamptz - interval '24 hours')
 group by c.cycle_id, date_trunc(%(step)s::text, c.cycle_started_at at time zone 'UTC')
union all
select 'it was made lately', lower(l.bounds), upper(l.bounds)
  from {schema}.detection_maintenance_log l
 where l.table_name = %(table)s and l.action in ('create', 'attach') and l.outcome = 'done'
   and not l.details ? 'reason'
   and l.logged_at > least(%(grace_cutoff)s::timestamptz, %(now)s::timestamptz - interval '24 hours')
 order by 1, 2;

-- name: hold
-- Keep a span of time for as long as its table's grace period.
insert into {schema}.detection_partition_holds (table_name, covers, reason, expires_at)
select %(table)s, tstzrange(%(lower)s, %(upper)s), %(reason)s,
       clock_timestamp() + greatest(interval '24 hours',
           (select p.grace from {schema}.detection_partition_policies p where p.table_name = %(table)s));

-- name: log
-- Note one action; with `async_commit` the flush is left to the next commit: a crash loses the line only with that.
-- With `unless_default`, only if the table has no default partition.
insert into {schema}.detection_maintenance_log (action, table_name, partition_name, bounds, outcome, details)
select %(action)s, %(table)s::text, %(partition)s,
       case when %(bounded)s then tstzrange(%(lower)s, %(upper)s) end, %(outcome)s, %(details)s
  from set_config('synchronous_commit',
                  case when %(async_commit)s then 'off' else current_setting('synchronous_commit') end, true)
 where not (%(unless_default)s and exists (
           select from pg_partitioned_table t join pg_class c on c.oid = t.partrelid
            where c.relnamespace = to_regnamespace(%(schema)s) and c.relname = %(table)s::text and t.partdefid <> 0));

-- name: log_many
-- Note several actions that were done in this transaction, in their order.
insert into {schema}.detection_maintenance_log (action, table_name, partition_name, bounds, outcome, details)
select l.action, l."table", l.partition, tstzrange(l.lower, l.upper), l.outcome, l.details
  from jsonb_array_elements(%(lines)s) with ordinality e (line, at),
       jsonb_to_record(e.line) l (action text, "table" text, partition text, lower timestamptz,
                                  upper timestamptz, outcome text, details jsonb)
 order by e.at;

-- name: last_run
-- Whether another run of this kind through a pooler has a lease that has not ended.
select l.action = %(kind)s || '_begun' and l.logged_at > clock_timestamp() - %(lease)s::interval
  from {schema}.detection_maintenance_log l
 where l.table_name is null and l.action in (%(kind)s || '_begun', %(kind)s || '_ended')
 order by l.log_id desc limit 1;

-- name: last_change
-- The last action of upkeep on the table partition of an instant.
select l.action
  from {schema}.detection_maintenance_log l
 where l.table_name = %(table)s and l.outcome = 'done' and l.bounds @> %(instant)s::timestamptz
   and l.action in ('create', 'attach', 'detach_started', 'detach', 'drop')
 order by l.log_id desc limit 1;

-- name: retired
-- Tables that upkeep detached and that still exist, with the last log line of each. In the database that was logged they
-- have the oid of the line; in a restored copy (`is_restored`) no table has it, or one of another name that upkeep knows
-- too, and a table is recognised by its name and its columns. `exported_rows`: how many rows its last export since then
-- has, null without one that succeeded.
with last as (
    select distinct on (partition_name) *, (details ->> 'oid')::bigint as oid
      from {schema}.detection_maintenance_log
     where table_name = %(table)s and outcome = 'done'
       and action in ('create', 'attach', 'detach_started', 'detach', 'drop')
     order by partition_name, log_id desc
), found as (
    select c.*, l.action, l.log_id, l.logged_at, l.bounds, c.oid::bigint is distinct from l.oid as is_restored, l.oid as logged_oid
      from last l
      join pg_class c on c.relname = l.partition_name and c.relnamespace = %(schema)s::regnamespace
     where l.action in ('detach_started', 'detach') and not c.relispartition
)
select f.oid::bigint as oid, f.relname::text as name, f.action, f.logged_at, f.relkind::text as kind, f.is_restored,
       nullif(lower(f.bounds), '-infinity') as lower, nullif(upper(f.bounds), 'infinity') as upper,
       (select case when e.outcome = 'done' then (e.details ->> 'rows')::bigint end
          from {schema}.detection_maintenance_log e
         where e.table_name = %(table)s and e.partition_name = f.relname and e.action = 'export' and e.log_id > f.log_id
         order by e.log_id desc limit 1) as exported_rows
  from found f
 where not f.is_restored
    or not exists (
           select from pg_class renamed
            where renamed.oid::bigint = f.logged_oid and renamed.relkind = 'r'
              and renamed.relname not in (select partition_name::name from last)
              and not exists (select attname, atttypid from pg_attribute where attrelid = renamed.oid and attnum > 0
                              except
                              select attname, atttypid from pg_attribute
                               where attrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))))
       and not exists (select attname, atttypid from pg_attribute
                        where attrelid = f.oid and attnum > 0 and not attisdropped
                       except
                       select attname, atttypid from pg_attribute
                        where attrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text)))
 order by lower(f.bounds), f.relname;

-- name: horizon
-- The end of the months or days that a table may have now; a cycle beyond it comes from a wrong clock.
select (date_trunc(coalesce(p.step, 'month'),
                   (clock_timestamp() at time zone 'UTC') + coalesce(p.ahead, interval '3 months'))
           + 2 * ('1 ' || coalesce(p.step, 'month'))::interval) at time zone 'UTC' as horizon
  from (values (%(table)s::text)) t (name)
  left join {schema}.detection_partition_policies p on p.table_name = t.name;

-- name: exports
-- The tables that were exported and are recorded so, the oldest first; the last export of each.
select distinct on (lower(l.bounds), l.partition_name, l.details ->> 'oid')
       l.partition_name, l.details ->> 'uri' as uri, nullif(lower(l.bounds), '-infinity') as lower,
       nullif(upper(l.bounds), 'infinity') as upper
  from {schema}.detection_maintenance_log l
 where l.table_name = %(table)s and l.action = 'export' and l.outcome = 'done'
 order by lower(l.bounds) nulls first, l.partition_name, l.details ->> 'oid', l.log_id desc;
