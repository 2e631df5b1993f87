-- name: feed
-- What each cycle was given: versions of one cycle read the same inputs. Digests of arrays, of shards, and those of JSON,
-- which a worker of an earlier release makes, are of kinds that are not compared: the kind ends with the last colon.
select k.cycle_id, k.cycle_started_at, max(k.inputs) as inputs, max(k.newest) as newest, max(k.digests) as digests
  from (select r.cycle_id, r.cycle_started_at, max(r.input_count) as inputs, max(r.newest_input_at) as newest,
               count(distinct r.input_digest) as digests
          from {schema}.detection_model_runs r
         where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
           and r.cycle_started_at >= %(day)s and r.cycle_started_at < %(end)s
           and not r.is_replay and r.outcome <> 'SKIPPED'
         group by r.cycle_id, r.cycle_started_at, regexp_replace(r.input_digest, '[^:]*$', '')) as k
 group by 1, 2 order by 1, 2;

-- name: schedules
-- The cycles, and the first of each that ran when it was due: not a day later, and neither by hand nor in a backfill.
-- One that has never run starts when it was registered, however early its start date is.
select c.cycle_id, c.schedule, c.is_enabled,
       case when runs.has_run then c.start_date
            else greatest(c.start_date, (select min(s.recorded_at) from {schema}.detection_cycle_settings s
                                          where s.cycle_id = c.cycle_id)) end as start_date,
       now() as now,
       (select r.cycle_started_at from {schema}.detection_cycle_runs r
         where r.cycle_id = c.cycle_id and r.mode = 'as_of'
           and r.opened_at < r.cycle_started_at + interval '1 day'
           and not (coalesce(r.dag_run_id, '') ^@ 'backfill__' or coalesce(r.dag_run_id, '') ^@ 'manual__')
         order by r.cycle_started_at limit 1) as live_since,
       runs.has_run
  from {schema}.detection_cycles c
 cross join lateral (select exists (select from {schema}.detection_cycle_runs r
                                     where r.cycle_id = c.cycle_id and r.mode = 'as_of') as has_run) as runs
 order by c.cycle_id;

-- name: cycle_runs
-- The cycles that were opened.
select r.cycle_id, r.cycle_started_at, r.opened_at, r.closed_at, r.summary, r.dag_run_id
  from {schema}.detection_cycle_runs r
 where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
   and r.cycle_started_at >= %(start)s and r.cycle_started_at < %(end)s and r.mode = 'as_of'
 order by 1, 2;

-- name: ended_since
-- Cycles from before the period that were under way when the report before was taken, and are over now.
select r.cycle_id, r.cycle_started_at, r.opened_at, r.closed_at, r.summary, r.dag_run_id
  from {schema}.detection_cycle_runs r
 cross join (select coalesce((select s.taken_at from {schema}.detection_snapshots s
                               where s.kind = 'hourly'
                                 and s.covers = tstzrange(%(start)s::timestamptz - interval '1 hour', %(start)s)),
                             %(start)s) as told_at) before
 where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c)) and r.mode = 'as_of'
   and r.cycle_started_at >= %(start)s::timestamptz - interval '2 days' and r.cycle_started_at < %(start)s
   and r.opened_at < before.told_at and r.opened_at < r.cycle_started_at + interval '1 day'
   and not coalesce(r.dag_run_id, '') ^@ 'backfill__'
   and coalesce(r.closed_at, r.opened_at + %(patience)s) >= before.told_at
   and coalesce(r.closed_at, r.opened_at + %(patience)s) < %(taken_at)s
 order by 1, 2;

-- name: cycles_that_ran
-- How many cycles were opened, replays apart.
select count(*) as cycles from {schema}.detection_cycle_runs r
 where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
   and r.cycle_started_at >= %(start)s and r.cycle_started_at < %(end)s and r.mode = 'as_of';

-- name: failures
-- What failed in the cycles of the period and in some others, and why, newest first.
select r.cycle_id, r.cycle_started_at, r.model_id, v.version, r.role::text as role, r.outcome::text as outcome,
       left(r.error, 300) as error
  from {schema}.detection_model_runs r join {schema}.detection_model_versions v using (version_id)
 where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
   and r.cycle_started_at >= %(since)s and r.cycle_started_at < %(end)s and not r.is_replay
   and (r.cycle_started_at >= %(start)s
        or exists (select from unnest(%(cycle_ids)s::text[], %(instants)s::timestamptz[]) as other (cycle_id, at)
                    where other.cycle_id = r.cycle_id and other.at = r.cycle_started_at))
   and (r.outcome = 'FAILED' or r.failed_attempt is not null)
 order by r.cycle_started_at desc, r.model_id, v.version
 limit %(most)s;

