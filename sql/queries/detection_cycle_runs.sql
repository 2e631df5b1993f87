-- name: record_plan
-- Record the plan that a cycle is opened with; reopening it counts the inputs that have arrived since. No row is
-- returned if another plan is recorded and stays (`is_first_to_stay`).
insert into {schema}.detection_cycle_runs
       (cycle_id, cycle_started_at, mode, plan, plan_digest, dag_run_id)
values (%(cycle_id)s, %(cycle_started_at)s, %(mode)s::{schema}.detection_mode, %(plan)s::jsonb, %(digest)s,
        %(dag_run_id)s)
on conflict (cycle_id, cycle_started_at, mode) do update set
    opened_at = clock_timestamp(),
    plan = excluded.plan, plan_digest = excluded.plan_digest, dag_run_id = excluded.dag_run_id,
    closed_at = null, summary = null, inputs_digest = null, shard_bounds = '{{}}'
where detection_cycle_runs.plan_digest = excluded.plan_digest or not %(is_first_to_stay)s
returning opened_at;

-- name: recorded_plan
-- The plan that a cycle was opened with.
select plan, plan_digest, opened_at from {schema}.detection_cycle_runs
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and mode = %(mode)s::{schema}.detection_mode;

-- name: record_summary
-- Record the summary of a cycle and that it is closed.
update {schema}.detection_cycle_runs
set summary = %(summary)s::jsonb, closed_at = clock_timestamp()
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and mode = %(mode)s::{schema}.detection_mode;

-- name: inputs_digest
-- The digest of the input rows that are kept since the cycle was opened.
select inputs_digest from {schema}.detection_cycle_runs
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and mode = %(mode)s::{schema}.detection_mode and opened_at = %(opened_at)s;

-- name: keep_inputs
-- Name the input rows that are kept, where none are yet; the digest that counts is returned.
update {schema}.detection_cycle_runs
set inputs_digest = coalesce(inputs_digest, %(digest)s)
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and mode = %(mode)s::{schema}.detection_mode and opened_at = %(opened_at)s and closed_at is null
returning inputs_digest;

-- name: patient_shard_bounds
-- A session that computes the bounds is idle meanwhile; one that waits for it gives up after ten minutes.
select set_config('idle_in_transaction_session_timeout', '0', true), set_config('lock_timeout', '10min', true),
       set_config('client_connection_check_interval', '2s', true);

-- name: lock_shard_bounds
-- One session at a time computes the bounds of a cycle, until its transaction ends.
select pg_advisory_xact_lock(hashtextextended(
    format('detection_shard_bounds:%%s:%%s', %(cycle_id)s::text,
           extract(epoch from %(cycle_started_at)s::timestamptz)), 0));

-- name: shard_bounds
-- Where the shards of an entity key begin, if that is known since the cycle was opened.
select shard_bounds -> %(name)s::text from {schema}.detection_cycle_runs
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and mode = %(mode)s::{schema}.detection_mode and opened_at = %(opened_at)s;

-- name: keep_shard_bounds
-- Keep where the shards begin.
update {schema}.detection_cycle_runs
set shard_bounds = jsonb_build_object(%(name)s::text, %(bounds)s::jsonb) || shard_bounds
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and mode = %(mode)s::{schema}.detection_mode and opened_at = %(opened_at)s;

-- name: replayable
-- The cycles in [start, end) that ran, and whether each of some versions has completed a replay in them and none is
-- under way, or was ended before the cycle was closed.
select cycle_started_at,
       count(distinct version_id) filter (where is_replay and outcome = 'SUCCEEDED'
                                            and version_id = any(%(version_ids)s)) = cardinality(%(version_ids)s)
           and not exists (select from {schema}.detection_cycle_runs c
                            where c.cycle_id = %(cycle_id)s and c.cycle_started_at = r.cycle_started_at
                              and c.mode = 'override' and c.closed_at is null)
  from {schema}.detection_model_runs r
 where cycle_id = %(cycle_id)s and cycle_started_at >= %(start)s and cycle_started_at < %(end)s
 group by cycle_started_at
having bool_or(not is_replay)
 order by cycle_started_at;
