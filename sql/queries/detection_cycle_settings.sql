-- name: at
-- What a cycle read at an instant, as known at another: the newest start counts, and of one start the newest row.
select lookback, input_query, time_key
  from {schema}.detection_cycle_settings
 where cycle_id = %(cycle_id)s
   and (is_founding or recorded_at <= %(known_at)s)
   and (valid_from is null or valid_from <= least(%(at)s::timestamptz, %(known_at)s::timestamptz))
 order by valid_from desc nulls last, settings_id desc
 limit 1;

-- name: lookbacks
-- The lookbacks of all cycles, of each cycle the one that counts most first.
select cycle_id, valid_from, recorded_at, is_founding, lookback
  from {schema}.detection_cycle_settings
 order by cycle_id, valid_from desc nulls last, settings_id desc;
