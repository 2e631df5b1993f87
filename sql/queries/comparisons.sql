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

-- name: compare
-- A champion beside some shadows of its model on the entities of each cycle; one row a shadow and cycle, the p99 of
-- all its cycles in each. The champion's outputs are read once for all of them. Of several outputs for an entity the
-- highest score counts. The top of each is among scores above 0. A full join is never a nested loop, whatever the
-- planner thinks of the number of rows. Most scores are equal; their
-- differences of 0 come first in order, so that only the others are kept for the p99.
with cell as materialized (
    select c.at, f.*
      from (select at, array_agg(number) as numbers, array_agg(shadow_id) as shadow_ids
              from unnest(%(cycles)s::timestamptz[], %(numbers)s::int[], %(shadow_ids)s::bigint[])
                   w (at, number, shadow_id) group by at) c
     cross join lateral (
           with champion as materialized (
               select entity_id, max(score) as score, true as has from {schema}.detection_model_run_outputs
                where cycle_started_at = c.at and model_id = %(model_id)s and version_id = %(primary_id)s
                  and not is_replay and entity_id is not null group by entity_id)
           select shadow.number, e.*
             from unnest(c.numbers, c.shadow_ids) shadow (number, version_id)
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
                                     and version_id = shadow.version_id and not is_replay and entity_id is not null
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
