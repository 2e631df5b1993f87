-- Where a version comes from that a training step has made: the data and labels that it has learned from.
create table {schema}.detection_trainings (
    version_id bigint primary key references {schema}.detection_model_versions,
    base_version_id bigint not null references {schema}.detection_model_versions,
    data_start timestamptz not null,
    data_end timestamptz not null,
    as_of timestamptz not null,
    seed bigint not null,
    window_count integer not null check (window_count > 0),
    row_count bigint not null check (row_count > 0),
    label_count bigint not null check (label_count >= 0),
    input_digest text not null,
    artifact_sha256 text not null,
    metrics jsonb not null check (jsonb_typeof(metrics) = 'object'),
    trained_at timestamptz not null default clock_timestamp(),
    actor text not null default current_user,
    constraint a_training_learns_from_the_past check (data_start < data_end and data_end <= as_of)
);
comment on table {schema}.detection_trainings is
    'What each trained version has learned from: written once, in the transaction that registers the version.';
comment on column {schema}.detection_trainings.base_version_id is
    'The version whose class has the training step, and whose params the trained version has.';
comment on column {schema}.detection_trainings.as_of is
    'Labels count as they were known at this instant, and rows as :opened_at of the input query lets them.';
comment on column {schema}.detection_trainings.window_count is
    'Past cycles whose input rows were read; row_count are the rows of all of them.';
comment on column {schema}.detection_trainings.label_count is
    'Labels of cycles in [data_start, data_end] that were known.';
comment on column {schema}.detection_trainings.input_digest is 'Digest of all of these input rows.';

create function {schema}.detection_trainings_are_immutable() returns trigger language plpgsql as $$
begin
    raise exception 'the lineage of a trained version cannot change' using errcode = 'restrict_violation';
end $$;
create trigger immutable before update or delete or truncate on {schema}.detection_trainings
    for each statement execute function {schema}.detection_trainings_are_immutable();

-- The version itself stays as it was trained, even before its first run.
create function {schema}.detection_trained_versions_are_immutable() returns trigger language plpgsql as $$
begin
    if (new.version_id, new.model_id, new.version, new.params, new.artifact, new.entrypoint)
       is distinct from (old.version_id, old.model_id, old.version, old.params, old.artifact, old.entrypoint)
       and exists (select from {schema}.detection_trainings t where t.version_id = old.version_id)
    then
        raise exception 'version % of model % was trained, its params, artefact and entry point cannot change: '
            'register another version', old.version, old.model_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger trained before update on {schema}.detection_model_versions
    for each row execute function {schema}.detection_trained_versions_are_immutable();

create view {schema}.detection_trained_versions as
select m.cycle_id, v.model_id, v.version, b.version as base_version, t.data_start, t.data_end, t.as_of,
       t.window_count, t.row_count, t.label_count, t.metrics, v.artifact ->> 'uri' as artifact_uri, t.artifact_sha256,
       t.input_digest, t.seed, t.trained_at, t.actor
  from {schema}.detection_trainings t
  join {schema}.detection_model_versions v on v.version_id = t.version_id
  join {schema}.detection_model_versions b on b.version_id = t.base_version_id
  join {schema}.detection_models m on m.model_id = v.model_id;
comment on view {schema}.detection_trained_versions is
    'Versions that a training step has made, and what they have learned from.';
