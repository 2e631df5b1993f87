-- name: delete
-- Delete the outputs that an earlier attempt stored of this run.
delete from {schema}.detection_model_run_outputs
where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
  and version_id = %(version_id)s and is_replay = %(is_replay)s;

-- name: copy
-- All outputs of one run; the columns that are the same in every row come first.
copy {schema}.detection_model_run_outputs (
    cycle_duration_ms, cycle_started_at, model_id, version_id, role, is_replay,
    entity_id, score, input_ref, outputs)
from stdin (format binary);

-- name: count
-- How many outputs a run has stored.
select count(*) from {schema}.detection_model_run_outputs
where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
  and version_id = %(version_id)s and is_replay = %(is_replay)s;

-- name: read
-- The outputs of a run in a fixed order: one table partition holds them all.
select input_ref, outputs from {schema}.detection_model_run_outputs
where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
  and version_id = %(version_id)s and is_replay = %(is_replay)s
order by ctid;

-- name: read_columns
-- Only entity ids and scores, in the same order.
select entity_id, score from {schema}.detection_model_run_outputs
where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
  and version_id = %(version_id)s and is_replay = %(is_replay)s
order by ctid;

-- name: score_key
-- The entry of an output that is its score.
select score_key from {schema}.detection_models where model_id = %(model_id)s;
