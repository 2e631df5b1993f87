-- name: cycles_and_models
-- Every registered cycle with its models: whose a row is.
select c.cycle_id, array(select m.model_id::text from {schema}.detection_models m
                          where m.cycle_id = c.cycle_id order by m.model_id) as model_ids
  from {schema}.detection_cycles c
 order by c.cycle_id;

-- name: newest_cycles
-- Of some cycles the newest that was opened or has a live result, and the outcomes of its versions.
select cycle_id, newest.at,
       (select coalesce(jsonb_object_agg(o.outcome, o.runs), '{{}}')
          from (select r.outcome::text as outcome, count(*) as runs from {schema}.detection_model_runs r
                 where r.cycle_id = asked.cycle_id and r.cycle_started_at = newest.at and not r.is_replay
                 group by 1) o) as outcomes
  from unnest(%(cycle_ids)s::text[]) as asked (cycle_id)
 cross join lateral (
       select greatest((select max(c.cycle_started_at) from {schema}.detection_cycle_runs c
                         where c.cycle_id = asked.cycle_id and c.mode = 'as_of'),
                       (select max(r.cycle_started_at) from {schema}.detection_model_runs r
                         where r.cycle_id = asked.cycle_id and not r.is_replay)) as at) newest;

-- name: model_facts
-- A model, and what it depends on now.
select m.model_id, m.cycle_id, m.entrypoint, m.is_enabled, m.score_key, m.entity_key, c.description,
       array(select d.depends_on::text from {schema}.detection_model_dependencies d
              where d.model_id = m.model_id and d.superseded_at is null order by d.depends_on) as depends_on
  from {schema}.detection_models m join {schema}.detection_cycles c using (cycle_id)
 where m.model_id = %(model_id)s;

-- name: newest_of_model
-- The newest cycle for which a model has a manifest, live or a replay.
select max(r.cycle_started_at) as at from {schema}.detection_model_runs r where r.model_id = %(model_id)s;

-- name: model_series
-- The runs of a model's versions by intervals of time, replays apart. Durations and counts are of those that succeeded.
select v.version, r.is_replay,
       floor(extract(epoch from r.cycle_started_at - %(start)s::timestamptz) / %(step_s)s::float8)::int as bucket,
       count(*) as cycles, sum(r.output_count) as outputs, sum(r.input_count) as inputs,
       sum((r.score_counts ->> 'scored')::bigint) as scored, sum((r.score_counts ->> 'null')::bigint) as nulls,
       sum((r.score_counts ->> 'gt0')::bigint) as gt0,
       sum(coalesce(r.score_counts ->> 'medium', r.score_counts ->> 'gt03')::bigint) as medium,
       sum(coalesce(r.score_counts ->> 'high', r.score_counts ->> 'gt05')::bigint) as high,
       sum(coalesce(r.score_counts ->> 'critical', r.score_counts ->> 'gt07')::bigint) as critical,
       sum(coalesce(r.score_counts ->> 'flagged', r.score_counts ->> 'gt05')::bigint) as flagged,
       percentile_cont(array[0.5, 0.95]) within group (order by r.duration_ms)
           filter (where r.outcome = 'SUCCEEDED') as ms
  from {schema}.detection_model_runs r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.model_id = %(model_id)s and r.cycle_started_at >= %(start)s and r.cycle_started_at < %(end)s
 group by 1, 2, 3
 order by 1, 2, 3;

-- name: opened_cycles
-- The cycles that were opened before one, the newest first, with the outcomes of their live versions.
select c.cycle_started_at, c.mode::text as mode, c.dag_run_id, c.opened_at, c.closed_at, runs.outcomes, runs.replays,
       runs.inputs
  from (select * from {schema}.detection_cycle_runs
         where cycle_id = %(cycle_id)s and (cycle_started_at, mode) < (%(before)s, %(before_mode)s::{schema}.detection_mode)
         order by cycle_started_at desc, mode desc limit %(limit)s) c
 cross join lateral (
       select coalesce(jsonb_object_agg(o.outcome, o.runs) filter (where o.outcome is not null), '{{}}') as outcomes,
              coalesce(max(o.replays), 0) as replays, max(o.inputs) as inputs
         from (select case when r.is_replay then null else r.outcome::text end as outcome, count(*) as runs,
                      sum(case when r.is_replay then 1 else 0 end) as replays,
                      max(case when r.is_replay then null else r.input_count end) as inputs
                 from {schema}.detection_model_runs r
                where r.cycle_id = c.cycle_id and r.cycle_started_at = c.cycle_started_at group by 1) o) runs
 order by c.cycle_started_at desc, c.mode desc;

