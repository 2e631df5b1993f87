-- A registration may be mended until it has run: what is fixed follows from results, no longer from roles.
create or replace function {schema}.detection_versions_are_immutable() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        if exists (select from {schema}.detection_model_roles r where r.version_id = old.version_id) then
            raise exception 'version % of model % has held a role and cannot be removed', old.version, old.model_id
                using errcode = 'restrict_violation';
        end if;
        return old;
    end if;
    if (new.version_id, new.model_id, new.version, new.params, new.entrypoint)
       is distinct from (old.version_id, old.model_id, old.version, old.params, old.entrypoint)
       and exists (select from {schema}.detection_model_runs r
                    where r.model_id = old.model_id and r.version_id = old.version_id and r.outcome = 'SUCCEEDED')
    then
        raise exception 'version % of model % has run, its % cannot change: register another version',
            old.version, old.model_id,
            concat_ws(', ', case when new.params is distinct from old.params then 'params' end,
                      case when new.entrypoint is distinct from old.entrypoint then 'entrypoint' end,
                      case when (new.version_id, new.model_id, new.version)
                                is distinct from (old.version_id, old.model_id, old.version) then 'name' end)
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

create or replace function {schema}.detection_models_are_immutable() returns trigger language plpgsql as $$
begin
    if (new.model_id, new.model_no, new.cycle_id, new.entrypoint, new.score_key, new.entity_key)
       is distinct from (old.model_id, old.model_no, old.cycle_id, old.entrypoint, old.score_key, old.entity_key)
       and exists (select from {schema}.detection_model_runs r
                    where r.model_id = old.model_id and r.outcome = 'SUCCEEDED')
    then
        raise exception 'model % has run, its % cannot change%', old.model_id,
            concat_ws(', ', case when new.entrypoint is distinct from old.entrypoint then 'entrypoint' end,
                      case when new.entity_key is distinct from old.entity_key then 'entity_key' end,
                      case when new.score_key is distinct from old.score_key then 'score_key' end,
                      case when new.cycle_id is distinct from old.cycle_id then 'cycle' end,
                      case when (new.model_id, new.model_no) is distinct from (old.model_id, old.model_no)
                           then 'id' end),
            case when (new.cycle_id, new.score_key, new.entity_key)
                      is not distinct from (old.cycle_id, old.score_key, old.entity_key)
                 then ': give a new version an entry point of its own' else ': register another model' end
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

-- A first role, of a model without results, may begin at another instant; all else stays as it was recorded.
create or replace function {schema}.detection_roles_are_append_only() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'the history of roles is append-only' using errcode = 'restrict_violation';
    end if;
    if (new.role_id, new.version_id, new.model_id, new.model_no, new.role, new.recorded_at,
        new.is_correction, new.actor, new.reason, new.promotion_id)
       is distinct from
       (old.role_id, old.version_id, old.model_id, old.model_no, old.role, old.recorded_at,
        old.is_correction, old.actor, old.reason, old.promotion_id)
       or (old.superseded_at is not null and new.superseded_at is distinct from old.superseded_at)
       or (new.valid <> old.valid and not upper_inf(old.valid))
       or ((lower(new.valid), new.is_founding) is distinct from (lower(old.valid), old.is_founding)
           and (old.is_correction or not upper_inf(new.valid)
                or exists (select from {schema}.detection_model_roles r
                            where r.model_id = old.model_id and (r.superseded_at is not null or not upper_inf(r.valid)))
                or exists (select from {schema}.detection_model_runs r
                            where r.model_id = old.model_id and r.outcome = 'SUCCEEDED')))
    then
        raise exception 'the history of roles is append-only' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
