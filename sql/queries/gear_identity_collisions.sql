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

-- name: by_severity
-- Collisions of gear identities by status and severity, all there are.
select status::text as status, severity::text as severity, count(*) as collisions,
       min(first_seen_at) as first_seen_at, max(last_seen_at) as last_seen_at
  from {schema}.gear_identity_collisions
 where first_seen_at < %(end)s
 group by 1, 2;

-- name: gravest_open
-- The gravest that are open.
select identity, severity::text as severity, first_seen_at, last_seen_at
  from {schema}.gear_identity_collisions c
 where status = 'OPEN' and first_seen_at < %(end)s
 order by c.severity desc, first_seen_at, identity limit %(most)s;
