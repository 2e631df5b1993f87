-- Retention never takes what a registered version reads from before its window; a default partition may be emptied.
alter table {schema}.detection_model_runs add column history_tables text[] not null default '{{}}';
comment on column {schema}.detection_model_runs.history_tables is
    'The tables that it reads from reads_since on, beside its inputs.';

create function {schema}.detection_history_reach(of_table text)
returns table (label text, reach interval)
language sql stable set search_path = pg_catalog, {schema} as $$
    select r.model_id || '@' || v.version, run.cycle_started_at - run.reads_since
      from {schema}.detection_model_roles r
      join {schema}.detection_model_versions v using (version_id)
     cross join lateral (
        select m.cycle_started_at, m.reads_since
          from {schema}.detection_model_runs m
         where m.version_id = r.version_id and m.reads_since is not null and of_table = any(m.history_tables)
         order by m.cycle_started_at desc
         limit 1) run
     where r.superseded_at is null and upper_inf(r.valid)
$$;
comment on function {schema}.detection_history_reach is
    'How far back the versions with a role read a table, by their last run.';

create function {schema}.detection_partition_policies_check() returns trigger
language plpgsql set search_path = pg_catalog, {schema} as $$
declare needed record;
begin
    select h.label, h.reach into needed
      from {schema}.detection_history_reach(new.table_name) h order by h.reach desc, h.label limit 1;
    if new.retention < needed.reach then
        raise exception 'the retention of % is %: must be at least %, what % reads',
            new.table_name, new.retention, needed.reach, needed.label
            using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger detection_partition_policies_check
    before insert or update of table_name, retention on {schema}.detection_partition_policies
    for each row execute function {schema}.detection_partition_policies_check();

alter table {schema}.detection_partition_policies
    add column empties_default boolean not null default false;
comment on column {schema}.detection_partition_policies.empties_default is
    'Past months of which the default partition holds rows are made, and the rows are moved.';
