-- What turned out to be true, and the conditions of a promotion.
create table {schema}.detection_labels (
    label_id bigint generated always as identity primary key,
    cycle_id varchar(64) not null references {schema}.detection_cycles,
    model_id varchar(64) references {schema}.detection_models,
    entity_id text not null check (char_length(entity_id) between 1 and 500),
    valid tstzrange not null
        check (not isempty(valid) and lower_inc(valid) and not upper_inc(valid) and lower(valid) is not null),
    is_positive boolean,
    source text not null check (source <> ''),
    note text not null default '',
    recorded_at timestamptz not null default clock_timestamp(),
    actor text not null default current_user
);
create index detection_labels_by_unit
    on {schema}.detection_labels (cycle_id, entity_id, model_id, valid, recorded_at);
create index detection_labels_by_time on {schema}.detection_labels (cycle_id, recorded_at, label_id);
comment on table {schema}.detection_labels is
    'What turned out to be true of an entity, in the cycles of an interval. Append-only: of several labels of one '
    'unit (cycle, model, entity, interval) the newest holds, and what was known at an instant is the newest '
    'recorded by then.';
comment on column {schema}.detection_labels.model_id is 'Null: for every model of the cycle.';
comment on column {schema}.detection_labels.is_positive is 'Null: nothing is known of the unit any more.';
comment on column {schema}.detection_labels.recorded_at is
    'Since when it is known: the database''s clock, whatever the statement says.';

create function {schema}.detection_labels_wait_their_turn() returns trigger language plpgsql as $$
begin
    -- Whoever reads what is known at an instant waits for labels that are not committed: see store/labels.py.
    perform pg_advisory_xact_lock(hashtextextended('detection labels ' || tg_table_schema, 0));
    return null;
end $$;
create trigger one_at_a_time before insert on {schema}.detection_labels
    for each statement execute function {schema}.detection_labels_wait_their_turn();

create function {schema}.detection_labels_are_stamped() returns trigger language plpgsql as $$
begin
    new.recorded_at := clock_timestamp();
    if new.model_id is not null and not exists (
        select from {schema}.detection_models m where m.model_id = new.model_id and m.cycle_id = new.cycle_id)
    then
        raise exception 'model % does not belong to cycle %', new.model_id, new.cycle_id
            using errcode = 'foreign_key_violation';
    end if;
    return new;
end $$;
create trigger stamped before insert on {schema}.detection_labels
    for each row execute function {schema}.detection_labels_are_stamped();

create function {schema}.detection_labels_are_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'labels are append-only: a new one supersedes the old' using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete or truncate on {schema}.detection_labels
    for each statement execute function {schema}.detection_labels_are_append_only();

alter table {schema}.detection_models
    add column promotion jsonb not null default '{{}}' check (jsonb_typeof(promotion) = 'object');
comment on column {schema}.detection_models.promotion is
    'Conditions of a promotion that differ from their defaults: a setting of today, no part of a version.';
