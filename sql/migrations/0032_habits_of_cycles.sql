-- What a team sets for a cycle's Dag beside its schedule.
alter table {schema}.detection_cycles
    add column catchup boolean not null default false,
    add column tags text[] not null default '{{}}',
    add column owner text not null default '';
comment on column {schema}.detection_cycles.catchup is
    'Whether Airflow runs, in order, the cycles since start_date that no run has had; at most max_active_runs at a time.';
comment on column {schema}.detection_cycles.schedule is
    'A cron expression in UTC, or with the time zone of its wall clock: CRON_TZ=Europe/Berlin 0 6 * * *.';
