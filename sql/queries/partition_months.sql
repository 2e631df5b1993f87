-- name: use_utc
-- The catalog prints bounds in the session's time zone: make that UTC until the transaction ends.
select set_config('TimeZone', 'UTC', true);

-- name: lock
-- One maker of table partitions at a time for each table, until the transaction ends.
select pg_advisory_xact_lock(hashtextextended(format('detection_partitions:%%s.%%s', %(schema)s::text,
                                                     %(table)s::text), 0));

-- name: is_covered
-- Whether a table partition holds the instant; one for everything else does not count.
select exists (
    select from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral (select pg_catalog.pg_get_expr(c.relpartbound, c.oid) as bound) b
    where i.inhparent = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass
      and b.bound <> 'DEFAULT'
      and coalesce(substring(b.bound from 'FROM \(''([^'']+)''')::timestamptz, '-infinity') <= %(instant)s
      and coalesce(substring(b.bound from 'TO \(''([^'']+)''')::timestamptz, 'infinity') > %(instant)s
);

-- name: is_expired
-- Whether the last thing that was done to the month was its removal.
select coalesce((
    select action in ('detach_started', 'detach', 'drop')
    from {schema}.detection_maintenance_log
    where table_name = %(table)s and outcome = 'done' and bounds @> %(instant)s::timestamptz
      and action in ('create', 'attach', 'detach_started', 'detach', 'drop')
    order by log_id desc
    limit 1
), false);

-- name: statements
-- The statements that make the month, or what existing table partitions leave of it. A table is made apart and
-- then attached, so that reading and writing go on.
with bounds as (
    select substring(b.bound from 'FROM \(''([^'']+)''')::timestamptz as low,
           substring(b.bound from 'TO \(''([^'']+)''')::timestamptz as high
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral (select pg_catalog.pg_get_expr(c.relpartbound, c.oid) as bound) b
    where i.inhparent = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass and b.bound <> 'DEFAULT'
),
month as (
    select greatest(%(month_start)s::timestamptz,
                    (select max(high) from bounds where high <= %(instant)s)) as low,
           least(%(month_end)s::timestamptz, (select min(low) from bounds where low > %(instant)s)) as high
),
steps (step, statement) as (
    select 1, format('create table if not exists %%1$I.%%3$I (like %%1$I.%%2$I including all)',
                     %(schema)s::text, %(table)s::text, %(partition)s::text)
    union all
    select 2, format('alter table %%1$I.%%2$I attach partition %%1$I.%%3$I for values from (%%4$L) to (%%5$L)',
                     %(schema)s::text, %(table)s::text, %(partition)s::text, low, high)
    from month
)
select statement from steps order by step;

-- name: log_creation
-- Who looks for the month later sees that it was made.
insert into {schema}.detection_maintenance_log (action, table_name, partition_name, bounds, outcome)
values ('create', %(table)s, %(partition)s,
        tstzrange(%(month_start)s::timestamptz, %(month_end)s::timestamptz), 'done');
