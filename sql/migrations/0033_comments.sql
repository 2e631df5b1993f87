-- What each table is for, for whoever looks into the database, and for the reference in the documentation.
comment on table {schema}.detection_cycle_runs is
    'The plan that a cycle ran with, as it was resolved when the cycle was opened, and the summary of its end.';
comment on column {schema}.detection_cycle_runs.cycle_started_at is 'The logical date of the Dag run: the end of its window.';
comment on table {schema}.detection_maintenance_log is
    'What the upkeep of table partitions did, skipped or failed to do. Append-only.';
comment on table {schema}.detection_migrations is
    'The applied migrations of the core and of packs of models, with the sha256 of their texts.';
comment on table {schema}.detection_model_metrics is
    'Numbers that a version gave of a cycle, beside its outputs. Table partitions by month of cycle_started_at.';
comment on table {schema}.detection_model_run_outputs is
    'The outputs of each version in each cycle, one row an input that was judged. Table partitions by month of '
    'cycle_started_at: name it in every statement.';
comment on column {schema}.detection_model_run_outputs.score is 'Null: it cannot be known. Null is never 0.';
comment on column {schema}.detection_model_run_outputs.input_ref is 'What the model says that it judged.';
comment on column {schema}.detection_model_run_outputs.outputs is 'The whole output, with its score and evidence.';
comment on table {schema}.detection_models is
    'Models of a cycle: the entry point of their code, which keys of an output are its entity and score, and settings of '
    'today that are no part of a version.';
comment on table {schema}.detection_model_versions is
    'Versions of models: params, and an entry point where it differs from the model''s. A version that has run never '
    'changes.';
comment on table {schema}.detection_partition_holds is
    'Months of a table that retention leaves alone, whoever asked for it.';
comment on table {schema}.detection_partition_policies is
    'For each table with table partitions: how many months are made ahead, from which age on they are detached, and how '
    'long after that they are dropped.';
comment on table {schema}.detection_stats_hourly is
    'Events by hour of their first sighting and category; the last days are counted again each hour.';
