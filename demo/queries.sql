-- name: metadata_revision
-- The migration that Airflow's metadata database is at.
select version_num from alembic_version;

-- name: last_position
-- The newest position up to now.
select max(observed_at) from detection.ais_positions where observed_at <= now();

-- name: results
-- What each version that held a role did in each of the cycles; no manifest gives nulls.
select cycle.started_at as cycle_started_at, version.model_id, version.version, role.role::text, run.outcome::text,
       run.input_count, run.output_count, run.duration_ms, run.started_at >= %(since)s as is_new,
       run.error
  from unnest(%(cycles)s::timestamptz[]) as cycle (started_at)
  join detection.detection_models as model on model.cycle_id = %(cycle_id)s and model.is_enabled
  join detection.detection_model_versions as version using (model_id)
  join detection.detection_model_roles as role
    on role.version_id = version.version_id and role.valid @> cycle.started_at and role.superseded_at is null
  left join detection.detection_model_runs as run
    on run.cycle_id = %(cycle_id)s and run.cycle_started_at = cycle.started_at
   and run.version_id = version.version_id and not run.is_replay
 order by cycle.started_at, version.model_id, role.role, version.version;

-- name: vessels
-- Every vessel that was heard in [start, end).
select distinct mmsi from detection.ais_positions
 where observed_at >= %(start)s and observed_at < %(end)s order by mmsi;

-- name: known_cases
-- Vessels whose positions in [start, end) leave no doubt. In two places (true): six hops or more of over 20 km
-- at over 100 knots, in three hours or more. On one way (false): 30 hops or more, none of which needs more
-- than the higher of the two speeds that were reported, plus 10 knots and 400 metres. All others: no row.
with fix as (
    select mmsi, observed_at, lat, lon, case when sog_kn < 102.2 then sog_kn end as sog_kn,
           lag(observed_at) over track as was_at, lag(lat) over track as was_lat, lag(lon) over track as was_lon,
           lag(case when sog_kn < 102.2 then sog_kn end) over track as was_kn
      from detection.ais_positions
     where observed_at >= %(start)s and observed_at < %(end)s
       and lat between -90 and 90 and lon between -180 and 180
    window track as (partition by mmsi order by observed_at, lat, lon)
), hop as (
    select mmsi, observed_at, greatest(sog_kn, was_kn) as reported_kn,
           greatest(extract(epoch from observed_at - was_at)::float8, 1) as seconds,
           12742 * asin(least(1, sqrt(power(sin(radians(lat - was_lat) / 2), 2)
               + cos(radians(lat)) * cos(radians(was_lat)) * power(sin(radians(lon - was_lon) / 2), 2)))) as km
      from fix where was_at is not null
), vessel as (
    select mmsi, count(*) as hops, bool_and(km <= (reported_kn + 10) * 1.852 * seconds / 3600 + 0.4) as is_one,
           count(*) filter (where km > 20 and km / 1.852 / seconds * 3600 > 100) as jumps,
           count(distinct date_trunc('hour', observed_at))
               filter (where km > 20 and km / 1.852 / seconds * 3600 > 100) as hours
      from hop group by mmsi
)
select mmsi, jumps > 0 as is_positive
  from vessel
 where (jumps >= 6 and hours >= 3) or (hops >= 30 and is_one)
 order by mmsi;
