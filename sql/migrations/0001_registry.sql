-- The registry: cycles, models, versions and the history of their roles.
create type {schema}.detection_role as enum ('PRIMARY', 'SHADOW', 'CHALLENGER');
create type {schema}.detection_outcome as enum ('SUCCEEDED', 'FAILED', 'SKIPPED');
create type {schema}.detection_mode as enum ('as_of', 'as_run', 'override');
create type {schema}.detection_execution as enum ('task', 'inline');

create table {schema}.detection_cycles (
    cycle_id varchar(64) primary key check (cycle_id <> ''),
    schedule text not null,
    lookback interval not null check (lookback > interval '0'),
    input_query text,
    legacy_entrypoint text,
    execution {schema}.detection_execution not null default 'task',
    start_date timestamptz not null,
    max_active_runs integer not null default 1 check (max_active_runs > 0),
    is_enabled boolean not null default true,
    description text not null default ''
);
comment on table {schema}.detection_cycles is 'Recurring passes: one Airflow Dag each.';

create table {schema}.detection_models (
    model_id varchar(64) primary key check (model_id <> ''),
    model_no integer generated always as identity unique,
    cycle_id varchar(64) not null references {schema}.detection_cycles,
    entrypoint text not null,
    score_key text,
    entity_key text,
    task_options jsonb not null default '{{}}' check (jsonb_typeof(task_options) = 'object'),
    is_enabled boolean not null default true
);
comment on column {schema}.detection_models.model_no is
    'Stands for the model in range expressions: an exclusion constraint on ranges needs no extension.';
comment on column {schema}.detection_models.is_enabled is
    'A switch of today, not of the history: a model that is off keeps its place in every plan and is skipped.';

create table {schema}.detection_model_dependencies (
    model_id varchar(64) not null references {schema}.detection_models,
    depends_on varchar(64) not null,
    recorded_at timestamptz not null default clock_timestamp(),
    superseded_at timestamptz check (superseded_at >= recorded_at),
    is_founding boolean not null default false,
    primary key (model_id, depends_on, recorded_at),
    check (model_id <> depends_on)
);
comment on table {schema}.detection_model_dependencies is
    'Kept as a history, so that the order of a past plan never changes. No foreign key on depends_on: '
    'a broken registration must be storable to be shown.';

create table {schema}.detection_model_versions (
    version_id bigint generated always as identity primary key,
    model_id varchar(64) not null references {schema}.detection_models,
    version varchar(64) not null check (version <> '' and version !~ '[@,\s]'),
    params jsonb not null default '{{}}' check (jsonb_typeof(params) = 'object'),
    entrypoint text,
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null default current_user,
    notes text not null default '',
    unique (model_id, version)
);

create table {schema}.detection_model_roles (
    role_id bigint generated always as identity primary key,
    version_id bigint not null references {schema}.detection_model_versions,
    model_id varchar(64) not null references {schema}.detection_models,
    model_no integer not null,
    role {schema}.detection_role not null,
    valid tstzrange not null
        check (not isempty(valid) and lower_inc(valid) and not upper_inc(valid) and lower(valid) is not null),
    recorded_at timestamptz not null default clock_timestamp(),
    superseded_at timestamptz check (superseded_at >= recorded_at),
    is_founding boolean not null default false,
    is_correction boolean not null default false,
    actor text not null default current_user,
    reason text not null default '',
    check (lower(valid) >= recorded_at or is_founding or is_correction),
    constraint one_primary_per_model exclude using gist
        (int4range(model_no, model_no, '[]') with &&, valid with &&)
        where (role = 'PRIMARY' and superseded_at is null),
    constraint one_role_per_version exclude using gist
        (int8range(version_id, version_id, '[]') with &&, valid with &&)
        where (superseded_at is null)
);
create index detection_model_roles_by_model on {schema}.detection_model_roles (model_id, lower(valid));
comment on table {schema}.detection_model_roles is
    'Append-only history. A row is closed by setting the upper bound of an open range to now or later; a wrong '
    'row is superseded, never changed. A founding row is the first of its model: it may begin before it was '
    'recorded, because no cycle had asked for that model yet.';

create function {schema}.detection_versions_are_immutable() returns trigger language plpgsql as $$
begin
    if exists (select from {schema}.detection_model_roles r where r.version_id = old.version_id)
       and (tg_op = 'DELETE'
            or (new.version_id, new.model_id, new.version, new.params, new.entrypoint)
               is distinct from (old.version_id, old.model_id, old.version, old.params, old.entrypoint))
    then
        raise exception 'version % of model % has held a role and cannot change', old.version, old.model_id
            using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;
create trigger immutable before update or delete on {schema}.detection_model_versions
    for each row execute function {schema}.detection_versions_are_immutable();

create function {schema}.detection_models_are_immutable() returns trigger language plpgsql as $$
begin
    if (new.model_id, new.model_no, new.cycle_id, new.entrypoint, new.score_key, new.entity_key)
       is distinct from (old.model_id, old.model_no, old.cycle_id, old.entrypoint, old.score_key, old.entity_key)
       and exists (select from {schema}.detection_model_roles r where r.model_id = old.model_id)
    then
        raise exception 'model % has versions that have held a role: give a new version an entry point of its own',
            old.model_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger immutable before update on {schema}.detection_models
    for each row execute function {schema}.detection_models_are_immutable();

create function {schema}.detection_roles_are_append_only() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'the history of roles is append-only' using errcode = 'restrict_violation';
    end if;
    if (new.role_id, new.version_id, new.model_id, new.model_no, new.role, lower(new.valid), new.recorded_at,
        new.is_founding, new.is_correction, new.actor, new.reason)
       is distinct from
       (old.role_id, old.version_id, old.model_id, old.model_no, old.role, lower(old.valid), old.recorded_at,
        old.is_founding, old.is_correction, old.actor, old.reason)
       or (old.superseded_at is not null and new.superseded_at is distinct from old.superseded_at)
       or (new.valid <> old.valid and not upper_inf(old.valid))
    then
        raise exception 'the history of roles is append-only' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger append_only before update or delete on {schema}.detection_model_roles
    for each row execute function {schema}.detection_roles_are_append_only();
