-- name: all
-- Every model with its dependencies now, or the one with this id.
select m.model_id, m.cycle_id, m.entrypoint, m.score_key, m.entity_key, m.task_options, m.is_enabled, m.promotion,
       array(select d.depends_on::text from {schema}.detection_model_dependencies d
              where d.model_id = m.model_id and d.superseded_at is null
              order by d.depends_on) as depends_on
  from {schema}.detection_models m
 where %(model_id)s::text is null or m.model_id = %(model_id)s::text
 order by m.model_id;

-- name: at
-- The models of a cycle that have held a role by an instant, and what they depended on then.
select m.model_id, m.cycle_id, m.entrypoint, m.score_key, m.entity_key, m.task_options, m.is_enabled,
       array(select d.depends_on::text from {schema}.detection_model_dependencies d
              where d.model_id = m.model_id
                and (d.is_founding or d.recorded_at <= least(%(at)s, %(known_at)s))
                and (d.superseded_at is null or d.superseded_at > least(%(at)s, %(known_at)s))
              order by d.depends_on) as depends_on
  from {schema}.detection_models m
 where m.cycle_id = %(cycle_id)s
   and exists (select from {schema}.detection_model_roles r
                where r.model_id = m.model_id and lower(r.valid) <= least(%(at)s, %(known_at)s)
                  and (r.is_founding or r.recorded_at <= %(known_at)s))
 order by m.model_id;

-- name: switches
-- Which models of a cycle are enabled now.
select model_id, is_enabled from {schema}.detection_models where cycle_id = %(cycle_id)s;

-- name: put
-- Register a model, or replace all its settings; a trigger protects those that past plans rest on.
insert into {schema}.detection_models
       (model_id, cycle_id, entrypoint, score_key, entity_key, task_options, is_enabled, promotion)
values (%(model_id)s, %(cycle_id)s, %(entrypoint)s, %(score_key)s, %(entity_key)s, %(task_options)s,
        %(is_enabled)s, %(promotion)s)
    on conflict (model_id) do update set
       cycle_id = excluded.cycle_id, entrypoint = excluded.entrypoint, score_key = excluded.score_key,
       entity_key = excluded.entity_key, task_options = excluded.task_options,
       is_enabled = excluded.is_enabled, promotion = excluded.promotion;

-- name: has_history
-- Whether a model has ever held a role.
select exists (select from {schema}.detection_model_roles where model_id = %(model_id)s) as has_history;

-- name: forget_dependencies
-- Drop the dependencies of a model that has never held a role: no plan rests on them.
delete from {schema}.detection_model_dependencies where model_id = %(model_id)s;

-- name: supersede_dependencies
-- End the dependencies that the model no longer has.
update {schema}.detection_model_dependencies set superseded_at = %(now)s
 where model_id = %(model_id)s and superseded_at is null and depends_on <> all (%(depends_on)s::text[]);

-- name: add_dependencies
-- Record the dependencies that are not in force yet.
insert into {schema}.detection_model_dependencies (model_id, depends_on, recorded_at, is_founding)
select %(model_id)s::text, dependency.name, %(now)s, %(is_founding)s
  from unnest(%(depends_on)s::text[]) as dependency (name)
 where not exists (select from {schema}.detection_model_dependencies d
                    where d.model_id = %(model_id)s::text and d.depends_on = dependency.name
                      and d.superseded_at is null);
