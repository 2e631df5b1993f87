-- name: last_fixes
-- The last :count usable fixes of each vessel in [:since, :window_start). One step along the index for each
-- vessel, however many positions it has.
with recursive vessel as (
    (select min(mmsi) as mmsi from ais_positions)
    union all
    select (select min(p.mmsi) from ais_positions p where p.mmsi > v.mmsi) from vessel v where v.mmsi is not null
)
select f.*
  from vessel v
 cross join lateral (
    select p.mmsi, date_part('epoch', p.observed_at) as observed_s, p.lat, p.lon, p.sog_kn::float8 as sog_kn
      from ais_positions p
     where p.mmsi = v.mmsi and p.observed_at >= :since and p.observed_at < :window_start
       and p.loaded_at <= :opened_at and p.lat between -90 and 90 and p.lon between -180 and 180
     order by p.observed_at desc, p.lat desc, p.lon desc
     limit :count
 ) f
 where v.mmsi is not null;

-- name: last_fixes_of
-- The last :count usable fixes of these vessels in [:since, :window_start).
select f.*
  from unnest(:vessels::bigint[]) as v (mmsi)
 cross join lateral (
    select p.mmsi, date_part('epoch', p.observed_at) as observed_s, p.lat, p.lon, p.sog_kn::float8 as sog_kn
      from ais_positions p
     where p.mmsi = v.mmsi and p.observed_at >= :since and p.observed_at < :window_start
       and p.loaded_at <= :opened_at and p.lat between -90 and 90 and p.lon between -180 and 180
     order by p.observed_at desc, p.lat desc, p.lon desc
     limit :count
 ) f;

-- name: thinned_fixes
-- The usable fixes of these vessels in [:since, :window_start): in each step of :step_s seconds the first in
-- each cell of 0.1 degrees.
select distinct on (p.mmsi, floor(date_part('epoch', p.observed_at) / :step_s), floor(p.lat * 10), floor(p.lon * 10))
       p.mmsi, date_part('epoch', p.observed_at) as observed_s, p.lat, p.lon, p.sog_kn::float8 as sog_kn
  from ais_positions p
 where p.mmsi = any(:vessels) and p.observed_at >= :since and p.observed_at < :window_start
   and p.loaded_at <= :opened_at and p.lat between -90 and 90 and p.lon between -180 and 180
 order by p.mmsi, floor(date_part('epoch', p.observed_at) / :step_s), floor(p.lat * 10), floor(p.lon * 10),
       p.observed_at, p.lat, p.lon;

-- name: thinned_fixes_of_all
-- The same of every vessel, for a short time: found by time, not by vessel.
select distinct on (p.mmsi, floor(date_part('epoch', p.observed_at) / :step_s), floor(p.lat * 10), floor(p.lon * 10))
       p.mmsi, date_part('epoch', p.observed_at) as observed_s, p.lat, p.lon, p.sog_kn::float8 as sog_kn
  from ais_positions p
 where p.observed_at >= :since and p.observed_at < :window_start
   and p.loaded_at <= :opened_at and p.lat between -90 and 90 and p.lon between -180 and 180
 order by p.mmsi, floor(date_part('epoch', p.observed_at) / :step_s), floor(p.lat * 10), floor(p.lon * 10),
       p.observed_at, p.lat, p.lon;

-- name: stored_fixes
-- All fixes of these vessels in [:since, :window_start), usable or not, with the vessel's name.
select mmsi, extract(epoch from observed_at)::float8 as observed_s, lat, lon, sog_kn::float8 as sog_kn,
       cog_deg::float8 as cog_deg, heading_deg::float8 as heading_deg, vessel_name
  from ais_positions
 where mmsi = any(:vessels) and observed_at >= :since and observed_at < :window_start
   and loaded_at <= :opened_at;

-- name: times_before
-- The times at which each vessel was heard up to an instant of its own: the last :max_times usable fixes in :span_s before it.
select c.place - 1 as place, date_part('epoch', p.observed_at) as observed_s
  from unnest(:vessels::bigint[], :starts::float8[]) with ordinality as c (mmsi, start_s, place)
 cross join lateral (
    select p.observed_at
      from ais_positions p
     where p.mmsi = c.mmsi and p.observed_at <= to_timestamp(c.start_s)
       and p.observed_at >= to_timestamp(c.start_s - :span_s) and p.observed_at < :window_start
       and p.loaded_at <= :opened_at and p.lat between -90 and 90 and p.lon between -180 and 180
     order by p.observed_at desc
     limit :max_times
 ) p;
