-- name: register_file
-- Claim a file by its content; no row: it is loaded already, or was while this statement waited.
insert into {schema}.ais_files (sha256, name, row_count, malformed_count)
values (%(sha256)s, %(name)s, 0, 0)
on conflict (sha256) do nothing
returning sha256;

-- name: recorded_file
-- The recorded row counts of a file that is loaded already.
select row_count, malformed_count from {schema}.ais_files where sha256 = %(sha256)s;

-- name: drop_incoming
-- Drop the table of the previous file in the same transaction.
drop table if exists pg_temp.ais_incoming;

-- name: create_incoming
-- The table for the rows of a file before they are merged into the positions.
create temp table ais_incoming on commit drop as
select mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type
  from {schema}.ais_positions with no data;

-- name: copy_incoming
-- Copy the rows of the file.
copy pg_temp.ais_incoming
    (mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type)
from stdin;

-- name: incoming_interval
-- The first and the last instant of the file.
select min(observed_at), max(observed_at) from pg_temp.ais_incoming;

-- name: insert_new
-- Add the positions that are not there yet. In order, so that two loaders that overlap cannot deadlock;
-- ctid keeps the first of those that a file repeats.
insert into {schema}.ais_positions
    (mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type)
select mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type
  from pg_temp.ais_incoming
 order by mmsi, observed_at, lat, lon, ctid
on conflict do nothing;

-- name: complete_file
-- Record the row counts of the file.
update {schema}.ais_files
   set row_count = %(row_count)s, malformed_count = %(malformed_count)s,
       is_simulated = %(is_simulated)s, loaded_at = clock_timestamp()
 where sha256 = %(sha256)s;
