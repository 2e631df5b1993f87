-- name: make
-- Where the rows of a SQL model stay until they have been looked at: the model's SELECT may write nothing else.
create temp table if not exists detection_selected_outputs (
    entity_id text,
    score double precision constraint score_is_finite check (score > '-Infinity' and score < 'Infinity'),
    outputs jsonb not null constraint outputs_is_object check (jsonb_typeof(outputs) = 'object')
) on commit delete rows;

-- name: limit
-- The longest that the SELECT may take, until the transaction ends.
select set_config('statement_timeout', %(limit)s, true);

-- name: own_limits
-- What a SELECT's limits are put in place of.
select current_setting('statement_timeout'), current_setting('role');

-- name: act_as
-- The rights of this role, until the transaction ends or they are given back.
select set_config('role', %(role)s, true);

-- name: as_before
-- What follows the SELECT is the engine's own.
select set_config('statement_timeout', %s, true), set_config('role', %s, true);

-- name: facts
-- The counts for the manifest.
select count(*), count(score), count(*) filter (where score > 0), count(*) filter (where score > 0.3),
       count(*) filter (where score > 0.5), count(*) filter (where score > 0.7)
  from pg_temp.detection_selected_outputs;

-- name: store
-- The rows become the run's outputs.
insert into {schema}.detection_model_run_outputs (
    cycle_duration_ms, cycle_started_at, model_id, version_id, role, is_replay, entity_id, score, input_ref,
    outputs)
select %(duration_ms)s, %(cycle_started_at)s, %(model_id)s, %(version_id)s, %(role)s::{schema}.detection_role,
       %(is_replay)s, entity_id, score, jsonb_object('{{entity}}', array[entity_id]),
       jsonb_set(outputs, '{{score}}', coalesce(to_jsonb(score), 'null'))
  from pg_temp.detection_selected_outputs;
