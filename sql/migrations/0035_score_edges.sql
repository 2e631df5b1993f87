-- Score buckets by the model's own threshold and severities. What is stored was counted by the edges that are the default.
alter table {schema}.detection_model_runs
    add column score_edges jsonb not null default '{{"gt0": 0, "gt03": 0.3, "gt05": 0.5, "gt07": 0.7}}';
comment on column {schema}.detection_model_runs.score_counts is
    'Counts of outputs: scored, null, and those above each of score_edges. Empty without a score key.';
comment on column {schema}.detection_model_runs.score_edges is
    'The scores above which the buckets of score_counts begin: gt0 at 0, medium, high and critical at the severities that '
    'the model had then, flagged at its threshold of events (absent: it opened none). Older manifests have gt03, gt05, gt07.';
