-- name: begin_report
-- All sections see one state of the database, and none can change it.
set transaction isolation level repeatable read, read only;

-- name: planner_settings
-- Until the transaction ends: times are in UTC, an aggregate with a filter does not sort all rows first, and no
-- statement waits for the JIT compiler. Servers before 16 have only the setting `jit`.
select set_config('TimeZone', 'UTC', true)
union all
select set_config(name, 'off', true) from pg_settings where name in ('enable_presorted_aggregate', 'jit');

-- name: clock
-- When the transaction began.
select now();

-- name: limit_statements
-- The longest that one statement may take, in milliseconds, until the transaction ends.
select set_config('statement_timeout', %(limit_ms)s, true);

-- name: hourly
-- The report of one hour.
select snapshot_id, kind, taken_at, lower(covers), upper(covers), format_version, report, notified_at
  from {schema}.detection_snapshots
 where kind = 'hourly' and covers = tstzrange(%(start)s, %(end)s);

-- name: last_before
-- The latest hourly report whose hour ended by an instant.
select snapshot_id, kind, taken_at, lower(covers), upper(covers), format_version, report, notified_at
  from {schema}.detection_snapshots
 where kind = 'hourly' and covers < tstzrange(%(start)s, null) and upper(covers) <= %(start)s
 order by covers desc limit 1;

-- name: insert
-- Store a report, unless its hour has one.
insert into {schema}.detection_snapshots (kind, taken_at, covers, format_version, report)
values (%(kind)s, %(taken_at)s, tstzrange(%(start)s, %(end)s), %(format_version)s, %(report)s::jsonb)
    on conflict (covers) where kind = 'hourly' do nothing
returning snapshot_id, kind, taken_at, lower(covers), upper(covers), format_version, report, notified_at;

-- name: missed_hours
-- Hours without a report since the report before, and since the first that was due after the first one was taken.
select due.hour
  from (select date_bin('1 hour', min(taken_at), '2000-01-01 00:00Z') as hour
          from {schema}.detection_snapshots where kind = 'hourly') first
 cross join (select max(upper(covers)) as hour from {schema}.detection_snapshots
              where kind = 'hourly' and covers < tstzrange(%(before)s, null) and upper(covers) <= %(before)s) last
 cross join generate_series(greatest(first.hour, last.hour, %(before)s::timestamptz - interval '7 days'),
                            %(before)s::timestamptz - interval '1 hour', interval '1 hour') as due (hour)
 where first.hour is not null
 order by due.hour;

-- name: is_notification_due
-- Whether the notifications are still to be sent; the row is locked until the transaction ends.
select notified_at is null from {schema}.detection_snapshots where snapshot_id = %(snapshot_id)s for update;

-- name: note_notified
-- The notifications have been sent.
update {schema}.detection_snapshots set notified_at = clock_timestamp()
 where snapshot_id = %(snapshot_id)s and notified_at is null;
