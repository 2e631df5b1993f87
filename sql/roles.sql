-- Three Postgres roles for the schema {schema}, each with the rights that its work needs and no more. Can be
-- repeated at any time, as the owner of the schema's tables or a superuser. The first run needs the right to
-- create roles and to become a member of detection_admin.
--
-- detection_reader: people and dashboards. Reads everything, changes nothing.
-- detection_writer: the connection of the cycles' Dags. Writes results, manifests, recorded plans, events, and adds
--                   labels; neither registry nor roles, and no DDL: the maintenance Dag creates months ahead.
-- detection_admin:  registry, roles, migrations, table partitions. It owns the schema and everything in it: only
--                   an owner may change a table, or create and retire its months.
do $$
declare name text;
begin
    foreach name in array array['detection_reader', 'detection_writer', 'detection_admin'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
    end loop;
end $$;

-- Make detection_admin the owner of everything; a sequence or index of a table changes owner with it.
do $$
declare statement text;
begin
    if '{schema}'::regnamespace = 'public'::regnamespace then
        raise exception 'the registry needs a schema of its own: public has other tables, too';
    end if;
    if not pg_has_role('detection_admin', 'MEMBER') then
        execute format('grant detection_admin to %I', current_user);
    end if;
    for statement in
        select format('schema %I', nspname) from pg_namespace
         where oid = '{schema}'::regnamespace and nspowner <> 'detection_admin'::regrole
        union all
        select format('table %s', c.oid::regclass) from pg_class c
         where c.relnamespace = '{schema}'::regnamespace and c.relowner <> 'detection_admin'::regrole
           and c.relkind in ('r', 'p', 'v', 'm', 'S')
           and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                                                     and c.relkind = 'S' and d.deptype in ('a', 'i'))
        union all
        select format('type %s', t.oid::regtype) from pg_type t
         where t.typnamespace = '{schema}'::regnamespace and t.typowner <> 'detection_admin'::regrole
           and t.typtype in ('d', 'e')
        union all
        select format('function %s', f.oid::regprocedure) from pg_proc f
         where f.pronamespace = '{schema}'::regnamespace and f.proowner <> 'detection_admin'::regrole
           and f.prokind = 'f'
    loop
        execute format('alter %s owner to detection_admin', statement);
    end loop;
end $$;

grant usage on schema {schema} to detection_reader, detection_writer;
revoke all on all tables in schema {schema} from public;

grant select on all tables in schema {schema} to detection_reader, detection_writer;
grant usage on sequence {schema}.detection_attempts to detection_writer;

grant insert, update on {schema}.detection_cycle_runs, {schema}.detection_model_runs to detection_writer;
grant insert, delete on {schema}.detection_model_run_outputs, {schema}.detection_model_metrics
    to detection_writer;
grant insert, update, delete on {schema}.detection_events to detection_writer;
grant insert, update, delete on {schema}.detection_shards, {schema}.detection_shard_chunks to detection_writer;
grant insert on {schema}.detection_labels to detection_writer;

-- Tables of the maritime pack, where the schema has it.
do $$
begin
    if to_regclass('{schema}.gear_identity_collisions') is not null then
        grant insert, update, delete on {schema}.gear_identity_collisions to detection_writer;
    end if;
end $$;

-- Rights on tables that are created later, by migrations and as months; detection_admin creates both.
alter default privileges for role detection_admin in schema {schema}
    grant select on tables to detection_reader, detection_writer;
