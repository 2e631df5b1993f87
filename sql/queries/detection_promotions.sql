-- name: ask
-- A request for a promotion.
insert into {schema}.detection_promotions
       (model_id, version_id, champion_id, role_before, watch, requested_by, reason, source, expires_at)
values (%(model_id)s, %(version_id)s, %(champion_id)s, %(role_before)s::{schema}.detection_role, %(watch)s,
        coalesce(%(actor)s::text, current_user), %(reason)s, %(source)s, clock_timestamp() + %(answer_within)s)
returning promotion_id;

-- name: add_state
-- What became of a promotion; a trigger refuses a state that cannot follow.
insert into {schema}.detection_promotion_states (promotion_id, state, actor, reason, evidence, evidence_digest)
values (%(promotion_id)s, %(state)s::{schema}.detection_promotion_state, coalesce(%(actor)s::text, current_user),
        %(reason)s, %(evidence)s::jsonb, %(evidence_digest)s);

-- name: select
-- Promotions and their states, the newest first; of one model, one id, or those under way alone.
select p.promotion_id, p.model_id, v.version, c.version as champion, p.version_id, p.champion_id,
       p.role_before::text as role_before, p.watch, p.requested_at, p.requested_by, p.reason, p.source,
       p.expires_at, p.expires_at < clock_timestamp() as is_expired,
       (select jsonb_agg(jsonb_build_object('state', s.state, 'recorded_at', s.recorded_at, 'actor', s.actor,
                                            'reason', s.reason, 'evidence_digest', s.evidence_digest,
                                            'evidence', case when %(has_evidence)s then s.evidence end)
                         order by s.recorded_at, s.state)
          from {schema}.detection_promotion_states s where s.promotion_id = p.promotion_id) as states
  from {schema}.detection_promotions p
  join {schema}.detection_model_versions v on v.version_id = p.version_id
  left join {schema}.detection_model_versions c on c.version_id = p.champion_id
 where (%(model_id)s::text is null or p.model_id = %(model_id)s)
   and (%(model_ids)s::text[] is null or p.model_id = any (%(model_ids)s::text[]))
   and (%(before)s::bigint is null or p.promotion_id < %(before)s)
   and (%(source)s::text is null or p.source = %(source)s)
   and (%(promotion_id)s::bigint is null or p.promotion_id = %(promotion_id)s)
   and (not %(is_under_way)s or not exists (
        select from {schema}.detection_promotion_states s
         where s.promotion_id = p.promotion_id
           and s.state in ('KEPT', 'ROLLED_BACK', 'REFUSED', 'REJECTED', 'TIMED_OUT', 'WITHDRAWN', 'SUPERSEDED')))
 order by p.promotion_id desc
 limit %(limit)s;

-- name: results_since
-- How many live results a version has of cycles from an instant on.
select count(*) as results from {schema}.detection_model_runs r
 where r.model_id = (select v.model_id from {schema}.detection_model_versions v where v.version_id = %(version_id)s)
   and r.version_id = %(version_id)s and r.cycle_started_at >= %(since)s and not r.is_replay;

-- name: promoted_champions
-- The champions that a promotion, or its rollback, has made PRIMARY.
select r.model_id, v.version, r.promotion_id, lower(r.valid) as since
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
 where r.role = 'PRIMARY' and r.superseded_at is null and upper_inf(r.valid) and r.promotion_id is not null;
