-- name: pairs
-- Each champion beside the shadows of its model, with the cycles that either ran, and both.
with runs as materialized (
    select r.model_id, r.version_id, v.version, r.role, r.cycle_id, r.cycle_started_at, r.duration_ms,
           r.output_count, r.outcome = 'SUCCEEDED' as is_done
      from {schema}.detection_model_runs r
      join {schema}.detection_model_versions v using (version_id)
     where r.cycle_id = any (array(select c.cycle_id from {schema}.detection_cycles c))
       and r.cycle_started_at >= %(start)s and r.cycle_started_at < %(end)s and not r.is_replay
)
select p.model_id, p.version_id as primary_id, p.version as primary_version, s.version_id as shadow_id,
       s.version as shadow_version, s.role::text as role,
       (select count(*) from runs r where r.version_id = p.version_id and r.role = 'PRIMARY' and r.is_done)
           as primary_cycles,
       (select count(*) from runs r where r.version_id = s.version_id and r.role = s.role and r.is_done)
           as shadow_cycles,
       percentile_cont(array[0.5, 0.95]) within group (order by p.duration_ms)
           filter (where p.is_done and s.is_done) as primary_ms,
       percentile_cont(array[0.5, 0.95]) within group (order by s.duration_ms)
           filter (where p.is_done and s.is_done) as shadow_ms,
       coalesce(sum(p.output_count + s.output_count) filter (where p.is_done and s.is_done), 0)::bigint as outputs,
       coalesce(array_agg(p.cycle_started_at order by p.cycle_started_at) filter (where p.is_done and s.is_done),
                array[]::timestamptz[]) as cycles
  from runs p join runs s
    on s.cycle_id = p.cycle_id and s.model_id = p.model_id and s.cycle_started_at = p.cycle_started_at
   and s.role <> 'PRIMARY'
 where p.role = 'PRIMARY'
 group by p.model_id, p.version_id, p.version, s.version_id, s.version, s.role
 order by p.model_id, s.role, s.version, p.version;

-- name: event_rules
-- Which scores of each model make events.
select model_id, events from {schema}.detection_models;

-- name: compare
-- A champion beside some shadows of its model on the entities of each cycle; one row a shadow and cycle, the p99 of
-- all its cycles in each. The champion's outputs are read once for all of them. Of several outputs for an entity the
-- highest score counts. The top of each is among scores above 0. A full join is never a nested loop, whatever the
-- planner thinks of the number of rows. Most scores are equal; their
-- differences of 0 come first in order, so that only the others are kept for the p99.
with cell as materialized (
    select c.at, f.*
      from (select at, primary_is_replay, array_agg(number) as numbers, array_agg(shadow_id) as shadow_ids,
                   array_agg(shadow_is_replay) as shadow_replays
              from unnest(%(cycles)s::timestamptz[], %(numbers)s::int[], %(shadow_ids)s::bigint[],
                          %(primary_replays)s::boolean[], %(shadow_replays)s::boolean[])
                   w (at, number, shadow_id, primary_is_replay, shadow_is_replay)
             group by at, primary_is_replay) c
     cross join lateral (
           with champion as materialized (
               select entity_id, max(score) as score, true as has from {schema}.detection_model_run_outputs
                where cycle_started_at = c.at and model_id = %(model_id)s and version_id = %(primary_id)s
                  and is_replay = c.primary_is_replay and entity_id is not null group by entity_id)
           select shadow.number, e.*
             from unnest(c.numbers, c.shadow_ids, c.shadow_replays) shadow (number, version_id, is_replay)
            cross join lateral (
                  select count(*) as entities,
                         count(*) filter (where has_p and has_s) as in_both,
                         count(*) filter (where has_s is null) as only_primary,
                         count(*) filter (where has_p is null) as only_shadow,
                         count(*) filter (where has_p and p is null and s is not null) as null_in_primary,
                         count(*) filter (where has_s and s is null and p is not null) as null_in_shadow,
                         count(p - s) as scored,
                         count(*) filter (where s > %(above)s and p > %(above)s) as both_flagged,
                         count(*) filter (where s > %(above)s and p <= %(above)s) as newly_flagged,
                         count(*) filter (where p > %(above)s and s <= %(above)s) as lost,
                         count(*) filter (where s > %(above)s and p is null) as flagged_unseen,
                         count(*) filter (where p > %(above)s and s is null) as lost_unseen,
                         array_agg(abs(p - s)) filter (where p <> s) as differences,
                         (array_agg(entity_id order by p desc, entity_id)
                             filter (where p > 0 and s is not null))[:%(top)s] as primary_top,
                         (array_agg(entity_id order by s desc, entity_id)
                             filter (where s > 0 and p is not null))[:%(top)s] as shadow_top,
                         (array_agg(jsonb_build_array(entity_id, p, s) order by s - p desc, entity_id)
                             filter (where s > %(above)s and p <= %(above)s))[:%(max_examples)s] as newly_examples,
                         (array_agg(jsonb_build_array(entity_id, p, s) order by p - s desc, entity_id)
                             filter (where p > %(above)s and s <= %(above)s))[:%(max_examples)s] as lost_examples
                    from (select entity_id, champion.has as has_p, o.has as has_s, champion.score as p, o.score as s
                            from champion full join
                                 (select entity_id, max(score) as score, true as has
                                    from {schema}.detection_model_run_outputs
                                   where cycle_started_at = c.at and model_id = %(model_id)s
                                     and version_id = shadow.version_id and is_replay = shadow.is_replay
                                     and entity_id is not null
                                   group by entity_id) o using (entity_id)) both_sides) e) f
), quantile as (
    select number, 0.99 * (sum(scored) - 1) as place, sum(scored)::bigint - floor(0.99 * (sum(scored) - 1))::bigint as rank
      from cell group by number having sum(scored) > 0
), largest as materialized (
    select number, place - floor(place) as part, rank,
           array(select d from cell c, unnest(c.differences) d where c.number = quantile.number order by d desc limit rank) as d
      from quantile
), furthest as (
    select number, coalesce(d[rank], 0) + part::float8 * (coalesce(d[rank - 1], 0) - coalesce(d[rank], 0)) as p99
      from largest
)
select cell.number, at, entities, in_both, only_primary, only_shadow, null_in_primary, null_in_shadow, scored,
       both_flagged, newly_flagged, lost, flagged_unseen, lost_unseen, primary_top, shadow_top, newly_examples,
       lost_examples, p99
  from cell left join furthest using (number) order by number, at;

