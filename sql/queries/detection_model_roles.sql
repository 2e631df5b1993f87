-- name: lock_for_change
-- One change of the registry at a time, and plans wait for it: so the server ends a change whose client does nothing.
select set_config('idle_in_transaction_session_timeout', %(idle_ms)s, true),
       set_config('lock_timeout', %(wait_ms)s, true),
       pg_advisory_xact_lock(hashtextextended('detection registry ' || %(schema)s::text, 0));

-- name: lock_for_reading
-- Plans may be read side by side, but not while the registry changes.
select set_config('lock_timeout', %(wait_ms)s, true),
       set_config('statement_timeout', coalesce(%(limit_ms)s, current_setting('statement_timeout')), true),
       pg_advisory_xact_lock_shared(hashtextextended('detection registry ' || %(schema)s::text, 0));

-- name: now
-- The database's clock, read under the lock.
select clock_timestamp() as now;

-- name: at
-- The versions of a cycle that hold a role at an instant, as known at another.
select v.version_id, v.model_id, v.version, v.params, coalesce(v.entrypoint, m.entrypoint) as entrypoint,
       r.role::text as role
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
  join {schema}.detection_models m on m.model_id = r.model_id
 where m.cycle_id = %(cycle_id)s
   and r.valid @> least(%(at)s::timestamptz, %(known_at)s::timestamptz)
   and (r.is_founding or r.recorded_at <= %(known_at)s)
   and (r.superseded_at is null or r.superseded_at > %(known_at)s)
 order by v.model_id, r.role, v.version, v.version_id;

-- name: versions
-- Every registered version, and the role it holds now.
select v.version_id, v.model_id, v.version, v.params, v.entrypoint, v.notes, v.created_at,
       r.role::text as role, lower(r.valid) as since
  from {schema}.detection_model_versions v
  left join {schema}.detection_model_roles r
    on r.version_id = v.version_id and r.superseded_at is null and upper_inf(r.valid)
 where %(model_id)s::text is null or v.model_id = %(model_id)s::text
 order by v.model_id, v.version_id;

-- name: by_label
-- One version by its label, for a replay.
select v.version_id, v.model_id, v.version, v.params, coalesce(v.entrypoint, m.entrypoint) as entrypoint
  from {schema}.detection_model_versions v
  join {schema}.detection_models m on m.model_id = v.model_id
 where v.model_id = %(model_id)s and v.version = %(version)s;

-- name: add_version
-- Register a version unless it is there already.
insert into {schema}.detection_model_versions (model_id, version, params, entrypoint, notes)
values (%(model_id)s, %(version)s, %(params)s, %(entrypoint)s, %(notes)s)
    on conflict (model_id, version) do nothing;

-- name: amend_version
-- Change a version; a trigger refuses what has held a role.
update {schema}.detection_model_versions
   set params = %(params)s, entrypoint = %(entrypoint)s, notes = %(notes)s
 where model_id = %(model_id)s and version = %(version)s
   and (params, entrypoint, notes) is distinct from (%(params)s::jsonb, %(entrypoint)s::text, %(notes)s::text);

-- name: open_of_model
-- The roles of one model that are open now.
select r.version_id, v.version, r.role::text as role, lower(r.valid) as since
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.model_id = %(model_id)s and r.superseded_at is null and upper_inf(r.valid)
 order by r.role_id;

-- name: history_of_model
-- Whether a model's history is founding rows alone.
select coalesce(bool_and(is_founding and upper_inf(valid)), true) as is_founding_only
  from {schema}.detection_model_roles where model_id = %(model_id)s;

-- name: newest_of_model
-- The newest instant in a model's history of roles and dependencies.
select greatest(
           (select max(greatest(lower(valid), case when upper_inf(valid) then null else upper(valid) end,
                                recorded_at, superseded_at))
              from {schema}.detection_model_roles where model_id = %(model_id)s),
           (select max(greatest(recorded_at, superseded_at))
              from {schema}.detection_model_dependencies where model_id = %(model_id)s)) as newest;

-- name: close
-- End the open role of one version.
update {schema}.detection_model_roles set valid = tstzrange(lower(valid), %(until)s)
 where version_id = %(version_id)s and superseded_at is null and upper_inf(valid);

-- name: open
-- Open a role for one version.
insert into {schema}.detection_model_roles
       (version_id, model_id, model_no, role, valid, recorded_at, is_founding, actor, reason)
select %(version_id)s, m.model_id, m.model_no, %(role)s::{schema}.detection_role,
       tstzrange(%(since)s, null), %(now)s, %(is_founding)s,
       coalesce(%(actor)s::text, current_user), %(reason)s
  from {schema}.detection_models m where m.model_id = %(model_id)s;

-- name: overlapping
-- The rows that a correction replaces: the version's own roles in the interval, and those of another champion.
select role_id, version_id, role::text as role, valid @> tstzrange(%(since)s, %(until)s) as covers
  from {schema}.detection_model_roles
 where model_id = %(model_id)s and superseded_at is null and valid && tstzrange(%(since)s, %(until)s)
   and (version_id = %(version_id)s or (role = 'PRIMARY' and %(role)s::text = 'PRIMARY'))
 order by role_id;

-- name: supersede
-- Mark rows as superseded; they stay.
update {schema}.detection_model_roles set superseded_at = %(now)s where role_id = any (%(role_ids)s);

-- name: keep_remainder
-- The parts of the superseded rows outside of the corrected interval, which still hold.
insert into {schema}.detection_model_roles
       (version_id, model_id, model_no, role, valid, recorded_at, is_correction, actor, reason)
select r.version_id, r.model_id, r.model_no, r.role, remainder, %(now)s, true,
       coalesce(%(actor)s::text, current_user), %(reason)s
  from {schema}.detection_model_roles r,
       unnest(tstzmultirange(r.valid) - tstzmultirange(tstzrange(%(since)s, %(until)s))) as remainder
 where r.role_id = any (%(role_ids)s);

-- name: correct
-- The role that the version held in the interval, as corrected.
insert into {schema}.detection_model_roles
       (version_id, model_id, model_no, role, valid, recorded_at, is_correction, actor, reason)
select %(version_id)s, m.model_id, m.model_no, %(role)s::{schema}.detection_role,
       tstzrange(%(since)s, %(until)s), %(now)s, true, coalesce(%(actor)s::text, current_user), %(reason)s
  from {schema}.detection_models m where m.model_id = %(model_id)s;
