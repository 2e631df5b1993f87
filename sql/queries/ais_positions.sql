-- name: register_file
-- Register a file by its content; no row is returned where it is loaded already, or was loaded while this
-- statement waited.
insert into {schema}.ais_files (sha256, name, row_count, malformed_count)
values (%(sha256)s, %(name)s, 0, 0)
on conflict (sha256) do nothing
returning sha256;

-- name: recorded_file
-- The counts of a file that is loaded already.
select row_count, malformed_count from {schema}.ais_files where sha256 = %(sha256)s;

-- name: drop_incoming
-- Drop the temporary table of an earlier file of the same transaction.
drop table if exists pg_temp.ais_incoming;

-- name: create_incoming
-- Create the temporary table into which a file is copied before its new rows are inserted.
create temp table ais_incoming on commit drop as
select mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type
  from {schema}.ais_positions with no data;

-- name: copy_incoming
-- Copy the rows of the file into the temporary table.
copy pg_temp.ais_incoming
    (mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type)
from stdin;

-- name: incoming_interval
-- The first and the last instant of the file.
select min(observed_at), max(observed_at) from pg_temp.ais_incoming;

-- name: insert_new
-- Insert the positions that are not stored yet. In order, so that two loads of overlapping files cannot
-- deadlock; by ctid the first of repeated rows stays.
insert into {schema}.ais_positions
    (mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type)
select mmsi, observed_at, lat, lon, sog_kn, cog_deg, heading_deg, vessel_name, imo, call_sign, vessel_type
  from pg_temp.ais_incoming
 order by mmsi, observed_at, lat, lon, ctid
on conflict do nothing;

-- name: forget_file
-- Forget a file that has rows after now: they are loaded when it is loaded again.
delete from {schema}.ais_files where sha256 = %(sha256)s;

-- name: complete_file
-- Record the counts of the file.
update {schema}.ais_files
   set row_count = %(row_count)s, malformed_count = %(malformed_count)s,
       is_simulated = %(is_simulated)s, loaded_at = clock_timestamp()
 where sha256 = %(sha256)s;

-- name: has_track
-- Whether a vessel has a usable fix in [start, end).
select exists (select from {schema}.ais_positions
                where mmsi = %(mmsi)s and observed_at >= %(start)s and observed_at < %(end)s
                  and lat between -90 and 90 and lon between -180 and 180);

-- name: track
-- The usable fixes of a vessel in [start, end), in order of time.
select observed_at, lat, lon
  from {schema}.ais_positions
 where mmsi = %(mmsi)s and observed_at >= %(start)s and observed_at < %(end)s
   and lat between -90 and 90 and lon between -180 and 180
 order by observed_at, lat, lon
 limit %(limit)s;
