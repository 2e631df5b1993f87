-- What ran: the recorded plans, the manifests, and the partitioned results.
create sequence {schema}.detection_attempts;
comment on sequence {schema}.detection_attempts is
    'An attempt takes its number when it starts: a higher number is a later start.';

create table {schema}.detection_cycle_runs (
    cycle_id varchar(64) not null,
    cycle_started_at timestamptz not null,
    mode {schema}.detection_mode not null,
    plan jsonb not null,
    plan_digest text not null,
    dag_run_id text,
    opened_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    summary jsonb,
    primary key (cycle_id, cycle_started_at, mode)
);

create table {schema}.detection_model_runs (
    cycle_id varchar(64) not null,
    cycle_started_at timestamptz not null,
    version_id bigint not null references {schema}.detection_model_versions,
    is_replay boolean not null default false,
    model_id varchar(64) not null,
    role {schema}.detection_role not null,
    outcome {schema}.detection_outcome not null,
    attempt bigint not null,
    input_count bigint not null default 0 check (input_count >= 0),
    output_count bigint not null default 0 check (output_count >= 0),
    started_at timestamptz not null,
    duration_ms double precision not null default 0 check (duration_ms >= 0),
    stage_ms jsonb not null default '{{}}',
    params_digest text not null default '',
    input_digest text,
    output_digest text,
    code_version text not null default '',
    canaries jsonb not null default '[]',
    features jsonb not null default '[]',
    error text,
    failed_attempt bigint,
    primary key (cycle_id, cycle_started_at, version_id, is_replay)
);
create index detection_model_runs_by_model on {schema}.detection_model_runs (model_id, cycle_started_at);
comment on table {schema}.detection_model_runs is
    'The manifests. No row: the version did not run. Zero outputs with a row: it ran and found nothing. When a '
    'rerun fails, the earlier success stays in force; failed_attempt and error tell of the failure.';

create table {schema}.detection_model_run_outputs (
    cycle_started_at timestamptz not null,
    model_id varchar(64) not null,
    version_id bigint not null,
    role {schema}.detection_role not null,
    is_replay boolean not null default false,
    entity_id text,
    score double precision check (score > '-Infinity' and score < 'Infinity'),
    input_ref jsonb not null,
    outputs jsonb not null,
    cycle_duration_ms double precision
) partition by range (cycle_started_at);
create index detection_model_run_outputs_by_run
    on {schema}.detection_model_run_outputs (cycle_started_at, model_id, version_id);

create table {schema}.detection_model_metrics (
    model_id varchar(64) not null,
    version_id bigint not null,
    role {schema}.detection_role not null,
    is_replay boolean not null default false,
    metric_key varchar(64) not null,
    metric_value double precision not null check (metric_value > '-Infinity' and metric_value < 'Infinity'),
    cycle_started_at timestamptz not null
) partition by range (cycle_started_at);
create index detection_model_metrics_by_run
    on {schema}.detection_model_metrics (cycle_started_at, model_id, version_id);