-- name: runs_of_two
-- The run of each cycle that counts for each of two versions: a success before a failure, live before a replay.
select distinct on (version_id, cycle_started_at)
       version_id, cycle_started_at as at, is_replay, outcome::text as outcome, duration_ms, output_count, error,
       canaries
  from {schema}.detection_model_runs
 where model_id = %(model_id)s and version_id = any (%(version_ids)s)
   and cycle_started_at >= coalesce(%(start)s::timestamptz, '-infinity')
   and cycle_started_at < coalesce(%(end)s::timestamptz, 'infinity')
   and started_at <= %(known_at)s and (%(has_replays)s or not is_replay)
 order by version_id, cycle_started_at, outcome = 'SUCCEEDED' desc, is_replay;

-- name: labelled_units
-- The labels about some cycles of two versions, as known at an instant, and the highest score of each of the two in
-- the cycles of each label's interval; in the order in which labels became known. width_bucket counts the cycles
-- before an instant. Of overlapping labels of an entity one counts. Each cycle is read once, and a full join is never a
-- nested loop, whatever the planner thinks of the number of rows.
with known as materialized (
    select * from (
        select distinct on (entity_id, model_id, valid)
               label_id, entity_id, model_id, valid, is_positive, recorded_at
          from {schema}.detection_labels
         where cycle_id = %(cycle_id)s and (model_id is null or model_id = %(model_id)s)
           and recorded_at <= %(known_at)s
         order by entity_id, model_id, valid, recorded_at desc, label_id desc) newest
     where is_positive is not null
       and width_bucket(coalesce(upper(valid), 'infinity') - interval '1 microsecond', %(cycles)s::timestamptz[])
         > width_bucket(lower(valid) - interval '1 microsecond', %(cycles)s::timestamptz[])
), label as materialized (
    select * from known k
     where not exists (
           select from known o
            where o.entity_id = k.entity_id and o.valid && k.valid and o.label_id <> k.label_id
              and (o.model_id is not null, o.recorded_at, o.label_id)
                > (k.model_id is not null, k.recorded_at, k.label_id))
), span as materialized (
    select range_agg(valid) as labelled from label
), cycle as (
    select c.* from unnest(%(cycles)s::timestamptz[], %(primary_replays)s::boolean[], %(shadow_replays)s::boolean[])
                    c (at, primary_is_replay, shadow_is_replay), span
     where c.at <@ span.labelled
), best as (
    select c.at, o.version_id, o.entity_id, o.score
      from cycle c
     cross join lateral (
           select version_id, entity_id, score
             from {schema}.detection_model_run_outputs
            where cycle_started_at = c.at and model_id = %(model_id)s
              and version_id in (%(primary_id)s, %(shadow_id)s) and entity_id is not null and score is not null
              and is_replay = case version_id when %(primary_id)s then c.primary_is_replay
                                              else c.shadow_is_replay end) o
), scored as (
    select l.label_id, max(b.score) filter (where b.version_id = %(primary_id)s) as primary_score,
           max(b.score) filter (where b.version_id = %(shadow_id)s) as shadow_score
      from best b full join label l using (entity_id)
     where coalesce(l.valid @> b.at, false)
     group by l.label_id
)
select array_agg(l.label_id order by l.recorded_at, l.label_id) as label_ids,
       array_agg(l.is_positive order by l.recorded_at, l.label_id) as is_positive,
       array_agg(coalesce(s.primary_score, 'NaN') order by l.recorded_at, l.label_id) as primary_scores,
       array_agg(coalesce(s.shadow_score, 'NaN') order by l.recorded_at, l.label_id) as shadow_scores,
       (select count(*) from known) - count(*) as overlapped
  from label l left join scored s using (label_id);

