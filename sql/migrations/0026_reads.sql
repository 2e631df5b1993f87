-- What a run really read: a version that finds no history, or leaves out the newest rows, is right about its canaries.
alter table {schema}.detection_model_runs add column reads jsonb not null default '{{}}';
comment on column {schema}.detection_model_runs.reads is
    'Numbers: history_rows, history_entities, history_oldest_s, history_newest_s (what its queries found from before '
    'the window; seconds since 1970), newer_rows (input rows newer than the newest one that it used), params_differ '
    '(1: it held other params than those registered), counts_need_past (0: its counts hold without the past).';
