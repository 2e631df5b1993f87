-- name: put
-- Write what a version was trained from; the version is in the same transaction.
insert into {schema}.detection_trainings
       (version_id, base_version_id, data_start, data_end, as_of, seed, window_count, row_count, label_count,
        input_digest, artifact_sha256, metrics, actor)
select v.version_id, b.version_id, %(data_start)s, %(data_end)s, %(as_of)s, %(seed)s, %(window_count)s, %(row_count)s,
       %(label_count)s, %(input_digest)s, %(artifact_sha256)s, %(metrics)s, coalesce(%(actor)s::text, current_user)
  from {schema}.detection_model_versions v
  join {schema}.detection_model_versions b on b.model_id = v.model_id and b.version = %(base_version)s
 where v.model_id = %(model_id)s and v.version = %(version)s;

-- name: all
-- What versions were trained from; of all models, or of one.
select t.model_id, t.version, t.base_version, t.data_start, t.data_end, t.as_of, t.seed, t.window_count, t.row_count,
       t.label_count, t.input_digest, t.artifact_uri, t.artifact_sha256, t.metrics, t.trained_at, t.actor
  from {schema}.detection_trained_versions t
 where %(model_id)s::text is null or t.model_id = %(model_id)s::text
 order by t.model_id, t.trained_at;