-- name: manifests_of_cycle
-- All manifests of one cycle, whole, replays behind the live ones; those of one version alone if it is named.
select r.model_id, v.version, r.version_id, r.role::text as role, r.is_replay, r.outcome::text as outcome, r.attempt,
       r.input_count, r.output_count, r.score_counts, r.started_at, r.duration_ms, r.stage_ms, r.input_digest,
       r.newest_input_at, r.code_version, r.canaries, r.features, r.error, r.failed_attempt
  from {schema}.detection_model_runs r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.cycle_id = %(cycle_id)s and r.cycle_started_at = %(at)s
   and (%(version_id)s::bigint is null or r.version_id = %(version_id)s)
 order by r.is_replay, r.model_id, r.role, v.version;

-- name: standings
-- What the hourly reports of a time say of the versions, the oldest first.
select lower(s.covers) as start, upper(s.covers) as until, s.report -> 'standings' as standings
  from {schema}.detection_snapshots s
 where s.kind = 'hourly' and s.covers && tstzrange(%(start)s, %(end)s)
 order by s.covers;

-- name: newest_report
-- The hourly report of the newest hour, without its sections but for the verdicts.
select s.snapshot_id, lower(s.covers) as start, upper(s.covers) as until, s.taken_at, s.report ->> 'headline' as headline,
       s.report -> 'standings' as standings, jsonb_path_query_array(s.report, '$.sections[*].status') as statuses,
       jsonb_array_length(coalesce(s.report -> 'missed', '[]')) as missed,
       jsonb_path_query_first(s.report, '$.sections[*] ? (@.name == "verdicts").tables[0].rows') as verdicts
  from {schema}.detection_snapshots s
 where s.kind = 'hourly'
 order by s.covers desc limit 1;

-- name: score_span
-- The span of the scores of one run, at least from 0 to 1.
select least(0, min(o.score)) as low, greatest(1, max(o.score)) as high
  from {schema}.detection_model_run_outputs o
 where o.cycle_started_at = %(at)s and o.model_id = %(model_id)s and o.version_id = %(version_id)s
   and o.is_replay = %(is_replay)s;

-- name: score_buckets
-- How many outputs of one run have a score in each twentieth of a span, the ends of which belong to it.
select greatest(1, least(20, width_bucket(o.score, %(low)s::float8, %(high)s::float8, 20))) as bucket,
       count(*) as outputs
  from {schema}.detection_model_run_outputs o
 where o.cycle_started_at = %(at)s and o.model_id = %(model_id)s and o.version_id = %(version_id)s
   and o.is_replay = %(is_replay)s and o.score is not null
 group by 1;

-- name: run_metrics
-- The metrics of one run.
select m.metric_key, m.metric_value from {schema}.detection_model_metrics m
 where m.cycle_started_at = %(at)s and m.model_id = %(model_id)s and m.version_id = %(version_id)s
   and m.is_replay = %(is_replay)s
 order by m.metric_key
 limit %(limit)s;

-- name: usual_features
-- The profiles of a version's columns in its runs before one, the newest first.
select r.features from {schema}.detection_model_runs r
 where r.model_id = %(model_id)s and r.cycle_started_at < %(at)s and r.version_id = %(version_id)s
   and r.is_replay = %(is_replay)s and r.outcome = 'SUCCEEDED' and r.features <> '[]'
 order by r.cycle_started_at desc
 limit %(limit)s;

