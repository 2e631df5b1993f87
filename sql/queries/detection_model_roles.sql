-- name: lock_for_change
-- One change of the registry at a time, and plans wait for it: so the server ends a change whose client does nothing.
-- A null in a list of values is a null, whatever others have set.
select set_config('idle_in_transaction_session_timeout', %(idle_ms)s, true),
       set_config('array_nulls', 'on', true), set_config('lock_timeout', %(wait_ms)s, true),
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
-- The versions of cycles that hold a role at an instant, as known at another.
select v.version_id, v.model_id, v.version, v.params, v.artifact, coalesce(v.entrypoint, m.entrypoint) as entrypoint,
       r.role::text as role
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
  join {schema}.detection_models m on m.model_id = r.model_id
 where m.cycle_id = any (%(cycle_ids)s::text[])
   and r.valid @> least(%(at)s::timestamptz, %(known_at)s::timestamptz)
   and (r.is_founding or r.recorded_at <= %(known_at)s)
   and (r.superseded_at is null or r.superseded_at > %(known_at)s)
 order by v.model_id, r.role, v.version, v.version_id;

-- name: versions
-- Every registered version, and the role it holds now.
select v.version_id, v.model_id, v.version, v.params, v.artifact, v.entrypoint, v.notes, v.created_at,
       r.role::text as role, lower(r.valid) as since, coalesce(r.is_founding, false) as is_founding
  from {schema}.detection_model_versions v
  left join {schema}.detection_model_roles r
    on r.version_id = v.version_id and r.superseded_at is null and upper_inf(r.valid)
 where %(model_id)s::text is null or v.model_id = %(model_id)s::text
 order by v.model_id, v.version_id;

-- name: retired
-- The versions that have held a role and hold none now, nor will.
select distinct r.version_id from {schema}.detection_model_roles r
 where not exists (select from {schema}.detection_model_roles o
                    where o.version_id = r.version_id and o.superseded_at is null and upper_inf(o.valid));

-- name: by_label
-- One version by its label, for a replay.
select v.version_id, v.model_id, v.version, v.params, v.artifact, coalesce(v.entrypoint, m.entrypoint) as entrypoint
  from {schema}.detection_model_versions v
  join {schema}.detection_models m on m.model_id = v.model_id
 where v.model_id = %(model_id)s and v.version = %(version)s;

-- name: add_versions
-- Register versions, in their order, unless they are there already.
insert into {schema}.detection_model_versions (model_id, version, params, artifact, entrypoint, notes)
select model_id, version, params::jsonb, artifact::jsonb, entrypoint, notes
  from unnest(%(model_id)s::text[], %(version)s::text[], %(params)s::text[], %(artifact)s::text[],
              %(entrypoint)s::text[], %(notes)s::text[])
       with ordinality as v (model_id, version, params, artifact, entrypoint, notes, number)
 order by number
    on conflict (model_id, version) do nothing;

-- name: amend_versions
-- Change versions; a trigger refuses what has run.
update {schema}.detection_model_versions as stored
   set params = v.params::jsonb, artifact = v.artifact::jsonb, entrypoint = v.entrypoint, notes = v.notes
  from unnest(%(model_id)s::text[], %(version)s::text[], %(params)s::text[], %(artifact)s::text[],
              %(entrypoint)s::text[], %(notes)s::text[]) as v (model_id, version, params, artifact, entrypoint, notes)
 where stored.model_id = v.model_id and stored.version = v.version
   and (stored.params, stored.artifact, stored.entrypoint, stored.notes)
       is distinct from (v.params::jsonb, v.artifact::jsonb, v.entrypoint, v.notes);

-- name: ids
-- The ids of versions.
select v.model_id, v.version, v.version_id
  from unnest(%(model_id)s::text[], %(version)s::text[]) as label (model_id, version)
  join {schema}.detection_model_versions v on v.model_id = label.model_id and v.version = label.version;

