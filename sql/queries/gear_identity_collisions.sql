-- name: refresh
-- Bring the table up to date with the events of the model of gear identity collisions. Rows that are equal
-- already are not written.
insert into {schema}.gear_identity_collisions
    (identity, severity, status, first_seen_at, last_seen_at, evidence)
select e.entity_id, e.severity, e.status, e.first_seen_at, e.last_seen_at,
       coalesce(e.details->'evidence', e.details)
  from {schema}.detection_events e
  left join {schema}.gear_identity_collisions g
    on g.identity = e.entity_id and g.first_seen_at = e.first_seen_at
 where e.category = %(model_id)s and e.model_id = %(model_id)s
   and (g.collision_id is null
        or (g.severity, g.status, g.last_seen_at, g.evidence)
           is distinct from (e.severity, e.status, e.last_seen_at, coalesce(e.details->'evidence', e.details)))
on conflict (identity, first_seen_at) do update set
    severity = excluded.severity, status = excluded.status, last_seen_at = excluded.last_seen_at,
    evidence = excluded.evidence;