-- name: run_outputs
-- Outputs of one run, the highest scores first, beside the champion's score of the same entity in that cycle. Of one
-- entity's outputs each has a row; `number` tells those apart that are equal.
with own as materialized (
    select o.entity_id, o.score, o.outputs, o.input_ref,
           row_number() over (order by o.score desc nulls last, o.entity_id, o.ctid) as number
      from {schema}.detection_model_run_outputs o
     where o.cycle_started_at = %(at)s and o.model_id = %(model_id)s and o.version_id = %(version_id)s
       and o.is_replay = %(is_replay)s and (%(q)s::text is null or strpos(lower(o.entity_id), lower(%(q)s)) > 0)
     order by o.score desc nulls last, o.entity_id, o.ctid
     limit %(after)s::bigint + %(limit)s
)
select own.*, c.score as champion_score
  from own
  left join lateral (
       select max(c.score) as score from {schema}.detection_model_run_outputs c
        where %(champion_id)s::bigint is not null and c.cycle_started_at = %(at)s and c.model_id = %(model_id)s
          and c.version_id = %(champion_id)s and not c.is_replay and c.entity_id = own.entity_id) c on true
 where own.number > %(after)s
 order by own.number;

-- name: complete_from
-- The start of a period, or the first cycle from which on the outputs of models are few enough to be read one by one:
-- the start, too, where every table partition has an index of entity and time.
select case when coalesce(bool_and(total <= %(rows)s), true) or exists (
                 select from pg_index x join pg_class c on c.oid = x.indrelid
                   join pg_attribute first on first.attrelid = c.oid and first.attnum = x.indkey[0]
                   join pg_attribute second on second.attrelid = c.oid and second.attnum = x.indkey[1]
                  where c.relnamespace = to_regnamespace(%(schema)s) and c.relname = 'detection_model_run_outputs'
                    and x.indisvalid and x.indpred is null and x.indnkeyatts = 2
                    and (first.attname, second.attname) = ('entity_id', 'cycle_started_at'))
            then %(start)s::timestamptz
            else coalesce(min(at) filter (where total <= %(rows)s), %(end)s) end as at
  from (select r.cycle_started_at as at,
               sum(sum(r.output_count)) over (order by r.cycle_started_at desc) as total
          from {schema}.detection_model_runs r
         where r.model_id = any (%(model_ids)s::text[])
           and r.cycle_started_at >= %(start)s and r.cycle_started_at < %(end)s
         group by 1) cycles;

-- name: entity_outputs
-- What models said of an entity in a period, the oldest first: scores above 0.3 by their index, others from an instant on,
-- run by run, each by its own range of the index (OFFSET 0 keeps the planner from reading the whole month instead).
select found.model_id, v.version, found.role::text as role, found.is_replay, found.at, found.score, found.outputs
  from (select o.model_id, o.version_id, o.role, o.is_replay, o.cycle_started_at as at, o.score, o.outputs
          from {schema}.detection_model_run_outputs o
         where o.entity_id = %(entity_id)s and o.score > 0.3
           and o.cycle_started_at >= %(start)s and o.cycle_started_at < %(end)s
           and o.model_id = any (%(model_ids)s::text[])
        union all
        select r.model_id, r.version_id, r.role, r.is_replay, r.cycle_started_at, low.score, low.outputs
          from {schema}.detection_model_runs r
         cross join lateral (
               select o.score, o.outputs from {schema}.detection_model_run_outputs o
                where o.cycle_started_at = r.cycle_started_at and o.model_id = r.model_id
                  and o.version_id = r.version_id and o.is_replay = r.is_replay
                  and o.entity_id = %(entity_id)s and (o.score <= 0.3 or o.score is null)
               offset 0) low
         where r.cycle_started_at >= %(complete_from)s and r.cycle_started_at < %(end)s
           and r.model_id = any (%(model_ids)s::text[])) found
  join {schema}.detection_model_versions v on v.version_id = found.version_id
 order by found.model_id, v.version, found.is_replay, found.at, found.score
 limit %(limit)s;

-- name: newest_flagged
-- The newest cycle in which models gave an entity a score above 0.3.
select max(o.cycle_started_at) as at from {schema}.detection_model_run_outputs o
 where o.entity_id = %(entity_id)s and o.score > 0.3 and o.model_id = any (%(model_ids)s::text[]);

