-- Versions of one cycle that run one task each may read the input rows once.
alter table {schema}.detection_cycle_runs add column inputs_digest text;
comment on column {schema}.detection_cycle_runs.inputs_digest is
    'Digest of the input rows that a machine keeps in a file for the cycle''s other versions: a file with other rows is not '
    'read. Null: no rows are kept.';