-- name: entities_of_labels
-- The entities that labels are about.
select label_id, entity_id from {schema}.detection_labels where label_id = any (%(label_ids)s);

-- name: differing_entities
-- The entities on which two versions differ in some cycles, each in the cycle in which they differ most, the furthest
-- first. Of several outputs for an entity the highest score counts; one without a score differs by 2, the most.
with cycle as (
    select * from unnest(%(cycles)s::timestamptz[], %(first_replays)s::boolean[], %(second_replays)s::boolean[])
                  c (at, first_is_replay, second_is_replay)
), aligned as (
    select c.at, e.entity_id, e.p, e.s
      from cycle c
     cross join lateral (
           select entity_id, p, s
             from (select entity_id, max(score) as p, true as has_p from {schema}.detection_model_run_outputs
                    where cycle_started_at = c.at and model_id = %(model_id)s and version_id = %(first_id)s
                      and is_replay = c.first_is_replay and entity_id is not null group by entity_id) f
             full join
                  (select entity_id, max(score) as s, true as has_s from {schema}.detection_model_run_outputs
                    where cycle_started_at = c.at and model_id = %(model_id)s and version_id = %(second_id)s
                      and is_replay = c.second_is_replay and entity_id is not null group by entity_id) g
            using (entity_id)
            where p is distinct from s
              and (not %(flips)s or coalesce(p > %(above)s, false) <> coalesce(s > %(above)s, false))
              and (%(q)s::text is null or strpos(lower(entity_id), lower(%(q)s)) > 0)) e
), furthest as (
    select distinct on (entity_id) entity_id, at, p, s, coalesce(abs(p - s), 2) as difference
      from aligned
     order by entity_id, coalesce(abs(p - s), 2) desc, at desc
), listed as (
    select * from furthest
     where %(after)s::float8 is null or (-difference, entity_id) > (-%(after)s::float8, %(after_id)s::text)
     order by difference desc, entity_id
     limit %(limit)s
)
select l.entity_id, l.at, l.p as first_score, l.s as second_score, l.difference, f.outputs as first_outputs,
       g.outputs as second_outputs,
       (select b.is_positive from {schema}.detection_labels b
         where b.cycle_id = %(cycle_id)s and b.entity_id = l.entity_id and b.valid @> l.at
           and (b.model_id is null or b.model_id = %(model_id)s) and b.recorded_at <= %(known_at)s
         order by b.model_id is not null desc, b.recorded_at desc, b.label_id desc limit 1) as label
  from listed l join cycle c using (at)
  left join lateral (
       select o.outputs from {schema}.detection_model_run_outputs o
        where o.cycle_started_at = l.at and o.model_id = %(model_id)s and o.version_id = %(first_id)s
          and o.is_replay = c.first_is_replay and o.entity_id = l.entity_id
        order by o.score desc nulls last limit 1) f on true
  left join lateral (
       select o.outputs from {schema}.detection_model_run_outputs o
        where o.cycle_started_at = l.at and o.model_id = %(model_id)s and o.version_id = %(second_id)s
          and o.is_replay = c.second_is_replay and o.entity_id = l.entity_id
        order by o.score desc nulls last limit 1) g on true
 order by l.difference desc, l.entity_id;

-- name: cycles_to_replay
-- Of the latest cycles that the champion completed, those that a version has not, live or as a replay; a replay that was
-- ended before the cycle was closed is none.
with latest as (
    select r.cycle_started_at from {schema}.detection_model_runs r
     where r.cycle_id = %(cycle_id)s and r.version_id = %(champion_id)s and r.outcome = 'SUCCEEDED' and not r.is_replay
     order by r.cycle_started_at desc limit %(latest)s
)
select l.cycle_started_at as at, exists (
           select from {schema}.detection_model_runs own
            where own.cycle_id = %(cycle_id)s and own.cycle_started_at = l.cycle_started_at
              and own.version_id = %(version_id)s and own.outcome = 'SUCCEEDED'
              and not (own.is_replay and exists (
                      select from {schema}.detection_cycle_runs c
                       where c.cycle_id = %(cycle_id)s and c.cycle_started_at = l.cycle_started_at
                         and c.mode = 'override' and c.closed_at is null))) as is_done
  from latest l order by l.cycle_started_at;
