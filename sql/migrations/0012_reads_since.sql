-- What a run's counts rest on: a model that looks back a day finds little in its first hours.
alter table {schema}.detection_model_runs add column reads_since timestamptz;
comment on column {schema}.detection_model_runs.reads_since is
    'From when on the model reads data, where that is before its window; null where the window is all.';
