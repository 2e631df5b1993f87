-- name: role_history
-- Every row of the history of a model's roles, the newest first: what was believed from recorded_at to superseded_at.
select v.version, r.role::text as role, lower(r.valid) as since, upper(r.valid) as until, r.recorded_at, r.superseded_at,
       r.is_founding, r.is_correction, r.actor, r.reason, r.promotion_id
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.model_id = %(model_id)s
 order by r.recorded_at desc, r.role_id desc
 limit %(limit)s;

-- name: runs
-- The manifests of one cycle, or of the newest that has any; replays, which have no role, behind the live ones.
select r.cycle_started_at, r.model_id, v.version, case when not r.is_replay then r.role::text end as role, r.is_replay, r.outcome::text as outcome,
       r.input_count, r.output_count, r.duration_ms, r.started_at, r.artifact_sha256, r.error
  from {schema}.detection_model_runs r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.cycle_id = %(cycle_id)s
   and r.cycle_started_at = coalesce(%(at)s::timestamptz,
                                     (select max(n.cycle_started_at) from {schema}.detection_model_runs n
                                       where n.cycle_id = %(cycle_id)s))
 order by r.is_replay, r.model_id, r.role, v.version;

-- name: outputs
-- The stored outputs of a model in one cycle, the highest scores first; the champion's unless a version is named.
-- A replay has no role.
select o.entity_id, o.score, v.version, case when not o.is_replay then o.role::text end as role, o.is_replay, o.outputs, o.input_ref
  from {schema}.detection_model_run_outputs o
  join {schema}.detection_model_versions v on v.version_id = o.version_id
 where o.cycle_started_at = %(at)s and o.model_id = %(model_id)s
   and (%(entity_id)s::text is null or o.entity_id = %(entity_id)s)
   and case when %(version)s::text is null then o.role = 'PRIMARY' and not o.is_replay else v.version = %(version)s end
 order by o.score desc nulls last, o.entity_id, o.is_replay
 limit %(limit)s;

-- name: newest_cycle_of_model
-- The newest cycle for which a model has a live result.
select max(cycle_started_at) as at from {schema}.detection_model_runs
 where model_id = %(model_id)s and not is_replay;

-- name: events
-- Events, the newest first; the open ones alone unless all are asked for.
select e.event_id, e.model_id, e.category, e.entity_id, e.severity::text as severity, e.status::text as status,
       e.first_seen_at, e.last_seen_at, e.acknowledged_by, e.closed_by
  from {schema}.detection_events e
 where (%(model_id)s::text is null or e.model_id = %(model_id)s)
   and (%(entity_id)s::text is null or e.entity_id = %(entity_id)s)
   and (%(has_closed)s or e.status = 'OPEN')
 order by e.last_seen_at desc, e.event_id desc
 limit %(limit)s;
