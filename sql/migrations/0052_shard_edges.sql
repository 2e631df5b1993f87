-- A shard counts its scores above the edges of its day: under other ones it is run anew.
alter table {schema}.detection_shards add column score_edges jsonb not null default '{{}}';
comment on column {schema}.detection_shards.score_edges is
    'The edges that the scores of the shard were counted at. The shard counts only while its model has the same.';
