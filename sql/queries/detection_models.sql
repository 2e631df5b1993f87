-- name: all
-- Every model with its dependencies now, or the one with this id.
select m.model_id, m.cycle_id, m.entrypoint, m.score_key, m.entity_key, m.task_options, m.is_enabled, m.promotion,
       nullif(m.event_gap, interval '1 hour') as event_gap, m.events,
       array(select d.depends_on::text from {schema}.detection_model_dependencies d
              where d.model_id = m.model_id and d.superseded_at is null
              order by d.depends_on) as depends_on
  from {schema}.detection_models m
 where %(model_id)s::text is null or m.model_id = %(model_id)s::text
 order by m.model_id;

-- name: at
-- The models of cycles that have held a role by an instant, and what they depended on then.
select m.model_id, m.cycle_id, m.entrypoint, m.score_key, m.entity_key, m.task_options, m.is_enabled, m.events,
       array(select d.depends_on::text from {schema}.detection_model_dependencies d
              where d.model_id = m.model_id
                and (d.is_founding or d.recorded_at <= least(%(at)s, %(known_at)s))
                and (d.superseded_at is null or d.superseded_at > least(%(at)s, %(known_at)s))
              order by d.depends_on) as depends_on
  from {schema}.detection_models m
 where m.cycle_id = any (%(cycle_ids)s::text[])
   and exists (select from {schema}.detection_model_roles r
                where r.model_id = m.model_id and lower(r.valid) <= least(%(at)s, %(known_at)s)
                  and (r.is_founding or r.recorded_at <= %(known_at)s))
 order by m.model_id;

-- name: switches
-- What holds of the models of a cycle now, whatever the plan: whether they are enabled, and what makes their events.
select model_id, is_enabled, events from {schema}.detection_models where cycle_id = %(cycle_id)s;

-- name: put
-- Register models, or replace all their settings; a trigger protects those that past plans rest on.
insert into {schema}.detection_models
       (model_id, cycle_id, entrypoint, score_key, entity_key, task_options, is_enabled, promotion, event_gap,
        events)
select model_id, cycle_id, entrypoint, score_key, entity_key, task_options, is_enabled, promotion,
       coalesce(event_gap, interval '1 hour'), events
  from unnest(%(model_id)s::text[], %(cycle_id)s::text[], %(entrypoint)s::text[], %(score_key)s::text[],
              %(entity_key)s::text[], %(task_options)s::jsonb[], %(is_enabled)s::boolean[], %(promotion)s::jsonb[],
              %(event_gap)s::interval[], %(events)s::jsonb[])
       with ordinality as m (model_id, cycle_id, entrypoint, score_key, entity_key, task_options, is_enabled, promotion,
                             event_gap, events, number)
 order by number
    on conflict (model_id) do update set
       cycle_id = excluded.cycle_id, entrypoint = excluded.entrypoint, score_key = excluded.score_key,
       entity_key = excluded.entity_key, task_options = excluded.task_options,
       is_enabled = excluded.is_enabled, promotion = excluded.promotion, event_gap = excluded.event_gap,
       events = excluded.events;

-- name: events
-- Which scores of a model make events.
select events from {schema}.detection_models where model_id = %(model_id)s;

-- name: without_history
-- Those of these models that have never held a role.
select model_id from unnest(%(model_ids)s::text[]) as model (model_id)
 where not exists (select from {schema}.detection_model_roles r where r.model_id = model.model_id);

-- name: forget_dependencies
-- Drop the dependencies of models that have never held a role: no plan rests on them.
delete from {schema}.detection_model_dependencies where model_id = any (%(founding)s::text[]);

-- name: supersede_dependencies
-- End the dependencies that these models no longer have.
update {schema}.detection_model_dependencies d set superseded_at = %(now)s
 where d.model_id = any (%(model_ids)s::text[]) and d.superseded_at is null
   and not exists (select from unnest(%(model_id)s::text[], %(depends_on)s::text[]) as edge (model_id, depends_on)
                    where edge.model_id = d.model_id and edge.depends_on = d.depends_on);

-- name: add_dependencies
-- Record the dependencies that are not in force yet.
insert into {schema}.detection_model_dependencies (model_id, depends_on, recorded_at, is_founding)
select edge.model_id, edge.depends_on, %(now)s, edge.model_id = any (%(founding)s::text[])
  from unnest(%(model_id)s::text[], %(depends_on)s::text[]) as edge (model_id, depends_on)
 where not exists (select from {schema}.detection_model_dependencies d
                    where d.model_id = edge.model_id and d.depends_on = edge.depends_on
                      and d.superseded_at is null);
