-- Events follow from the stored outputs of champions: what it takes to find them again quickly.
alter table {schema}.detection_models
    add column event_gap interval not null default '1 hour' check (event_gap > interval '0');
comment on column {schema}.detection_models.event_gap is
    'Two sightings of an entity (a score above 0.5) that are at most this far apart belong to one event. Set it '
    'before the first cycle: events that are there are not cut anew.';

create index detection_model_run_outputs_sightings
    on {schema}.detection_model_run_outputs (model_id, entity_id, cycle_started_at)
    where score > 0.5 and role = 'PRIMARY' and not is_replay;

create index detection_events_by_model on {schema}.detection_events (model_id, last_seen_at)
    where status <> 'RETRACTED';
comment on table {schema}.detection_events is
    'One row per spell in which a champion saw an entity: category is the model id, score the highest, details the '
    'latest output. OPEN until a cycle later than event_gap behind the last sighting has run, then CLOSED at that '
    'cycle. RETRACTED: a rerun took its sightings away, or it is part of another one (details.merged_into).';
