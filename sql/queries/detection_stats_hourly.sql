-- name: lock
-- Let one transaction at a time count.
lock table {schema}.detection_stats_hourly in share row exclusive mode;

-- name: clear
-- Drop the counts of [start, end), so that a rerun replaces them.
delete from {schema}.detection_stats_hourly where hour >= %(start)s and hour < %(end)s;

-- name: count
-- Count events by the hour in which they were first seen.
insert into {schema}.detection_stats_hourly (hour, category, event_count)
select date_bin('1 hour', first_seen_at, '2000-01-01 00:00Z'), category, count(*)
  from {schema}.detection_events
 where first_seen_at >= %(start)s and first_seen_at < %(end)s and status <> 'RETRACTED'
 group by 1, 2;
