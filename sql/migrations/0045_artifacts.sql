-- A version may be made of a file: where it is, and the digest that it must have; and which one a run really loaded.
alter table {schema}.detection_model_versions
    add column artifact jsonb constraint an_artifact_has_uri_and_digest check (
        jsonb_typeof(artifact) = 'object' and artifact ?& array['uri', 'sha256'] and artifact - 'uri' - 'sha256' = '{{}}'
        and jsonb_typeof(artifact -> 'uri') = 'string' and jsonb_typeof(artifact -> 'sha256') = 'string'
        and length(artifact ->> 'uri') between 1 and 2000
        and artifact ->> 'uri' !~ '[{{}}\x01-\x1f\x7f-\x9f\u2028\u2029]'
        and artifact ->> 'sha256' ~ '^[0-9a-f]{{64}}$');
comment on column {schema}.detection_model_versions.artifact is
    'The file that the model is made of: its uri, and its sha256 in hex. Null: it needs none.';

alter table {schema}.detection_model_runs add column artifact_sha256 text;
comment on column {schema}.detection_model_runs.artifact_sha256 is
    'The sha256 of the artefact that the version really loaded, in hex. Null: it has none, or did not come to that.';

create or replace view {schema}.detection_run_results as
select r.cycle_id, r.cycle_started_at, r.model_id, v.version, r.role, r.is_replay, r.outcome, r.input_count,
       r.output_count, r.started_at, r.duration_ms, r.error, r.artifact_sha256
  from {schema}.detection_model_runs r
  join {schema}.detection_model_versions v on v.version_id = r.version_id;

create or replace function {schema}.detection_versions_are_immutable() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        if exists (select from {schema}.detection_model_roles r where r.version_id = old.version_id) then
            raise exception 'version % of model % has held a role and cannot be removed', old.version, old.model_id
                using errcode = 'restrict_violation';
        end if;
        return old;
    end if;
    if (new.version_id, new.model_id, new.version, new.params, new.artifact, new.entrypoint)
       is distinct from (old.version_id, old.model_id, old.version, old.params, old.artifact, old.entrypoint)
       and exists (select from {schema}.detection_model_runs r
                    where r.model_id = old.model_id and r.version_id = old.version_id and r.outcome = 'SUCCEEDED')
    then
        raise exception 'version % of model % has run, its % cannot change: register another version',
            old.version, old.model_id,
            concat_ws(', ', case when new.params is distinct from old.params then 'params' end,
                      case when new.artifact is distinct from old.artifact then 'artifact' end,
                      case when new.entrypoint is distinct from old.entrypoint then 'entrypoint' end,
                      case when (new.version_id, new.model_id, new.version)
                                is distinct from (old.version_id, old.model_id, old.version) then 'name' end)
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
