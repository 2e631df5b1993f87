-- name: use_utc
-- The session's time zone, so that nothing depends on the server's.
select set_config('TimeZone', 'UTC', false);

-- name: limit_statements
-- The longest that one statement may take, in milliseconds.
select set_config('statement_timeout', %(limit_ms)s, false);
