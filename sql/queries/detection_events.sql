-- name: lock
-- One transaction at a time changes the events of a model; taken after the lock of the run.
select pg_advisory_xact_lock(hashtextextended(format('detection_events:%%s', %(model_id)s::text), 0));

-- name: flagged_entities
-- The entities that a run may flag, whatever the threshold was then; read before it is replaced.
select coalesce(array_agg(distinct entity_id), '{{}}')
  from {schema}.detection_model_run_outputs
 where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
   and version_id = %(version_id)s and is_replay = %(is_replay)s
   and score > 0.3 and role = 'PRIMARY' and not is_replay and entity_id is not null;

-- name: span
-- The period in which flagged cycles may have to be grouped into events anew, for all entities of the cycle together.
with model as (
    select event_gap as gap from {schema}.detection_models where model_id = %(model_id)s),
touched as (
    select unnest(%(previously_flagged)s::text[]) as entity_id, null::text as episode
    union
    select entity_id, outputs->>'episode' from {schema}.detection_model_run_outputs
     where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
       and score > 0.3 and score > %(above)s and role = 'PRIMARY' and not is_replay and entity_id is not null)
select least(min(e.first_seen_at), %(cycle_started_at)s), greatest(max(e.last_seen_at), %(cycle_started_at)s)
  from model cross join touched t
  join {schema}.detection_events e
    on e.category = %(model_id)s and e.model_id = %(model_id)s and e.entity_id = t.entity_id
   and e.status <> 'RETRACTED'
   and e.first_seen_at <= %(cycle_started_at)s + model.gap
   and (e.last_seen_at + model.gap >= %(cycle_started_at)s
        or (e.details->>'is_ongoing' = 'true' and e.details->>'episode' = t.episode));

-- name: cut
-- Group the flagged cycles of each entity around a cycle into events. An event that the cycle continues is not read
-- from its start (`base`); all others are grouped anew between the ends of the events that the cycle touches. An
-- output with `is_ongoing` and an `episode` keeps its event open until one of the same episode ends it. The
-- lookups for each entity are lateral with `offset 0`: without statistics the planner expects a single row. What people
-- have said of an event (`answered`) stays with its sightings, whichever event they come to belong to.
with model as (
    select event_gap as gap from {schema}.detection_models where model_id = %(model_id)s),
touched as (
    select entity_id, bool_or(was_flagged) as was_flagged, max(episode) as episode from (
        select unnest(%(previously_flagged)s::text[]) as entity_id, true as was_flagged, null::text as episode
        union all
        select entity_id, false, outputs->>'episode' from {schema}.detection_model_run_outputs
         where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
           and score > 0.3 and score > %(above)s and role = 'PRIMARY' and not is_replay and entity_id is not null) as both_times
     group by entity_id),
region as (
    select t.entity_id, b.is_longer, b.first_seen_at, b.score, b.severity,
           case when b.is_longer then %(cycle_started_at)s::timestamptz else b.low end as low,
           case when b.is_longer then %(cycle_started_at)s::timestamptz else b.high end as high
      from model cross join touched t cross join lateral (
        select coalesce(not t.was_flagged and max(e.last_seen_at) < %(cycle_started_at)s, false) as is_longer,
               least(min(e.first_seen_at), %(cycle_started_at)s) as low,
               greatest(max(e.last_seen_at), %(cycle_started_at)s) as high,
               min(e.first_seen_at) as first_seen_at, max(e.score) as score, max(e.severity) as severity
          from {schema}.detection_events e
         where e.category = %(model_id)s and e.model_id = %(model_id)s and e.entity_id = t.entity_id
           and e.status <> 'RETRACTED'
           and e.first_seen_at <= %(cycle_started_at)s + model.gap
           and (e.last_seen_at + model.gap >= %(cycle_started_at)s
                or (e.details->>'is_ongoing' = 'true' and e.details->>'episode' = t.episode))) as b),
