-- A version that runs in shards stages the result of each here, until all are there and become its outputs at once.
create table {schema}.detection_shards (
    cycle_id varchar(64) not null,
    cycle_started_at timestamptz not null,
    version_id bigint not null references {schema}.detection_model_versions,
    is_replay boolean not null,
    shard_count integer not null check (shard_count > 0),
    shard integer not null check (shard >= 0 and shard < shard_count),
    opened_at timestamptz not null,
    attempt bigint not null,
    report jsonb not null check (jsonb_typeof(report) = 'object'),
    metrics jsonb not null check (jsonb_typeof(metrics) = 'object'),
    score_counts jsonb not null check (jsonb_typeof(score_counts) = 'object'),
    row_mark bytea not null,
    staged_at timestamptz not null default clock_timestamp(),
    primary key (cycle_id, cycle_started_at, version_id, is_replay, shard_count, shard)
);
create index on {schema}.detection_shards (staged_at);
comment on table {schema}.detection_shards is
    'Results of single shards of a version, written in a transaction each. No run has them: its manifest is written with '
    'its outputs when all shards are there, and they are deleted then, or after a week.';
comment on column {schema}.detection_shards.opened_at is
    'The opening of the cycle that the shard belongs to: shards of another one are never put together with it.';
comment on column {schema}.detection_shards.attempt is
    'The attempt that has written the shard. One that is not newer than the attempt of the version''s result is spent.';
comment on column {schema}.detection_shards.report is 'What the manifest says of the shard alone.';
comment on column {schema}.detection_shards.row_mark is
    'The bytes before each row in the chunks, in place of the columns that all rows of a run share.';

create table {schema}.detection_shard_chunks (
    cycle_id varchar(64) not null,
    cycle_started_at timestamptz not null,
    version_id bigint not null,
    is_replay boolean not null,
    shard_count integer not null,
    shard integer not null,
    chunk integer not null check (chunk >= 0),
    rows bytea not null,
    primary key (cycle_id, cycle_started_at, version_id, is_replay, shard_count, shard, chunk),
    foreign key (cycle_id, cycle_started_at, version_id, is_replay, shard_count, shard)
        references {schema}.detection_shards on delete cascade
);
alter table {schema}.detection_shard_chunks alter column rows set storage external;
comment on table {schema}.detection_shard_chunks is
    'Outputs of a shard in the format of binary COPY, some hundred rows a chunk, in the order in which the model gave them.';

alter table {schema}.detection_cycle_runs add column shard_bounds jsonb not null default '{{}}'
    check (jsonb_typeof(shard_bounds) = 'object');
comment on column {schema}.detection_cycle_runs.shard_bounds is
    'Where the shards of a cycle begin, but for the first: entities, by entity key and number of shards. Computed by the first '
    'shard that runs, and read by all others, so that each entity is in one shard.';
