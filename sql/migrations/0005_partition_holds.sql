-- Months that retention must leave alone, whoever asked for it.
create table {schema}.detection_partition_holds (
    hold_id bigint generated always as identity primary key,
    table_name text,
    covers tstzrange not null check (not isempty(covers)),
    reason text not null check (reason <> ''),
    held_by text not null default current_user,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz
);
comment on column {schema}.detection_partition_holds.table_name is 'Null holds the months of every table.';
create index detection_maintenance_log_by_table on {schema}.detection_maintenance_log (table_name, log_id);
