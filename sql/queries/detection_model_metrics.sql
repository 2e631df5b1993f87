-- name: delete
-- Delete the metrics that an earlier attempt stored of this run.
delete from {schema}.detection_model_metrics
where cycle_started_at = %(cycle_started_at)s and model_id = %(model_id)s
  and version_id = %(version_id)s and is_replay = %(is_replay)s;

-- name: insert
-- All metrics of one run.
insert into {schema}.detection_model_metrics
    (model_id, version_id, role, is_replay, metric_key, metric_value, cycle_started_at)
select %(model_id)s, %(version_id)s, %(role)s::{schema}.detection_role, %(is_replay)s, m.key, m.value,
       %(cycle_started_at)s
from unnest(%(keys)s::text[], %(values)s::double precision[]) as m (key, value);
