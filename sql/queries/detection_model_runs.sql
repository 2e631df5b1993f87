-- name: next_attempt
-- The number of an attempt that starts now.
select nextval('{schema}.detection_attempts');

-- name: try_lock
-- One writer at a time for each run, until the transaction ends: the key of its lock, and whether it was free. Until
-- then, too, the server ends the session when its client is gone, and others see which attempt it is.
select key, pg_try_advisory_xact_lock(key),
       set_config('client_connection_check_interval', '2s', true),
       set_config('application_name', 'airflow_detection attempt ' || %(attempt)s::bigint, true)
  from hashtextextended(
           format('detection_model_runs:%%s:%%s:%%s:%%s', %(cycle_id)s::text,
                  extract(epoch from %(cycle_started_at)s::timestamptz), %(version_id)s::bigint,
                  %(is_replay)s::boolean), 0) as key;

-- name: try_lock_shard
-- The same for one shard of a run.
select key, pg_try_advisory_xact_lock(key),
       set_config('client_connection_check_interval', '2s', true),
       set_config('application_name', 'airflow_detection attempt ' || %(attempt)s::bigint, true)
  from hashtextextended(
           format('detection_shards:%%s:%%s:%%s:%%s:%%s:%%s', %(cycle_id)s::text,
                  extract(epoch from %(cycle_started_at)s::timestamptz), %(version_id)s::bigint,
                  %(is_replay)s::boolean, %(shard_count)s::integer, %(shard)s::integer), 0) as key;

-- name: lock
-- Wait for the other writer.
select pg_advisory_xact_lock(%(key)s::bigint);

-- name: holder
-- The session that holds the lock of a run, and the number of its attempt where it has one.
select pid, substring(application_name from '^airflow_detection attempt ([0-9]+)$')::bigint
  from pg_locks join pg_stat_activity using (pid)
 where locktype = 'advisory' and granted and objsubid = 1
   and database = (select oid from pg_database where datname = current_database())
   and (classid::bigint << 32) | objid::bigint = %(key)s::bigint;

-- name: end_holder
-- End the session if it still holds the lock.
select pg_terminate_backend(pid)
  from pg_locks
 where pid = %(pid)s and locktype = 'advisory' and granted and objsubid = 1
   and database = (select oid from pg_database where datname = current_database())
   and (classid::bigint << 32) | objid::bigint = %(key)s::bigint;

-- name: stored
-- The attempt that has written this run, its outcome, and whether its outputs are the champion's.
select attempt, outcome::text, role = 'PRIMARY' and outcome = 'SUCCEEDED'
from {schema}.detection_model_runs
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and version_id = %(version_id)s and is_replay = %(is_replay)s;

-- name: of_model
-- The live run of a model's champion, or of one of its versions, in a cycle, where it ended in one of these ways.
select r.cycle_id, v.version, r.role::text as role, r.outcome::text as outcome, r.input_count, r.output_count,
       r.duration_ms
from {schema}.detection_model_runs r
join {schema}.detection_model_versions v using (version_id)
where r.cycle_id = %(cycle_id)s and r.cycle_started_at = %(cycle_started_at)s and not r.is_replay
  and r.model_id = %(model_id)s and r.outcome::text = any(%(outcomes)s)
  and case when %(version)s::text is null then r.role = 'PRIMARY' else v.version = %(version)s end;

-- name: upsert
-- The manifest of this attempt in place of any earlier one.
insert into {schema}.detection_model_runs (
    cycle_id, cycle_started_at, version_id, is_replay, model_id, role, outcome, attempt, input_count,
    newest_input_at, reads_since, reads, history_tables, input_digest, output_count, score_counts, score_edges,
    started_at, duration_ms, stage_ms, peak_memory_bytes, params_digest, artifact_sha256, output_digest, code_version,
    canaries, features, error, failed_attempt)
values (
    %(cycle_id)s, %(cycle_started_at)s, %(version_id)s, %(is_replay)s, %(model_id)s,
    %(role)s::{schema}.detection_role, %(new_outcome)s::{schema}.detection_outcome, %(attempt)s,
    %(input_count)s, %(newest_input_at)s, %(reads_since)s, %(reads)s::jsonb, %(history_tables)s::text[],
    %(input_digest)s, %(output_count)s,
    %(score_counts)s::jsonb, %(score_edges)s::jsonb,
    %(started_at)s, %(duration_ms)s, %(stage_ms)s::jsonb, %(peak_memory_bytes)s, %(params_digest)s,
    %(artifact_sha256)s, %(output_digest)s, %(code_version)s, %(canaries)s::jsonb, %(features)s::jsonb,
    %(error)s, null)
on conflict (cycle_id, cycle_started_at, version_id, is_replay) do update set
    model_id = excluded.model_id, role = excluded.role, outcome = excluded.outcome,
    attempt = excluded.attempt, input_count = excluded.input_count, newest_input_at = excluded.newest_input_at,
    reads_since = excluded.reads_since, reads = excluded.reads, history_tables = excluded.history_tables,
    output_count = excluded.output_count, score_counts = excluded.score_counts,
    score_edges = excluded.score_edges,
    started_at = excluded.started_at, duration_ms = excluded.duration_ms, stage_ms = excluded.stage_ms,
    peak_memory_bytes = excluded.peak_memory_bytes, params_digest = excluded.params_digest,
    artifact_sha256 = excluded.artifact_sha256, input_digest = excluded.input_digest,
    output_digest = excluded.output_digest, code_version = excluded.code_version,
    canaries = excluded.canaries, features = excluded.features, error = excluded.error,
    failed_attempt = null;

-- name: note_failure
-- A rerun failed: the success that is stored stays, the failure is noted beside it.
update {schema}.detection_model_runs
set failed_attempt = %(attempt)s, error = %(error)s
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
  and version_id = %(version_id)s and is_replay = %(is_replay)s;

-- name: record_missing_run
-- A manifest for a version that left none.
insert into {schema}.detection_model_runs (
    cycle_id, cycle_started_at, version_id, is_replay, model_id, role, outcome, attempt, started_at,
    params_digest, error)
values (
    %(cycle_id)s, %(cycle_started_at)s, %(version_id)s, %(is_replay)s, %(model_id)s,
    %(role)s::{schema}.detection_role, %(new_outcome)s::{schema}.detection_outcome, 0, clock_timestamp(),
    %(params_digest)s, %(error)s)
on conflict do nothing;

-- name: of_cycle
-- Every manifest of one cycle.
select version_id, is_replay, model_id, role::text, outcome::text, attempt, input_count, output_count,
       duration_ms, error
from {schema}.detection_model_runs
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s
order by model_id, version_id, is_replay;
