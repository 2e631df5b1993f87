-- Three Postgres roles for the schema {schema}, each with what its work needs and no more. Run it again at
-- any time, as the owner of the schema's tables or a superuser; it needs the right to create roles once.
--
-- detection_reader: people and dashboards. Reads everything, changes nothing.
-- detection_writer: the connection of the cycles' Dags. Writes results, manifests, recorded plans, events;
--                   neither registry nor roles, and no DDL: months are made ahead by the maintenance Dag.
-- detection_admin:  registry, roles, migrations, table partitions. It owns the schema.
do $$
declare name text;
begin
    foreach name in array array['detection_reader', 'detection_writer', 'detection_admin'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I nologin', name);
        end if;
    end loop;
end $$;

grant usage on schema {schema} to detection_reader, detection_writer;
grant all on schema {schema} to detection_admin;
revoke all on all tables in schema {schema} from public;

grant select on all tables in schema {schema} to detection_reader, detection_writer;
grant all on all tables in schema {schema} to detection_admin;
grant all on all sequences in schema {schema} to detection_admin;
grant usage on sequence {schema}.detection_attempts to detection_writer;

grant insert, update on {schema}.detection_cycle_runs, {schema}.detection_model_runs to detection_writer;
grant insert, delete on {schema}.detection_model_run_outputs, {schema}.detection_model_metrics
    to detection_writer;
grant insert, update, delete on {schema}.detection_events, {schema}.gear_identity_collisions
    to detection_writer;

-- What is made later, by whoever runs this now: tables of coming migrations, and months.
alter default privileges in schema {schema} grant select on tables to detection_reader, detection_writer;
alter default privileges in schema {schema} grant all on tables to detection_admin;
alter default privileges in schema {schema} grant all on sequences to detection_admin;
