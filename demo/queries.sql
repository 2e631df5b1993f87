-- name: metadata_revision
-- The migration that Airflow's metadata database is at.
select version_num from alembic_version;

-- name: last_position
-- The newest position up to now.
select max(observed_at) from detection.ais_positions where observed_at <= now();

-- name: results
-- What each version that held a role did in each of the cycles; no manifest gives nulls.
select cycle.started_at as cycle_started_at, version.model_id, version.version, role.role::text, run.outcome::text,
       run.input_count, run.output_count, run.duration_ms, run.started_at >= %(since)s as is_new,
       run.error
  from unnest(%(cycles)s::timestamptz[]) as cycle (started_at)
  join detection.detection_models as model on model.cycle_id = %(cycle_id)s and model.is_enabled
  join detection.detection_model_versions as version using (model_id)
  join detection.detection_model_roles as role
    on role.version_id = version.version_id and role.valid @> cycle.started_at and role.superseded_at is null
  left join detection.detection_model_runs as run
    on run.cycle_id = %(cycle_id)s and run.cycle_started_at = cycle.started_at
   and run.version_id = version.version_id and not run.is_replay
 order by cycle.started_at, version.model_id, role.role, version.version;
