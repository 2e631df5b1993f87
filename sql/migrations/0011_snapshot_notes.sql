-- What a report has told, and when an event came to be known.
alter table {schema}.detection_snapshots add column notified_at timestamptz;
comment on column {schema}.detection_snapshots.notified_at is
    'When everybody had been told of the changes in this report: once, however often its task runs.';
comment on table {schema}.detection_snapshots is
    'Reports as JSON. What is stored is shown, and never computed again; an hour has one report.';

alter table {schema}.detection_events add column if not exists recorded_at timestamptz not null default clock_timestamp();
comment on column {schema}.detection_events.recorded_at is
    'When the row was written: an event later than the count of its hour is late, not lost.';