-- name: stages
-- Milliseconds of each stage, of this period and of the day before; percentiles in between are interpolated.
select s.key as stage, r.cycle_started_at >= %(start)s as is_now, count(*) as runs,
       percentile_cont(array[0.5, 0.95, 1]) within group (order by s.value::float8) as ms
  from {schema}.detection_model_runs r
 cross join lateral (select * from jsonb_each_text(r.stage_ms) union all select 'all', r.duration_ms::text) s
 where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
   and r.cycle_started_at >= %(day)s and r.cycle_started_at < %(end)s
   and not r.is_replay and r.outcome = 'SUCCEEDED'
 group by 1, 2;

-- name: version_stages
-- The same for each version.
select r.model_id, v.version, r.role::text as role, s.key as stage, r.cycle_started_at >= %(start)s as is_now,
       count(*) as runs, percentile_cont(array[0.5, 0.95, 1]) within group (order by s.value::float8) as ms
  from {schema}.detection_model_runs r
  join {schema}.detection_model_versions v using (version_id)
 cross join lateral (select * from jsonb_each_text(r.stage_ms) union all select 'all', r.duration_ms::text) s
 where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
   and r.cycle_started_at >= %(day)s and r.cycle_started_at < %(end)s
   and not r.is_replay and r.outcome = 'SUCCEEDED'
 group by 1, 2, 3, 4, 5 order by 1, 3, 2, 4;

-- name: scores
-- Score buckets of each version, hour by hour back from the end, from the manifests alone.
select r.model_id, v.version, r.role::text as role, r.version_id,
       date_bin('1 hour', r.cycle_started_at, %(end)s) as hour, count(*) as cycles,
       sum((r.score_counts ->> 'scored')::bigint)::bigint as scored,
       sum((r.score_counts ->> 'null')::bigint)::bigint as nulls,
       sum((r.score_counts ->> 'gt0')::bigint)::bigint as gt0,
       sum(coalesce(r.score_counts ->> 'medium', r.score_counts ->> 'gt03')::bigint)::bigint as medium,
       sum(coalesce(r.score_counts ->> 'high', r.score_counts ->> 'gt05')::bigint)::bigint as high,
       sum(coalesce(r.score_counts ->> 'critical', r.score_counts ->> 'gt07')::bigint)::bigint as critical,
       sum(coalesce(r.score_counts ->> 'flagged', r.score_counts ->> 'gt05')::bigint)::bigint as flagged,
       array_remove(array_agg(distinct coalesce(r.score_edges ->> 'flagged', r.score_edges ->> 'gt05')::float8), null)
           as flagged_above
  from {schema}.detection_model_runs r join {schema}.detection_model_versions v using (version_id)
 where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
   and r.cycle_started_at >= %(day)s and r.cycle_started_at < %(end)s
   and not r.is_replay and r.outcome = 'SUCCEEDED' and r.score_counts <> '{{}}'
 group by 1, 2, 3, 4, 5 order by 1, 3, 2, 5;

-- name: events
-- Events by category and severity: what the period brought, and what was open at its end.
select category, severity::text as severity,
       count(*) filter (where first_seen_at >= %(start)s) as new,
       count(*) filter (where status = 'CLOSED' and closed_at >= %(start)s and closed_at < %(end)s) as closed,
       count(*) filter (where status = 'RETRACTED'
                          and coalesce(closed_at, last_seen_at) >= %(start)s
                          and coalesce(closed_at, last_seen_at) < %(end)s) as retracted,
       count(*) filter (where status = 'OPEN' or (status = 'CLOSED' and closed_at >= %(end)s)) as open
  from {schema}.detection_events
 where first_seen_at < %(end)s and (status = 'OPEN' or first_seen_at >= %(start)s or closed_at >= %(start)s
                                    or (status = 'RETRACTED' and last_seen_at >= %(start)s))
 group by 1, 2 order by 1, 2;

-- name: event_hours
-- New events of the trailing day by hour and severity.
select date_bin('1 hour', first_seen_at, %(end)s) as hour, severity::text as severity, count(*) as events
  from {schema}.detection_events
 where first_seen_at >= %(day)s and first_seen_at < %(end)s and status <> 'RETRACTED'
 group by 1, 2 order by 1, 2;

-- name: oldest_critical
-- CRITICAL events that nobody had closed at the end of the period, oldest first.
select category, entity_id, score, first_seen_at, last_seen_at
  from {schema}.detection_events
 where (status = 'OPEN' or (status = 'CLOSED' and closed_at >= %(end)s))
   and severity = 'CRITICAL' and first_seen_at < %(end)s
 order by first_seen_at, category, entity_id limit %(most)s;

