-- Table partitions that retention removes may be written to Parquet files first.
alter table {schema}.detection_partition_policies add column retention_export text;
comment on column {schema}.detection_partition_policies.retention_export is
    'URI of the folder to which a detached table is written as Parquet before it is dropped; null: it is not.';

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
    if new.retention_export !~ '^[a-z][a-z0-9+.-]*://[^[:cntrl:]]+$'
       or new.retention_export ~ '^(file|local)://' and new.retention_export !~ '^(file|local):///.' then
        raise exception 'retention_export of % is %: must be the URI of a folder, such as s3://bucket/cold or file:///cold',
            new.table_name, quote_literal(new.retention_export) using errcode = 'check_violation';
    end if;
    if new.retention_export ~ '^[^/]*//[^/@]*:[^/@]*@' then
        raise exception 'retention_export of % holds a password: must name an Airflow connection, such as s3://cold@bucket/',
            new.table_name using errcode = 'check_violation';
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
    before insert or update of table_name, retention, leaf_options, entity_index, retention_export
    on {schema}.detection_partition_policies
    for each row execute function {schema}.detection_partition_policies_check();
