-- name: lock
-- One transaction at a time changes the events of a model; taken after the lock of the run.
select pg_advisory_xact_lock(hashtextextended(format('detection_events:%%s', %(model_id)s::text), 0));

-- name: sighted
-- The entities that a run has sighted: before it is replaced.
select coalesce(array_agg(distinct entity_id), '{{}}')
  from {schema}.detection_model_run_outputs
 where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
   and version_id = %(version_id)s and is_replay = %(is_replay)s
   and score > 0.5 and role = 'PRIMARY' and not is_replay and entity_id is not null;

-- name: span
-- The time in which sightings may have to be cut into events anew, for all entities of the cycle together.
with model as (
    select event_gap as gap from {schema}.detection_models where model_id = %(model_id)s),
touched as (
    select unnest(%(gone)s::text[]) as entity_id
    union
    select entity_id from {schema}.detection_model_run_outputs
     where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
       and score > 0.5 and role = 'PRIMARY' and not is_replay and entity_id is not null)
select least(min(e.first_seen_at), %(cycle_started_at)s), greatest(max(e.last_seen_at), %(cycle_started_at)s)
  from model cross join touched t
  join {schema}.detection_events e
    on e.category = %(model_id)s and e.model_id = %(model_id)s and e.entity_id = t.entity_id
   and e.status <> 'RETRACTED'
   and e.first_seen_at <= %(cycle_started_at)s + model.gap and e.last_seen_at >= %(cycle_started_at)s - model.gap;

-- name: cut
-- Cut the sightings around a cycle into events. An entity whose event the cycle goes on with is not read again
-- from the start (`base`); all others are cut anew between the ends of the events that the cycle touches.
with model as (
    select event_gap as gap from {schema}.detection_models where model_id = %(model_id)s),
touched as (
    select entity_id, bool_or(is_gone) as is_gone from (
        select unnest(%(gone)s::text[]) as entity_id, true as is_gone
        union all
        select entity_id, false from {schema}.detection_model_run_outputs
         where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
           and score > 0.5 and role = 'PRIMARY' and not is_replay and entity_id is not null) as both_times
     group by entity_id),
region as (
    select t.entity_id,
           case when b.is_longer then %(cycle_started_at)s::timestamptz else b.low end as low,
           case when b.is_longer then %(cycle_started_at)s::timestamptz else b.high end as high,
           case when b.is_longer then b.event_id end as base
      from model cross join touched t cross join lateral (
        select coalesce(not t.is_gone and max(e.last_seen_at) < %(cycle_started_at)s, false) as is_longer,
               least(min(e.first_seen_at), %(cycle_started_at)s) as low,
               greatest(max(e.last_seen_at), %(cycle_started_at)s) as high,
               min(e.event_id) as event_id
          from {schema}.detection_events e
         where e.category = %(model_id)s and e.model_id = %(model_id)s and e.entity_id = t.entity_id
           and e.status <> 'RETRACTED'
           and e.first_seen_at <= %(cycle_started_at)s + model.gap
           and e.last_seen_at >= %(cycle_started_at)s - model.gap) as b),
sighting as (
    select o.entity_id, o.cycle_started_at, o.version_id, o.score, o.outputs,
           case when o.outputs->>'severity' in ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')
                then (o.outputs->>'severity')::{schema}.detection_severity
                when o.score > 0.7 then 'CRITICAL' else 'HIGH' end as severity
      from region r join {schema}.detection_model_run_outputs o
        on o.entity_id = r.entity_id and o.cycle_started_at between r.low and r.high
     where o.model_id = %(model_id)s and o.cycle_started_at between %(low)s and %(high)s
       and o.score > 0.5 and o.role = 'PRIMARY' and not o.is_replay),
edged as (
    select s.*, coalesce(s.cycle_started_at - lag(s.cycle_started_at) over w > model.gap, true) as is_edge
      from model cross join sighting s window w as (partition by s.entity_id order by s.cycle_started_at)),
numbered as (
    select *, count(*) filter (where is_edge) over (partition by entity_id order by cycle_started_at) as number
      from edged),
spell as (
    select entity_id, number, min(cycle_started_at) as first_seen_at, max(cycle_started_at) as last_seen_at
      from numbered group by entity_id, number),
