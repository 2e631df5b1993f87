-- What operators look at: events, hourly counts, snapshots, table partitions and their upkeep.
create type {schema}.detection_severity as enum ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL');
create type {schema}.detection_event_status as enum ('OPEN', 'CLOSED', 'RETRACTED');

create table {schema}.detection_events (
    event_id bigint generated always as identity primary key,
    category varchar(64) not null,
    severity {schema}.detection_severity not null,
    status {schema}.detection_event_status not null default 'OPEN',
    model_id varchar(64) not null,
    version_id bigint not null,
    entity_id text not null,
    score double precision,
    cycle_started_at timestamptz not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null check (last_seen_at >= first_seen_at),
    closed_at timestamptz,
    details jsonb not null default '{{}}',
    unique (category, model_id, entity_id, first_seen_at)
);
create index detection_events_open on {schema}.detection_events (severity, first_seen_at) where status = 'OPEN';
create index detection_events_by_time on {schema}.detection_events (first_seen_at, category);

create table {schema}.detection_stats_hourly (
    hour timestamptz not null check (date_bin('1 hour', hour, '2000-01-01 00:00Z') = hour),
    category varchar(64) not null,
    event_count bigint not null check (event_count >= 0),
    updated_at timestamptz not null default clock_timestamp(),
    primary key (hour, category)
);

create table {schema}.detection_snapshots (
    snapshot_id bigint generated always as identity primary key,
    kind varchar(16) not null default 'hourly' check (kind in ('hourly', 'diagnostic')),
    taken_at timestamptz not null,
    covers tstzrange not null,
    format_version integer not null,
    report jsonb not null
);
create unique index detection_snapshots_hourly on {schema}.detection_snapshots (covers) where kind = 'hourly';

create table {schema}.detection_partition_policies (
    table_name text primary key,
    ahead interval not null default interval '3 months' check (ahead >= interval '1 month'),
    retention interval check (retention >= interval '1 month'),
    grace interval not null default interval '7 days' check (grace >= interval '0')
);
insert into {schema}.detection_partition_policies (table_name, retention) values
    ('detection_model_run_outputs', interval '13 months'),
    ('detection_model_metrics', interval '25 months');
comment on column {schema}.detection_partition_policies.retention is 'Null keeps every month.';

create table {schema}.detection_maintenance_log (
    log_id bigint generated always as identity primary key,
    logged_at timestamptz not null default clock_timestamp(),
    action varchar(32) not null,
    table_name text,
    partition_name text,
    bounds tstzrange,
    outcome varchar(16) not null check (outcome in ('done', 'skipped', 'failed')),
    details jsonb not null default '{{}}'
);
create index detection_maintenance_log_by_time on {schema}.detection_maintenance_log (logged_at);