flagged as (
    select r.entity_id, o.*,
           case when not %(has_severity)s and o.outputs->>'severity' in ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')
                then (o.outputs->>'severity')::{schema}.detection_severity
                when o.score > %(severity_critical)s then 'CRITICAL' when o.score > %(severity_high)s then 'HIGH'
                when o.score > %(severity_medium)s then 'MEDIUM' else 'LOW' end as severity,
           case when r.is_longer then r.first_seen_at end as base_first_seen_at,
           case when r.is_longer then r.score end as base_score,
           case when r.is_longer then r.severity end as base_severity
      from region r cross join lateral (
        select o.cycle_started_at, o.version_id, o.score, o.outputs
          from {schema}.detection_model_run_outputs o
         where o.model_id = %(model_id)s and o.entity_id = r.entity_id
           and o.cycle_started_at between r.low and r.high
           and o.cycle_started_at between %(low)s and %(high)s
           and o.score > 0.3 and o.score > %(above)s and o.role = 'PRIMARY' and not o.is_replay
        offset 0) as o),
edged as (
    select s.*, coalesce(s.cycle_started_at - lag(s.cycle_started_at) over w > model.gap, true)
           and not coalesce(lag(s.outputs->>'is_ongoing') over w = 'true'
                            and lag(s.outputs->>'episode') over w = s.outputs->>'episode', false) as is_edge
      from model cross join flagged s window w as (partition by s.entity_id order by s.cycle_started_at)),
numbered as (
    select *, count(*) filter (where is_edge) over (partition by entity_id order by cycle_started_at) as number
      from edged),
spell as (
    select entity_id, min(cycle_started_at) as first_seen_at, max(cycle_started_at) as last_seen_at,
           max(score) as score, (array_agg(severity order by score desc, severity desc))[1] as severity,
           (array_agg(version_id order by cycle_started_at desc, score desc, severity desc, version_id desc))[1]
               as version_id,
           (array_agg(outputs order by cycle_started_at desc, score desc, severity desc, version_id desc,
                      outputs))[1] as details,
           min(base_first_seen_at) as base_first_seen_at, max(base_score) as base_score,
           max(base_severity) as base_severity
      from numbered group by entity_id, number),
answered as materialized (
    select e.entity_id, e.first_seen_at, e.acknowledged_at, e.acknowledged_by, e.acknowledged_reason,
           e.hand_closed_at, e.closed_by, e.closed_reason
      from {schema}.detection_events e
     where e.category = %(model_id)s and e.model_id = %(model_id)s
       and (e.acknowledged_at is not null or e.hand_closed_at is not null)
       and e.entity_id = any (array(select t.entity_id from touched t))),