highest as (
    select distinct on (entity_id, number) entity_id, number, score, severity
      from numbered order by entity_id, number, score desc, severity desc),
latest as (
    select distinct on (entity_id, number) entity_id, number, version_id,
           case when octet_length(outputs::text) <= %(details_bytes)s then outputs
                else jsonb_build_object('cut_from_bytes', octet_length(outputs::text),
                                        'text', left(outputs::text, %(details_bytes)s / 4)) end as details
      from numbered
     order by entity_id, number, cycle_started_at desc, score desc, severity desc, version_id desc, outputs),
written as (
    insert into {schema}.detection_events as e (
        category, severity, status, model_id, version_id, entity_id, score, cycle_started_at,
        first_seen_at, last_seen_at, closed_at, details)
    select %(model_id)s,
           case when b.score > h.score then b.severity
                when b.score = h.score then greatest(b.severity, h.severity) else h.severity end,
           case when c.cycle_started_at is null then 'OPEN' else 'CLOSED' end::{schema}.detection_event_status,
           %(model_id)s, l.version_id, s.entity_id, greatest(b.score, h.score), s.last_seen_at,
           coalesce(b.first_seen_at, s.first_seen_at), s.last_seen_at, c.cycle_started_at, l.details
      from model cross join spell s
      join highest h using (entity_id, number) join latest l using (entity_id, number)
      join region r using (entity_id)
      left join {schema}.detection_events b on b.event_id = r.base
      left join lateral (
        select cycle_started_at from {schema}.detection_model_runs
         where model_id = %(model_id)s and role = 'PRIMARY' and not is_replay and outcome = 'SUCCEEDED'
           and cycle_started_at > s.last_seen_at + model.gap
         order by cycle_started_at limit 1) as c on true
    on conflict (category, model_id, entity_id, first_seen_at) do update set
        severity = excluded.severity, status = excluded.status, version_id = excluded.version_id,
        score = excluded.score, cycle_started_at = excluded.cycle_started_at,
        last_seen_at = excluded.last_seen_at, closed_at = excluded.closed_at, details = excluded.details
    returning e.event_id, e.entity_id, e.first_seen_at, e.last_seen_at)
update {schema}.detection_events e
   set status = 'RETRACTED', closed_at = null,
       details = e.details - 'merged_into' || coalesce(
           (select jsonb_build_object('merged_into', w.event_id) from written w
             where w.entity_id = e.entity_id and e.first_seen_at between w.first_seen_at and w.last_seen_at),
           '{{}}')
  from region r
 where r.base is null and e.entity_id = r.entity_id and e.category = %(model_id)s and e.model_id = %(model_id)s
   and e.status <> 'RETRACTED' and e.first_seen_at between r.low and r.high
   and not exists (select from written w
                    where w.entity_id = e.entity_id and w.first_seen_at = e.first_seen_at);

-- name: close
-- Open and close the events that this cycle's run, or its being taken back, has a say in: those that no cycle
-- before this one has closed.
with model as (
    select event_gap as gap from {schema}.detection_models where model_id = %(model_id)s),
told as (
    select e.event_id, (
        select r.cycle_started_at from {schema}.detection_model_runs r
         where r.model_id = %(model_id)s and r.role = 'PRIMARY' and not r.is_replay and r.outcome = 'SUCCEEDED'
           and r.cycle_started_at > e.last_seen_at + model.gap
         order by r.cycle_started_at limit 1) as closed_at
      from model cross join {schema}.detection_events e
     where e.model_id = %(model_id)s and e.category = %(model_id)s and e.status <> 'RETRACTED'
       and e.last_seen_at < %(cycle_started_at)s - model.gap
       and e.last_seen_at >= coalesce((
            select p.cycle_started_at from {schema}.detection_model_runs p
             where p.model_id = %(model_id)s and p.role = 'PRIMARY' and not p.is_replay
               and p.outcome = 'SUCCEEDED' and p.cycle_started_at < %(cycle_started_at)s
             order by p.cycle_started_at desc limit 1) - model.gap, '-infinity'))
update {schema}.detection_events e
   set closed_at = t.closed_at,
       status = case when t.closed_at is null then 'OPEN' else 'CLOSED' end::{schema}.detection_event_status
  from told t
 where e.event_id = t.event_id and e.closed_at is distinct from t.closed_at;
