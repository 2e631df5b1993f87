-- What a version needs of memory: limits and workers are sized by it.
alter table {schema}.detection_model_runs add column peak_memory_bytes bigint check (peak_memory_bytes > 0);
comment on column {schema}.detection_model_runs.peak_memory_bytes is
    'The most memory that the process of the version had at once, with what it shares with the process that started it '
    '(the input rows). Null: it was not measured.';
