-- From which score on a model's outputs are sightings, and how severe: per model.
alter table {schema}.detection_models
    add column events jsonb not null default '{{}}'
        check (jsonb_typeof(events) = 'object' or events = 'false');
comment on column {schema}.detection_models.events is
    'Which scores make events: above (0.5 unless given, at least 0.3) and severity ({{"MEDIUM": 0.3, "HIGH": 0.5, '
    '"CRITICAL": 0.7}} unless given; below them LOW). false: the model opens none. A setting of today: events that are '
    'there change only where their cycles run again.';
comment on column {schema}.detection_models.event_gap is
    'Two sightings of an entity (scores above events.above) that are at most this far apart belong to one event. Set it '
    'before the first cycle: events that are there are not cut anew.';

-- Sightings of every model that may be: no model has a threshold below 0.3.
drop index {schema}.detection_model_run_outputs_sightings;
create index detection_model_run_outputs_sightings
    on {schema}.detection_model_run_outputs (model_id, entity_id, cycle_started_at)
    where score > 0.3 and role = 'PRIMARY' and not is_replay;