-- name: move_starts
-- Let first roles begin at other instants: those of models without results, where no cycle was planned since either.
update {schema}.detection_model_roles as r
   set valid = tstzrange(moved.since, null), is_founding = moved.since < r.recorded_at
  from unnest(%(model_id)s::text[], %(version)s::text[], %(since)s::timestamptz[]) as moved (model_id, version, since)
  join {schema}.detection_model_versions v on v.model_id = moved.model_id and v.version = moved.version
  join {schema}.detection_models m on m.model_id = v.model_id
 where r.version_id = v.version_id and r.superseded_at is null and upper_inf(r.valid) and not r.is_correction
   and lower(r.valid) <> moved.since and moved.since <= r.recorded_at
   and not exists (select from {schema}.detection_model_roles o
                    where o.model_id = v.model_id and (o.superseded_at is not null or not upper_inf(o.valid)))
   and not exists (select from {schema}.detection_model_runs n
                    where n.model_id = v.model_id and n.outcome = 'SUCCEEDED')
   and not exists (select from {schema}.detection_cycle_runs c
                    where c.cycle_id = m.cycle_id and c.cycle_started_at >= least(lower(r.valid), moved.since))
returning v.model_id, v.version, moved.since;

-- name: open_of_models
-- The roles of these models that are open now.
select r.model_id, r.version_id, v.version, r.role::text as role
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.model_id = any (%(model_ids)s::text[]) and r.superseded_at is null and upper_inf(r.valid)
 order by r.role_id;

-- name: history_of_models
-- Whether each model's history is founding rows alone.
select model.model_id, coalesce(bool_and(r.is_founding and upper_inf(r.valid)), true) as is_founding_only
  from unnest(%(model_ids)s::text[]) as model (model_id)
  left join {schema}.detection_model_roles r on r.model_id = model.model_id
 group by model.model_id;

-- name: newest_of_models
-- The newest instant in each model's history of roles and dependencies, or the newest instance of its cycle that was
-- planned, or ran in a hand-written Dag, if that is later.
select m.model_id,
       greatest(
           (select max(greatest(lower(valid), case when upper_inf(valid) then null else upper(valid) end,
                                recorded_at, superseded_at))
              from {schema}.detection_model_roles r where r.model_id = m.model_id),
           (select max(greatest(recorded_at, superseded_at))
              from {schema}.detection_model_dependencies d where d.model_id = m.model_id),
           (select max(cycle_started_at) from {schema}.detection_cycle_runs r where r.cycle_id = m.cycle_id),
           (select max(cycle_started_at) from {schema}.detection_model_runs r
             where r.cycle_id = m.cycle_id and not is_replay)) as newest
  from {schema}.detection_models m
 where m.model_id = any (%(model_ids)s::text[]);

-- name: close
-- End the open roles of versions.
update {schema}.detection_model_roles set valid = tstzrange(lower(valid), closed.until)
  from unnest(%(version_id)s::bigint[], %(until)s::timestamptz[]) as closed (id, until)
 where version_id = closed.id and superseded_at is null and upper_inf(valid);

-- name: open
-- Open roles for versions.
insert into {schema}.detection_model_roles
       (version_id, model_id, model_no, role, valid, recorded_at, is_founding, actor, reason, promotion_id)
select opened.version_id, m.model_id, m.model_no, opened.role, tstzrange(opened.since, null), opened.now,
       opened.since < opened.now, coalesce(%(actor)s::text, current_user), %(reason)s, %(promotion_id)s
  from unnest(%(version_id)s::bigint[], %(role)s::{schema}.detection_role[], %(since)s::timestamptz[],
              %(now)s::timestamptz[]) with ordinality as opened (version_id, role, since, now, number)
  join {schema}.detection_model_versions v on v.version_id = opened.version_id
  join {schema}.detection_models m on m.model_id = v.model_id
 order by opened.number;

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
       (version_id, model_id, model_no, role, valid, recorded_at, is_correction, actor, reason,
        promotion_id)
select r.version_id, r.model_id, r.model_no, r.role, remainder, %(now)s, true,
       coalesce(%(actor)s::text, current_user), %(reason)s, r.promotion_id
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
