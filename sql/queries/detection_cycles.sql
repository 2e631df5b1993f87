-- name: ids
-- Only the ids, which can always be read.
select cycle_id from {schema}.detection_cycles order by cycle_id;

-- name: all
-- Every cycle, or those with these ids.
select cycle_id, schedule, lookback, input_query, time_key, legacy_entrypoint, execution::text as execution,
       start_date, max_active_runs, is_enabled, description, catchup, tags, owner, owner_links,
       default_args, deadline
  from {schema}.detection_cycles
 where %(cycle_ids)s::text[] is null or cycle_id = any (%(cycle_ids)s::text[])
 order by cycle_id;

-- name: put
-- Register a cycle, or replace all its settings.
insert into {schema}.detection_cycles
       (cycle_id, schedule, lookback, input_query, time_key, legacy_entrypoint, execution, start_date,
        max_active_runs, is_enabled, description, catchup, tags, owner, owner_links, default_args, deadline)
values (%(cycle_id)s, %(schedule)s, %(lookback)s, %(input_query)s, %(time_key)s, %(legacy_entrypoint)s,
        %(execution)s::{schema}.detection_execution, %(start_date)s, %(max_active_runs)s,
        %(is_enabled)s, %(description)s, %(catchup)s, %(tags)s::text[], %(owner)s,
        %(owner_links)s, %(default_args)s, %(deadline)s)
    on conflict (cycle_id) do update set
       schedule = excluded.schedule, lookback = excluded.lookback, input_query = excluded.input_query,
       time_key = excluded.time_key, legacy_entrypoint = excluded.legacy_entrypoint,
       execution = excluded.execution,
       start_date = excluded.start_date, max_active_runs = excluded.max_active_runs,
       is_enabled = excluded.is_enabled, description = excluded.description,
       catchup = excluded.catchup, tags = excluded.tags, owner = excluded.owner,
       owner_links = excluded.owner_links, default_args = excluded.default_args, deadline = excluded.deadline;

-- name: newest_planned
-- The newest instance of a cycle that was planned, or ran in a hand-written Dag.
select greatest(
           (select max(cycle_started_at) from {schema}.detection_cycle_runs where cycle_id = %(cycle_id)s),
           (select max(cycle_started_at) from {schema}.detection_model_runs
             where cycle_id = %(cycle_id)s and not is_replay)) as newest;

-- name: last_runs
-- Of the cycle of each model the newest that has a recorded plan, or a live result: a hand-written Dag records no plan.
select m.model_id, m.cycle_id, last_run.at as last_run_at
  from {schema}.detection_models m
  join lateral (
       select greatest((select max(cycle_started_at) from {schema}.detection_cycle_runs r
                         where r.cycle_id = m.cycle_id),
                       (select max(cycle_started_at) from {schema}.detection_model_runs r
                         where r.cycle_id = m.cycle_id and not is_replay)) as at) as last_run on true
 where m.model_id = any (%(model_ids)s::text[]);
