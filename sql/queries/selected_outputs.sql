-- name: create_table
-- The table that takes the rows of a SQL model until they are checked: the model's SELECT can write nothing else.
create temp table detection_selected_outputs (
    entity_id text,
    score double precision constraint score_is_finite check (score > '-Infinity' and score < 'Infinity'),
    outputs jsonb not null constraint outputs_is_object check (jsonb_typeof(outputs) = 'object')
) on commit drop;

-- name: limit
-- The longest that the SELECT may take, until the transaction ends.
select set_config('statement_timeout', %(limit)s, true);

-- name: current_limits
-- The limits that apply before the SELECT's own.
select current_setting('statement_timeout'), current_setting('role');

-- name: act_as
-- The rights of this role, until the transaction ends or they are restored.
select set_config('role', %(role)s, true);

-- name: restore_limits
-- The limits from before the SELECT, for the statements that follow.
select set_config('statement_timeout', %s, true), set_config('role', %s, true);

-- name: counts
-- For each number of edges that are below a score (null: no score): how many outputs, their least and greatest score.
-- `negated` are the edges with the other sign, in order: an edge that a score equals is not below it.
select cardinality(%(negated)s::float8[]) - width_bucket(-score, %(negated)s::float8[]) as edges_below,
       count(*), min(score), max(score)
  from pg_temp.detection_selected_outputs
 group by 1;

-- name: beyond
-- One row whose score is beyond the range of the model's scores.
select entity_id, score from pg_temp.detection_selected_outputs
 where score < %(low)s or score > %(high)s order by score desc, entity_id limit 1;

-- name: store
-- Store the selected rows as the run's outputs.
insert into {schema}.detection_model_run_outputs (
    cycle_duration_ms, cycle_started_at, model_id, version_id, role, is_replay, entity_id, score, input_ref,
    outputs)
select %(duration_ms)s, %(cycle_started_at)s, %(model_id)s, %(version_id)s, %(role)s::{schema}.detection_role,
       %(is_replay)s, entity_id, score, jsonb_object('{{entity}}', array[entity_id]),
       jsonb_set(outputs, '{{score}}', coalesce(to_jsonb(score), 'null'))
  from pg_temp.detection_selected_outputs;
