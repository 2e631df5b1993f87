-- What the pages need: what people say of an event, and everything of one entity without reading whole cycles.
alter table {schema}.detection_events
    add column acknowledged_at timestamptz,
    add column acknowledged_by text check (acknowledged_by <> ''),
    add column acknowledged_reason text,
    add column hand_closed_at timestamptz,
    add column closed_by text check (closed_by <> ''),
    add column closed_reason text,
    add constraint acknowledged_by_somebody check ((acknowledged_at is null) = (acknowledged_by is null)),
    add constraint closed_by_somebody check ((hand_closed_at is null) = (closed_by is null));
comment on column {schema}.detection_events.hand_closed_at is
    'When a person closed it: it stays closed although the entity is seen again; what is seen after event_gap is another '
    'event.';

-- Pages list events by the last sighting, and everything of one entity.
create index detection_events_by_last_sighting on {schema}.detection_events (last_seen_at desc, event_id desc);
create index detection_events_by_entity on {schema}.detection_events (entity_id, last_seen_at);
create index detection_events_answered on {schema}.detection_events (model_id, entity_id)
    where acknowledged_at is not null or hand_closed_at is not null;

-- Of what was flagged alone: an index of every output would cost each write half as much again.
create index detection_model_run_outputs_flagged
    on {schema}.detection_model_run_outputs (entity_id, cycle_started_at) where score > 0.3;
