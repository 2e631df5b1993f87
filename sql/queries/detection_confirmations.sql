-- name: newest
-- The newest confirmation of each cycle.
select distinct on (cycle_id) cycle_id, confirmed_at, models
  from {schema}.detection_confirmations order by cycle_id, confirmed_at desc;

-- name: confirm
-- Confirm that these are all the models of the cycle.
insert into {schema}.detection_confirmations (cycle_id, models, actor, reason)
values (%(cycle_id)s, %(models)s, coalesce(%(actor)s::text, current_user), %(reason)s);
