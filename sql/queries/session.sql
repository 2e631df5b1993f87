-- name: use_utc
-- The session's time zone, so that nothing depends on the server's.
select set_config('TimeZone', 'UTC', false);

-- name: limit_statements
-- The longest that one statement may take, in milliseconds.
select set_config('statement_timeout', %(limit_ms)s, false);

-- name: read_only
-- Nothing in this transaction may write.
set transaction read only;

-- name: use_schema
-- Names without a schema are looked up in ours, then in public, until the transaction ends.
select set_config('search_path', quote_ident(%(schema)s::text) || ', public', true);
