-- name: manifests
-- The manifests of some cycles, each from its own instant on, for verdicts; without replays, or the replays of some
-- versions alone. Those of every model, or of one and all its upstreams now.
with recursive needed as (
    select %(model_id)s::text as model_id
     union
    select d.depends_on from needed join {schema}.detection_model_dependencies d using (model_id)
     where d.superseded_at is null
)
select r.cycle_id, r.cycle_started_at, r.model_id, r.version_id, v.version, r.role::text, r.outcome::text,
       r.error, r.input_count, r.input_digest, r.newest_input_at, r.output_count, r.output_digest,
       r.score_counts, r.canaries, r.features, r.reads_since, r.reads, r.params_digest, v.params,
       r.score_edges
  from unnest(%(cycle_ids)s::text[], %(since)s::timestamptz[]) as per_cycle (cycle_id, since)
  join {schema}.detection_model_runs r
    on r.cycle_id = per_cycle.cycle_id and r.cycle_started_at >= per_cycle.since and r.cycle_started_at < %(end)s
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.is_replay = (%(replays_of)s::bigint[] is not null)
   and (%(replays_of)s::bigint[] is null or r.version_id = any (%(replays_of)s::bigint[]))
   and (%(model_id)s::text is null or r.model_id = any (array(select n.model_id from needed n)))
 order by r.version_id, r.cycle_started_at;

-- name: upstreams
-- The dependencies of each model now.
select d.model_id, d.depends_on from {schema}.detection_model_dependencies d where d.superseded_at is null;

-- name: with_inputs
-- The runs of some cycles that had inputs, and how many, each from its own instant on.
select r.cycle_id, r.cycle_started_at, max(r.input_count)
  from unnest(%(cycle_ids)s::text[], %(since)s::timestamptz[]) as per_cycle (cycle_id, since)
  join {schema}.detection_model_runs r
    on r.cycle_id = per_cycle.cycle_id and r.cycle_started_at >= per_cycle.since and r.cycle_started_at < %(end)s
 where not r.is_replay and r.input_count > 0
 group by 1, 2
 order by 1, 2;

-- name: planned
-- The versions in the recorded plans, of every model or of one; a cycle in whose plan there is none has one row
-- without a version.
select c.cycle_id, c.cycle_started_at, c.closed_at is null and c.opened_at + %(patience)s > now() as is_open,
       m.value ->> 'model_id' as model_id, (v.value ->> 'version_id')::bigint as version_id,
       v.value ->> 'version' as version, v.value ->> 'role' as role,
       c.plan -> 'broken' ->> (m.value ->> 'model_id') as broken
  from {schema}.detection_cycle_runs c
  left join lateral jsonb_array_elements(c.plan -> 'models') m
         on (m.value ->> 'is_enabled')::boolean is distinct from false
        and (%(model_id)s::text is null or m.value ->> 'model_id' = %(model_id)s::text)
  left join lateral jsonb_array_elements(m.value -> 'versions') v
         on not coalesce((v.value ->> 'is_replay')::boolean, false)
 where c.mode = 'as_of' and c.cycle_started_at >= %(start)s and c.cycle_started_at < %(end)s;

-- name: opened
-- The runs of some cycles that were opened, each from its own instant on.
select r.cycle_id, r.cycle_started_at
  from unnest(%(cycle_ids)s::text[], %(since)s::timestamptz[]) as per_cycle (cycle_id, since)
  join {schema}.detection_cycle_runs r
    on r.cycle_id = per_cycle.cycle_id and r.cycle_started_at >= per_cycle.since and r.cycle_started_at < %(end)s
   and r.mode = 'as_of';

-- name: due
-- The versions that should have run in cycles which were never opened: roles as known then.
select due.cycle_id, due.cycle_started_at, m.model_id, v.version_id, v.version, r.role::text
  from unnest(%(cycle_ids)s::text[], %(instants)s::timestamptz[]) as due (cycle_id, cycle_started_at)
  join {schema}.detection_models m on m.cycle_id = due.cycle_id and m.is_enabled
  join {schema}.detection_model_roles r
    on r.model_id = m.model_id and r.valid @> due.cycle_started_at
   and (r.is_founding or r.recorded_at <= due.cycle_started_at)
   and (r.superseded_at is null or r.superseded_at > due.cycle_started_at)
  join {schema}.detection_model_versions v on v.version_id = r.version_id;
