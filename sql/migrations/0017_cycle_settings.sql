-- What a cycle reads is kept as a history, as its roles are: a past cycle is run again with the settings of its time.
create table {schema}.detection_cycle_settings (
    settings_id bigint generated always as identity primary key,
    cycle_id varchar(64) not null,
    lookback interval not null,
    input_query text,
    time_key text,
    valid_from timestamptz,
    recorded_at timestamptz not null default clock_timestamp(),
    is_founding boolean not null default false,
    actor text not null default current_user,
    reason text not null default '',
    check (not is_founding or valid_from is null)
);
create index detection_cycle_settings_by_cycle on {schema}.detection_cycle_settings (cycle_id, valid_from);
comment on table {schema}.detection_cycle_settings is
    'Append-only history of what a cycle reads, written when detection_cycles changes. A row holds from valid_from '
    '(null: since ever) to the next, and of two with one start the later; it counts from recorded_at on. A founding '
    'row counts since ever, because no cycle had been planned yet. A row that is inserted with a past start is a '
    'correction. No foreign key: past cycles may be told of a cycle that is gone.';

insert into {schema}.detection_cycle_settings (cycle_id, lookback, input_query, time_key, is_founding)
select cycle_id, lookback, input_query, time_key, true from {schema}.detection_cycles order by cycle_id;

-- Takes no lock of the registry, which put_cycle has: a session that is idle in a change by hand would keep every cycle
-- from being planned.
create function {schema}.detection_cycles_keep_settings() returns trigger language plpgsql as $$
declare
    newest timestamptz;
    start timestamptz;
begin
    if tg_op = 'UPDATE' and (new.lookback, new.input_query, new.time_key)
                            is not distinct from (old.lookback, old.input_query, old.time_key) then
        return null;
    end if;
    newest := greatest(
        (select max(cycle_started_at) from {schema}.detection_cycle_runs where cycle_id = new.cycle_id),
        (select max(cycle_started_at) from {schema}.detection_model_runs
          where cycle_id = new.cycle_id and not is_replay));
    if newest is not null then
        newest := greatest(newest, (select max(valid_from) from {schema}.detection_cycle_settings
                                     where cycle_id = new.cycle_id));
        start := greatest(clock_timestamp(), newest + interval '1 microsecond');
        if start > clock_timestamp() + interval '1 hour' then
            raise exception 'the registry''s clock is at %, more than an hour behind what cycle % has on record: %',
                clock_timestamp(), new.cycle_id, newest using errcode = 'restrict_violation';
        end if;
    end if;
    insert into {schema}.detection_cycle_settings
           (cycle_id, lookback, input_query, time_key, valid_from, recorded_at, is_founding)
    values (new.cycle_id, new.lookback, new.input_query, new.time_key, start,
            coalesce(start, clock_timestamp()), start is null);
    return null;
end $$;
create trigger keep_settings after insert or update on {schema}.detection_cycles
    for each row execute function {schema}.detection_cycles_keep_settings();

create function {schema}.detection_cycle_settings_are_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the history of cycle settings is append-only' using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete on {schema}.detection_cycle_settings
    for each row execute function {schema}.detection_cycle_settings_are_append_only();

-- Whoever runs cycles reads the history, too; `airflow detection grants` does the same.
do $$
declare reader regrole;
begin
    execute format('alter table {schema}.detection_cycle_settings owner to %s',
                   (select relowner::regrole from pg_class where oid = '{schema}.detection_cycles'::regclass));
    for reader in
        select distinct a.grantee::regrole from pg_class c, aclexplode(c.relacl) a
         where c.oid = '{schema}.detection_cycles'::regclass and a.privilege_type = 'SELECT' and a.grantee <> 0
    loop
        execute format('grant select on {schema}.detection_cycle_settings to %s', reader);
    end loop;
end $$;
