-- name: event
-- One event; locked until the transaction ends.
select e.event_id, e.model_id, e.status::text as status, e.acknowledged_at, e.acknowledged_by, e.closed_at, e.closed_by
  from {schema}.detection_events e where e.event_id = %(event_id)s for update;

-- name: acknowledge
-- Somebody has seen it.
update {schema}.detection_events
   set acknowledged_at = clock_timestamp(), acknowledged_by = coalesce(%(actor)s::text, current_user),
       acknowledged_reason = %(reason)s
 where event_id = %(event_id)s;

-- name: close
-- Somebody says that it is dealt with.
update {schema}.detection_events
   set status = 'CLOSED', hand_closed_at = clock_timestamp(), closed_at = clock_timestamp(),
       closed_by = coalesce(%(actor)s::text, current_user), closed_reason = %(reason)s
 where event_id = %(event_id)s;

-- name: select
-- Events of some models, the one seen last first; null filters nothing.
select e.event_id, e.model_id, m.cycle_id, e.category, e.entity_id, e.severity::text as severity,
       e.status::text as status, e.score, e.first_seen_at, e.last_seen_at, e.closed_at, e.acknowledged_at,
       e.acknowledged_by, e.closed_by, coalesce(e.closed_reason, e.acknowledged_reason) as note, e.details as evidence
  from {schema}.detection_events e join {schema}.detection_models m on m.model_id = e.model_id
 where e.model_id = any (%(model_ids)s::text[])
   and (%(event_id)s::bigint is null or e.event_id = %(event_id)s)
   and (%(statuses)s::text[] is null or e.status = any (%(statuses)s::{schema}.detection_event_status[]))
   and (%(severities)s::text[] is null or e.severity = any (%(severities)s::{schema}.detection_severity[]))
   and (%(category)s::text is null or e.category = %(category)s)
   and (%(entity_id)s::text is null or e.entity_id = %(entity_id)s)
   and (%(since)s::timestamptz is null or e.last_seen_at >= %(since)s)
   and (%(until)s::timestamptz is null or e.first_seen_at < %(until)s)
   and (e.last_seen_at, e.event_id) < (%(before)s, %(before_id)s)
 order by e.last_seen_at desc, e.event_id desc
 limit %(limit)s;

-- name: count_open
-- How many open events of some models there are, at most so many.
select count(*) as events
  from (select from {schema}.detection_events e
         where e.status = 'OPEN' and e.severity = any (%(severities)s::{schema}.detection_severity[])
           and e.model_id = any (%(model_ids)s::text[]) limit %(limit)s) o;
