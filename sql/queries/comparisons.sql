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
-- Two versions of a model side by side on the entities of each cycle; one row a cycle, the p99 of all in each.
-- Of several outputs for an entity the highest score counts. The top of each is among scores above 0. A full
-- join is never a nested loop, whatever the planner thinks of the number of rows.
with pair as materialized (
    select c.at, count(*) as entities,
           count(*) filter (where has_p and has_s) as in_both,
           count(*) filter (where has_s is null) as only_primary,
           count(*) filter (where has_p is null) as only_shadow,
           count(*) filter (where has_p and has_s and p is null and s is not null) as null_in_primary,
           count(*) filter (where has_p and has_s and p is not null and s is null) as null_in_shadow,
           count(d) as scored,
           count(*) filter (where p > %(above)s and s > %(above)s) as both_flagged,
           count(*) filter (where p <= %(above)s and s > %(above)s) as newly_flagged,
           count(*) filter (where p > %(above)s and s <= %(above)s) as lost,
           count(*) filter (where p is null and s > %(above)s) as flagged_unseen,
           count(*) filter (where s is null and p > %(above)s) as lost_unseen,
           array_agg(d) filter (where d is not null) as differences,
           (array_agg(entity_id order by p desc, entity_id) filter (where p > 0 and s is not null))[:%(top)s]
               as primary_top,
           (array_agg(entity_id order by s desc, entity_id) filter (where s > 0 and p is not null))[:%(top)s]
               as shadow_top,
           (array_agg(jsonb_build_array(entity_id, p, s) order by d desc, entity_id)
               filter (where p <= %(above)s and s > %(above)s))[:%(most)s] as newly_examples,
           (array_agg(jsonb_build_array(entity_id, p, s) order by d desc, entity_id)
               filter (where p > %(above)s and s <= %(above)s))[:%(most)s] as lost_examples
      from unnest(%(cycles)s::timestamptz[]) c (at)
     cross join lateral (
           select entity_id, p.has as has_p, s.has as has_s, p.score as p, s.score as s,
                  abs(p.score - s.score) as d
             from (select entity_id, max(score) as score, true as has
                     from {schema}.detection_model_run_outputs
                    where cycle_started_at = c.at and model_id = %(model_id)s and version_id = %(primary_id)s
                      and not is_replay and entity_id is not null group by entity_id) p
             full join
                  (select entity_id, max(score) as score, true as has
                     from {schema}.detection_model_run_outputs
                    where cycle_started_at = c.at and model_id = %(model_id)s and version_id = %(shadow_id)s
                      and not is_replay and entity_id is not null group by entity_id) s using (entity_id)) e
     group by c.at
), furthest as (
    select percentile_cont(0.99) within group (order by d) as p99 from pair, unnest(differences) d
)
select at, entities, in_both, only_primary, only_shadow, null_in_primary, null_in_shadow, scored, both_flagged,
       newly_flagged, lost, flagged_unseen, lost_unseen, primary_top, shadow_top, newly_examples, lost_examples, p99
  from pair, furthest order by at;
