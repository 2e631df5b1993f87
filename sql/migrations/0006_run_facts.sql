-- What a report needs to know of a run without reading its outputs again.
alter table {schema}.detection_cycles add column time_key text;
comment on column {schema}.detection_cycles.time_key is
    'The column of the input query that holds the time of a row: timestamptz, or seconds since 1970.';

alter table {schema}.detection_model_runs
    add column newest_input_at timestamptz,
    add column score_counts jsonb not null default '{{}}';
comment on column {schema}.detection_model_runs.score_counts is
    'Counts of outputs: scored, null, and score buckets gt0, gt03, gt05, gt07. Empty without a score key.';