-- name: newest_of_models
-- The newest cycle for which models have a manifest.
select max(newest.at) as at
  from unnest(%(model_ids)s::text[]) as m (model_id)
 cross join lateral (select max(r.cycle_started_at) as at from {schema}.detection_model_runs r
                      where r.model_id = m.model_id) newest;

-- name: entities
-- Entities whose id begins so: of events, of labels, and of the champions' newest outputs.
select entity_id, max(at) as last_seen_at
  from ((select e.entity_id, e.last_seen_at as at from {schema}.detection_events e
          where e.model_id = any (%(model_ids)s::text[]) and e.entity_id ^@ %(q)s limit 2000)
        union all
        (select l.entity_id, lower(l.valid) from {schema}.detection_labels l
          where l.cycle_id = any (%(cycle_ids)s::text[]) and l.entity_id ^@ %(q)s
            and (l.model_id is null or l.model_id = any (%(model_ids)s::text[])) limit 2000)
        union all
        (select o.entity_id, o.cycle_started_at
           from unnest(%(model_ids)s::text[]) as m (model_id)
          cross join lateral (
                select r.cycle_started_at, r.version_id from {schema}.detection_model_runs r
                 where r.model_id = m.model_id and r.role = 'PRIMARY' and not r.is_replay and r.outcome = 'SUCCEEDED'
                 order by r.cycle_started_at desc limit 1) newest
           join {schema}.detection_model_run_outputs o
             on o.cycle_started_at = newest.cycle_started_at and o.model_id = m.model_id
            and o.version_id = newest.version_id
          where o.entity_id ^@ %(q)s limit 2000)) found
 group by entity_id
 order by last_seen_at desc, entity_id
 limit %(limit)s;

-- name: reports
-- Stored reports, the newest number first.
select s.snapshot_id, s.kind, s.taken_at, lower(s.covers) as start, upper(s.covers) as until,
       s.report ->> 'headline' as headline, jsonb_path_query_array(s.report, '$.sections[*].status') as statuses,
       jsonb_array_length(coalesce(s.report -> 'missed', '[]')) as missed
  from {schema}.detection_snapshots s
 where (%(kind)s::text is null or s.kind = %(kind)s)
   and (%(before)s::bigint is null or s.snapshot_id < %(before)s)
 order by s.snapshot_id desc
 limit %(limit)s;

-- name: report
-- One stored report.
select s.snapshot_id, s.kind, s.report from {schema}.detection_snapshots s where s.snapshot_id = %(snapshot_id)s;

-- name: verdict_basis
-- A text that differs once anything has been written that verdicts on a cycle's runs in a period rest on. A cycle that
-- is open, or may still be due, is looked at anew each minute.
select concat_ws('|',
       (select concat_ws(' ', count(*), max(r.attempt), max(r.failed_attempt), max(r.started_at))
          from {schema}.detection_model_runs r
         where r.cycle_id = %(cycle_id)s and r.cycle_started_at >= %(since)s and r.cycle_started_at < %(end)s),
       (select concat_ws(' ', count(*), max(c.opened_at), max(c.closed_at),
                         case when bool_or(c.closed_at is null) or %(end)s > now() - interval '1 day'
                              then date_trunc('minute', now()) end)
          from {schema}.detection_cycle_runs c
         where c.cycle_id = %(cycle_id)s and c.cycle_started_at >= %(since)s and c.cycle_started_at < %(end)s),
       (select concat_ws(' ', count(*), max(l.role_id), count(l.superseded_at), count(*) filter (where upper_inf(l.valid)))
          from {schema}.detection_model_roles l join {schema}.detection_models m using (model_id)
         where m.cycle_id = %(cycle_id)s),
       (select concat_ws(' ', count(*), max(d.recorded_at), max(d.superseded_at))
          from {schema}.detection_model_dependencies d join {schema}.detection_models m using (model_id)
         where m.cycle_id = %(cycle_id)s),
       (select string_agg(m.model_id || m.is_enabled, ',' order by m.model_id) from {schema}.detection_models m
         where m.cycle_id = %(cycle_id)s),
       (select md5(c::text) from {schema}.detection_cycles c where c.cycle_id = %(cycle_id)s),
       (select max(s.settings_id) from {schema}.detection_cycle_settings s where s.cycle_id = %(cycle_id)s)) as basis;
