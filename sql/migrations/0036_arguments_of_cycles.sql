-- What a team sets for the tasks of one cycle's Dag, for its owners, and for a run that takes too long.
alter table {schema}.detection_cycles
    add column owner_links jsonb not null default '{{}}' check (jsonb_typeof(owner_links) = 'object'),
    add column default_args jsonb not null default '{{}}' check (jsonb_typeof(default_args) = 'object'),
    add column deadline jsonb not null default '{{}}' check (jsonb_typeof(deadline) = 'object');
comment on column {schema}.detection_cycles.owner_links is 'An address for each owner of tasks.';
comment on column {schema}.detection_cycles.default_args is
    'Arguments of the tasks of the Dag: executor, execution_timeout (s), pool, queue, retries, retry_delay (s). The task '
    'options of a model come first.';
comment on column {schema}.detection_cycles.deadline is
    'after_s: seconds after a run was queued, at which it is late; callback: module:function that is called then.';