written as (
    insert into {schema}.detection_events as e (
        category, severity, status, model_id, version_id, entity_id, score, cycle_started_at,
        first_seen_at, last_seen_at, closed_at, details, acknowledged_at, acknowledged_by, acknowledged_reason,
        hand_closed_at, closed_by, closed_reason)
    select %(model_id)s,
           case when s.base_score > s.score then s.base_severity
                when s.base_score = s.score then greatest(s.base_severity, s.severity) else s.severity end,
           case when c.cycle_started_at is null and closed.hand_closed_at is null then 'OPEN' else 'CLOSED'
                end::{schema}.detection_event_status,
           %(model_id)s, s.version_id, s.entity_id, greatest(s.base_score, s.score), s.last_seen_at,
           coalesce(s.base_first_seen_at, s.first_seen_at), s.last_seen_at,
           coalesce(closed.hand_closed_at, c.cycle_started_at),
           case when octet_length(s.details::text) <= %(details_bytes)s then s.details
                else jsonb_build_object('cut_from_bytes', octet_length(s.details::text),
                                        'text', left(s.details::text, %(details_bytes)s / 4)) end,
           seen.acknowledged_at, seen.acknowledged_by, seen.acknowledged_reason,
           closed.hand_closed_at, closed.closed_by, closed.closed_reason
      from model cross join spell s
      left join lateral (
        select * from answered a
         where a.entity_id = s.entity_id and a.acknowledged_at is not null
           and a.first_seen_at between coalesce(s.base_first_seen_at, s.first_seen_at) and s.last_seen_at
         order by a.acknowledged_at desc limit 1) as seen on true
      left join lateral (
        select * from answered a
         where a.entity_id = s.entity_id and a.hand_closed_at is not null
           and a.first_seen_at between coalesce(s.base_first_seen_at, s.first_seen_at) and s.last_seen_at
         order by a.hand_closed_at desc limit 1) as closed on true
      left join lateral (
        select cycle_started_at from {schema}.detection_model_runs
         where model_id = %(model_id)s and role = 'PRIMARY' and not is_replay and outcome = 'SUCCEEDED'
           and cycle_started_at > s.last_seen_at + model.gap
           and s.details->>'is_ongoing' is distinct from 'true'
         order by cycle_started_at limit 1) as c on true
    on conflict (category, model_id, entity_id, first_seen_at) do update set
        severity = excluded.severity, status = excluded.status, version_id = excluded.version_id,
        score = excluded.score, cycle_started_at = excluded.cycle_started_at,
        last_seen_at = excluded.last_seen_at, closed_at = excluded.closed_at, details = excluded.details,
        acknowledged_at = excluded.acknowledged_at, acknowledged_by = excluded.acknowledged_by,
        acknowledged_reason = excluded.acknowledged_reason, hand_closed_at = excluded.hand_closed_at,
        closed_by = excluded.closed_by, closed_reason = excluded.closed_reason
    returning e.event_id, e.entity_id, e.first_seen_at, e.last_seen_at),
surplus as (
    select x.event_id, x.entity_id, x.first_seen_at
      from region r cross join lateral (
        select e.event_id, e.entity_id, e.first_seen_at
          from {schema}.detection_events e
         where e.category = %(model_id)s and e.model_id = %(model_id)s and e.entity_id = r.entity_id
           and e.status <> 'RETRACTED' and e.first_seen_at between r.low and r.high
        offset 0) as x
     where not r.is_longer
       and (x.entity_id, x.first_seen_at) not in (select w.entity_id, w.first_seen_at from written w))
update {schema}.detection_events e
   set status = 'RETRACTED', closed_at = null,
       details = e.details - 'merged_into' || coalesce(
           (select jsonb_build_object('merged_into', w.event_id) from written w
             where w.entity_id = s.entity_id and s.first_seen_at between w.first_seen_at and w.last_seen_at),
           '{{}}')
  from surplus s
 where e.event_id = s.event_id;

-- name: close
-- Open and close the events that this cycle's run, or its removal, affects: those that no earlier cycle has closed.
with model as (
    select event_gap as gap from {schema}.detection_models where model_id = %(model_id)s),
affected as (
    select e.event_id, (
        select r.cycle_started_at from {schema}.detection_model_runs r
         where r.model_id = %(model_id)s and r.role = 'PRIMARY' and not r.is_replay and r.outcome = 'SUCCEEDED'
           and r.cycle_started_at > e.last_seen_at + model.gap
           and e.details->>'is_ongoing' is distinct from 'true'
         order by r.cycle_started_at limit 1) as closed_at
      from model cross join {schema}.detection_events e
     where e.model_id = %(model_id)s and e.category = %(model_id)s and e.status <> 'RETRACTED'
       and e.hand_closed_at is null
       and e.last_seen_at < %(cycle_started_at)s - model.gap
       and e.last_seen_at >= coalesce((
            select p.cycle_started_at from {schema}.detection_model_runs p
             where p.model_id = %(model_id)s and p.role = 'PRIMARY' and not p.is_replay
               and p.outcome = 'SUCCEEDED' and p.cycle_started_at < %(cycle_started_at)s
             order by p.cycle_started_at desc limit 1) - model.gap, '-infinity'))
update {schema}.detection_events e
   set closed_at = t.closed_at,
       status = case when t.closed_at is null then 'OPEN' else 'CLOSED' end::{schema}.detection_event_status
  from affected t
 where e.event_id = t.event_id and e.closed_at is distinct from t.closed_at;
