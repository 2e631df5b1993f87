-- name: attempt
-- The attempt that has written a shard.
select attempt from {schema}.detection_shards
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s and version_id = %(version_id)s
  and is_replay = %(is_replay)s and shard_count = %(shard_count)s and shard = %(shard)s;

-- name: delete
-- Delete what an earlier attempt has staged of a shard, with its chunks.
delete from {schema}.detection_shards
where cycle_id = %(cycle_id)s and cycle_started_at = %(cycle_started_at)s and version_id = %(version_id)s
  and is_replay = %(is_replay)s and shard_count = %(shard_count)s and shard = %(shard)s;

-- name: insert
-- Stage a shard; its chunks follow.
insert into {schema}.detection_shards (
    cycle_id, cycle_started_at, version_id, is_replay, shard_count, shard, opened_at, attempt, report, metrics,
    score_counts, score_edges, row_mark)
values (
    %(cycle_id)s, %(cycle_started_at)s, %(version_id)s, %(is_replay)s, %(shard_count)s, %(shard)s, %(opened_at)s,
    %(attempt)s, %(report)s::jsonb, %(metrics)s::jsonb, %(score_counts)s::jsonb,
    %(score_edges)s::jsonb, %(row_mark)s);

-- name: copy_chunks
-- The chunks of one shard.
copy {schema}.detection_shard_chunks (
    cycle_id, cycle_started_at, version_id, is_replay, shard_count, shard, chunk, rows)
from stdin (format binary);

-- name: staged
-- The shards of a run that are there, in order: of this opening of the cycle, with scores counted at the edges of today,
-- and newer than the result that is stored.
select s.shard, s.report, s.metrics, s.score_counts
  from {schema}.detection_shards s
 where s.cycle_id = %(cycle_id)s and s.cycle_started_at = %(cycle_started_at)s and s.version_id = %(version_id)s
   and s.is_replay = %(is_replay)s and s.shard_count = %(shard_count)s and s.opened_at = %(opened_at)s
   and s.score_edges = %(score_edges)s::jsonb
   and not exists (select from {schema}.detection_model_runs r
                    where r.cycle_id = s.cycle_id and r.cycle_started_at = s.cycle_started_at
                      and r.version_id = s.version_id and r.is_replay = s.is_replay
                      and r.outcome = 'SUCCEEDED' and r.attempt >= s.attempt)
 order by s.shard;

-- name: chunks
-- The outputs of all shards of a run, in order.
select s.row_mark, c.rows
  from {schema}.detection_shard_chunks c
  join {schema}.detection_shards s
       using (cycle_id, cycle_started_at, version_id, is_replay, shard_count, shard)
 where c.cycle_id = %(cycle_id)s and c.cycle_started_at = %(cycle_started_at)s and c.version_id = %(version_id)s
   and c.is_replay = %(is_replay)s and c.shard_count = %(shard_count)s
 order by c.shard, c.chunk;

-- name: clear
-- Delete the shards of a run, those of another number of shards too.
delete from {schema}.detection_shards s
 using (select d.ctid from {schema}.detection_shards d
         where d.cycle_id = %(cycle_id)s and d.cycle_started_at = %(cycle_started_at)s
           and d.version_id = %(version_id)s and d.is_replay = %(is_replay)s and d.attempt <= %(attempt)s
           for update skip locked) as spent
 where s.ctid = spent.ctid;

-- name: clear_old
-- Delete the shards that runs which never ended have left.
delete from {schema}.detection_shards s
 using (select d.ctid from {schema}.detection_shards d where d.staged_at < clock_timestamp() - interval '7 days'
           for update skip locked) as spent
 where s.ctid = spent.ctid;

-- name: bounds
-- Where the shards of an input query begin, each with about as many rows: the first has the first entity of all.
with entities as (
    select {{key}} as entity, count(*) as row_count from ({{query}}
) as input where {{column}} is not null group by 1
), placed as (
    select entity, floor((sum(row_count) over (order by entity) - row_count) * :shard_count
                         / sum(row_count) over ()) as place
      from entities
)
select min(entity) as bound from placed group by place order by place;
