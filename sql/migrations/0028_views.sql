-- Views for people and dashboards: labels in place of keys, and what holds now. Reports and pages do not rest on them.
create view {schema}.detection_current_roles as
select m.cycle_id, r.model_id, v.version, r.role, lower(r.valid) as since, r.recorded_at, r.actor, r.reason,
       r.promotion_id, m.is_enabled
  from {schema}.detection_model_roles r
  join {schema}.detection_model_versions v on v.version_id = r.version_id
  join {schema}.detection_models m on m.model_id = r.model_id
 where r.superseded_at is null and r.valid @> now();
comment on view {schema}.detection_current_roles is 'The versions that hold a role now.';

create view {schema}.detection_run_results as
select r.cycle_id, r.cycle_started_at, r.model_id, v.version, r.role, r.is_replay, r.outcome, r.input_count,
       r.output_count, r.started_at, r.duration_ms, r.error
  from {schema}.detection_model_runs r
  join {schema}.detection_model_versions v on v.version_id = r.version_id;
comment on view {schema}.detection_run_results is
    'How each version ended in each cycle. No row: it did not run. Zero outputs with a row: it found nothing.';

create view {schema}.detection_output_scores as
select o.cycle_started_at, o.model_id, v.version, o.role, o.is_replay, o.entity_id, o.score, o.outputs, o.input_ref
  from {schema}.detection_model_run_outputs o
  join {schema}.detection_model_versions v on v.version_id = o.version_id;
comment on view {schema}.detection_output_scores is
    'Stored outputs. Name cycle_started_at, the key of the table partitions, in every statement.';

create view {schema}.detection_open_events as
select e.event_id, m.cycle_id, e.model_id, v.version, e.category, e.severity, e.entity_id, e.score, e.first_seen_at,
       e.last_seen_at, e.acknowledged_at, e.acknowledged_by, e.details
  from {schema}.detection_events e
  join {schema}.detection_models m on m.model_id = e.model_id
  left join {schema}.detection_model_versions v on v.version_id = e.version_id
 where e.status = 'OPEN';
comment on view {schema}.detection_open_events is 'What is going on, as far as the models can tell.';