-- name: drift
-- Hourly counts beside the events they count; what was written after its hour was counted is late.
with counted as (
    select hour, max(updated_at) as counted_at from {schema}.detection_stats_hourly
     where hour >= %(day)s and hour < %(until)s group by 1
), events as (
    select date_bin('1 hour', e.first_seen_at, '2000-01-01 00:00Z') as hour, e.category, count(*) as events,
           count(*) filter (where e.recorded_at > c.counted_at) as late
      from {schema}.detection_events e
      left join counted c on c.hour = date_bin('1 hour', e.first_seen_at, '2000-01-01 00:00Z')
     where e.first_seen_at >= %(day)s and e.first_seen_at < %(until)s and e.status <> 'RETRACTED'
     group by 1, 2
), stats as (
    select hour, category, event_count from {schema}.detection_stats_hourly
     where hour >= %(day)s and hour < %(until)s
)
select coalesce(e.hour, s.hour) as hour, coalesce(e.category, s.category) as category, e.events, e.late,
       s.event_count as counted, c.counted_at
  from events e full join stats s on s.hour = e.hour and s.category = e.category
  left join counted c on c.hour = coalesce(e.hour, s.hour)
 order by 1, 2;

-- name: role_changes
-- Roles that were recorded, began or ended in the period, newest first.
select r.model_id, v.version, r.role::text as role, r.recorded_at, lower(r.valid) as since, upper(r.valid) as until,
       r.superseded_at, r.is_founding, r.is_correction, r.actor, r.reason
  from {schema}.detection_model_roles r join {schema}.detection_model_versions v using (version_id)
 where (r.recorded_at >= %(start)s and r.recorded_at < %(end)s)
    or (lower(r.valid) >= %(start)s and lower(r.valid) < %(end)s and not r.is_founding)
    or (upper(r.valid) >= %(start)s and upper(r.valid) < %(end)s)
    or (r.superseded_at >= %(start)s and r.superseded_at < %(end)s)
 order by r.role_id desc;

-- name: new_versions
-- Versions that were registered in the period.
select model_id, version, created_at, created_by, notes from {schema}.detection_model_versions
 where created_at >= %(start)s and created_at < %(end)s
 order by created_at desc, model_id, version;

-- name: upkeep
-- How each action of upkeep last ended within a week, and how often it failed in the last day.
select distinct on (l.action, l.table_name) l.action, l.table_name, l.partition_name, l.outcome, l.logged_at,
       left(coalesce(l.details ->> 'error', l.details ->> 'reason', ''), 300) as why,
       count(*) filter (where l.outcome = 'failed' and l.logged_at >= %(day)s)
           over (partition by l.action, l.table_name) as failed
  from {schema}.detection_maintenance_log l
 where l.logged_at >= %(end)s - interval '7 days' and l.logged_at < greatest(%(end)s, %(taken_at)s)
 order by l.action, l.table_name, l.log_id desc;

-- name: in_force
-- The versions that hold a role now, and the params digests of their last run in the period.
select m.cycle_id, r.model_id, v.version, r.role::text as role, lower(r.valid) as since, m.is_enabled, v.version_id,
       coalesce(v.entrypoint, m.entrypoint) as entrypoint, v.params, last.params_digest,
       last.artifact_sha256, last.code_version
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v using (version_id)
  join {schema}.detection_models m on m.model_id = r.model_id
  left join lateral (
       select n.params_digest, n.artifact_sha256, n.code_version from {schema}.detection_model_runs n
        where n.model_id = r.model_id and n.cycle_started_at >= %(start)s and n.cycle_started_at < %(end)s
          and n.version_id = v.version_id and not n.is_replay and n.outcome = 'SUCCEEDED'
        order by n.cycle_started_at desc limit 1) last on true
 where r.superseded_at is null and r.valid @> %(end)s::timestamptz - interval '1 microsecond'
 order by m.cycle_id, r.model_id, r.role, v.version;

-- name: plans_in_force
-- The plan that each cycle was last opened with.
select c.cycle_id, c.execution::text as execution, c.is_enabled, last.cycle_started_at, last.plan_digest,
       last.opened_at
  from {schema}.detection_cycles c
  left join lateral (
       select r.cycle_started_at, r.plan_digest, r.opened_at from {schema}.detection_cycle_runs r
        where r.cycle_id = c.cycle_id and r.mode = 'as_of' and r.cycle_started_at < %(end)s
        order by r.cycle_started_at desc limit 1) last on true
 order by c.cycle_id;
