-- name: lock
-- One session adds labels at a time, so that it sees what another has just added.
select set_config('idle_in_transaction_session_timeout', %(idle_ms)s, true),
       set_config('lock_timeout', %(wait_ms)s, true),
       pg_advisory_xact_lock(hashtextextended('detection labels ' || %(schema)s::text, 0));

-- name: lock_for_reading
-- Labels that were recorded and are not committed yet are waited for.
select set_config('lock_timeout', %(wait_ms)s, true),
       pg_advisory_xact_lock_shared(hashtextextended('detection labels ' || %(schema)s::text, 0));

-- name: now
-- The database's clock, read under the lock.
select clock_timestamp() as now;

-- name: models
-- The cycle of each registered model; a row without a model for each cycle.
select cycle_id, model_id from {schema}.detection_models
union all
select cycle_id, null from {schema}.detection_cycles;

-- name: drop_incoming
-- Drop the temporary table of an earlier load of the same transaction.
drop table if exists pg_temp.incoming_labels;

-- name: create_incoming
-- Create the temporary table into which labels are copied before the new ones are inserted.
create temp table incoming_labels (
    line bigint, cycle_id text, model_id text, entity_id text, valid_from timestamptz, valid_to timestamptz,
    is_positive boolean, source text, note text) on commit drop;

-- name: copy_incoming
-- Copy labels into the temporary table.
copy pg_temp.incoming_labels
    (line, cycle_id, model_id, entity_id, valid_from, valid_to, is_positive, source, note)
from stdin;

-- name: analyze_incoming
-- Let the planner know how many labels have come.
analyze pg_temp.incoming_labels;

-- name: insert_new
-- Insert the labels that say something new of their unit, in the order in which they came; of several of one unit
-- the last. To withdraw what was never said is nothing new.
insert into {schema}.detection_labels (cycle_id, model_id, entity_id, valid, is_positive, source, note, actor)
select i.cycle_id, i.model_id, i.entity_id, i.valid, i.is_positive, i.source, i.note,
       coalesce(%(actor)s::text, current_user)
  from (select distinct on (cycle_id, entity_id, model_id, valid) *
          from (select *, tstzrange(valid_from, valid_to) as valid from pg_temp.incoming_labels) incoming
         order by cycle_id, entity_id, model_id, valid, line desc) i
  left join lateral (
       select l.is_positive, l.source, l.note, true as is_there
         from {schema}.detection_labels l
        where l.cycle_id = i.cycle_id and l.entity_id = i.entity_id and l.valid = i.valid
          and l.model_id is not distinct from i.model_id
        order by l.recorded_at desc, l.label_id desc
        limit 1) known on true
 where case when known.is_there
            then (known.is_positive, known.source, known.note) is distinct from (i.is_positive, i.source, i.note)
            else i.is_positive is not null end
 order by i.line;

-- name: known
-- The labels of a cycle that hold as known at an instant, the newest first; perhaps of one model, or one entity.
select label_id, cycle_id, model_id, entity_id, lower(valid) as valid_from, upper(valid) as valid_to, is_positive,
       source, note, recorded_at, actor
  from (select distinct on (entity_id, model_id, valid) *
          from {schema}.detection_labels
         where cycle_id = %(cycle_id)s and recorded_at <= %(known_at)s
           and (%(entity_id)s::text is null or entity_id = %(entity_id)s::text)
           and (%(model_id)s::text is null or model_id = %(model_id)s::text or model_id is null)
         order by entity_id, model_id, valid, recorded_at desc, label_id desc) newest
 where is_positive is not null
   and valid && tstzrange(%(start)s::timestamptz, %(end)s::timestamptz)
 order by recorded_at desc, label_id desc
 limit %(limit)s;
