-- A replay holds no role: the champions' views say so, as the listings do.
create or replace view {schema}.detection_run_results as
select r.cycle_id, r.cycle_started_at, r.model_id, v.version, case when not r.is_replay then r.role end as role,
       r.is_replay, r.outcome, r.input_count, r.output_count, r.started_at, r.duration_ms, r.error, r.artifact_sha256
  from {schema}.detection_model_runs r
  join {schema}.detection_model_versions v on v.version_id = r.version_id;

create or replace view {schema}.detection_output_scores as
select o.cycle_started_at, o.model_id, v.version, case when not o.is_replay then o.role end as role, o.is_replay,
       o.entity_id, o.score, o.outputs, o.input_ref
  from {schema}.detection_model_run_outputs o
  join {schema}.detection_model_versions v on v.version_id = o.version_id;
