-- Table partitions of a month or a day, with storage parameters and an index of entities, by the policy of their table.
alter table {schema}.detection_partition_policies
    add column step text not null default 'month' check (step in ('month', 'day')),
    add column leaf_options jsonb not null default
        '{{"autovacuum_freeze_min_age": 0, "autovacuum_vacuum_insert_scale_factor": 0.05, '
        '"autovacuum_analyze_scale_factor": 0.02}}',
    add column entity_index boolean not null default false,
    drop constraint detection_partition_policies_ahead_check,
    drop constraint detection_partition_policies_retention_check,
    add constraint detection_partition_policies_ahead_check
        check (ahead >= case step when 'month' then interval '1 month' else interval '1 day' end),
    add constraint detection_partition_policies_retention_check
        check (retention >= case step when 'month' then interval '1 month' else interval '1 day' end);
comment on table {schema}.detection_partition_policies is
    'For each table with table partitions: whether they are months or days, how far ahead they are made, from which age '
    'on they are detached, and how long after that they are dropped.';
comment on column {schema}.detection_partition_policies.step is
    'Month or day, in UTC, of the table partitions that are made from now on.';
comment on column {schema}.detection_partition_policies.retention is 'Null keeps every table partition.';
comment on column {schema}.detection_partition_policies.leaf_options is
    'Storage parameters of the table partitions that are made from now on.';
comment on column {schema}.detection_partition_policies.entity_index is
    'Whether every table partition gets an index of entity_id and time.';
comment on table {schema}.detection_partition_holds is
    'Spans of time of a table that retention leaves alone, whoever asked for it.';
comment on table {schema}.detection_model_metrics is
    'Numbers that a version gave of a cycle, beside its outputs. Table partitions by cycle_started_at.';
comment on table {schema}.detection_model_run_outputs is
    'The outputs of each version in each cycle, one row an input that was judged. Table partitions by '
    'cycle_started_at: name it in every statement.';

create function {schema}.detection_leaf_options_problem(options jsonb) returns text
language sql immutable set search_path = pg_catalog as $$
    with known (name, kind, low, high) as (values
        ('autovacuum_enabled', 'boolean', null::numeric, null::numeric),
        ('autovacuum_vacuum_threshold', 'integer', 0, 2147483647),
        ('autovacuum_vacuum_scale_factor', 'number', 0, 100),
        ('autovacuum_vacuum_insert_threshold', 'integer', -1, 2147483647),
        ('autovacuum_vacuum_insert_scale_factor', 'number', 0, 100),
        ('autovacuum_analyze_threshold', 'integer', 0, 2147483647),
        ('autovacuum_analyze_scale_factor', 'number', 0, 100),
        ('autovacuum_vacuum_cost_delay', 'number', 0, 100),
        ('autovacuum_vacuum_cost_limit', 'integer', 1, 10000),
        ('autovacuum_freeze_min_age', 'integer', 0, 1000000000),
        ('autovacuum_freeze_max_age', 'integer', 100000, 2000000000),
        ('autovacuum_freeze_table_age', 'integer', 0, 2000000000),
        ('log_autovacuum_min_duration', 'integer', -1, 2147483647),
        ('parallel_workers', 'integer', 0, 1024),
        ('toast_tuple_target', 'integer', 128, 8160)
    ), given as (
        select key, value, jsonb_typeof(value) as type,
               case when jsonb_typeof(value) = 'number' then (value #>> '{{}}')::numeric end as number
          from jsonb_each(case when jsonb_typeof(options) = 'object' then options else '{{}}' end)
    )
    select case
        when jsonb_typeof(options) <> 'object' then format('%s: must be an object of names and values', options)
        else (
            select case
                when k.name is null then format('%s: must be one of %s', g.key,
                                                (select string_agg(name, ', ' order by name) from known))
                when k.kind = 'boolean' then format('%s = %s: must be true or false', g.key, g.value)
                when k.kind = 'integer'
                    then format('%s = %s: must be a whole number from %s to %s', g.key, g.value, k.low, k.high)
                else format('%s = %s: must be a number from %s to %s', g.key, g.value, k.low, k.high) end
              from given g left join known k on k.name = g.key
             where k.name is null
                or (k.kind = 'boolean') <> (g.type = 'boolean')
                or k.kind <> 'boolean' and (g.number is null or g.number not between k.low and k.high
                                            or k.kind = 'integer' and g.number <> trunc(g.number))
             order by g.key limit 1)
    end
$$;
comment on function {schema}.detection_leaf_options_problem is
    'What is wrong with storage parameters of table partitions; null if nothing is.';

create or replace function {schema}.detection_partition_policies_check() returns trigger
language plpgsql set search_path = pg_catalog, {schema} as $$
declare
    needed record;
    problem text := detection_leaf_options_problem(new.leaf_options);
begin
    if problem is not null then
        raise exception 'leaf_options of % has %', new.table_name, problem using errcode = 'check_violation';
    end if;
    if new.entity_index and not exists (
        select from pg_attribute
         where attrelid = to_regclass(format('%I.%I', tg_table_schema, new.table_name))
           and attname = 'entity_id' and not attisdropped) then
        raise exception 'entity_index of % is true: must be a table with a column entity_id', new.table_name
            using errcode = 'check_violation';
    end if;
    select h.label, h.reach into needed
      from detection_history_reach(new.table_name) h order by h.reach desc, h.label limit 1;
    if new.retention < needed.reach then
        raise exception 'the retention of % is %: must be at least %, what % reads',
            new.table_name, new.retention, needed.reach, needed.label
            using errcode = 'check_violation';
    end if;
    return new;
end $$;
drop trigger detection_partition_policies_check on {schema}.detection_partition_policies;
create trigger detection_partition_policies_check
    before insert or update of table_name, retention, leaf_options, entity_index
    on {schema}.detection_partition_policies
    for each row execute function {schema}.detection_partition_policies_check();
