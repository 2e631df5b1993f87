-- name: use_utc
-- Set the session's time zone, so that nothing depends on the server's.
select set_config('TimeZone', 'UTC', false);

-- name: use_utc_read_only
-- The same, in a session that may not write.
select set_config('TimeZone', 'UTC', false), set_config('default_transaction_read_only', 'on', false);

-- name: limit_statements
-- The longest that one statement may take, in milliseconds.
select set_config('statement_timeout', %(limit_ms)s, false);

-- name: read_only_transaction
-- Nothing in this transaction may write.
set transaction read only;

-- name: use_schema
-- Names without a schema are looked up in ours, then in public, until the transaction ends.
select set_config('search_path', quote_ident(%(schema)s::text) || ', public', true);

-- name: unlock
-- Release the session-level advisory locks of a query.
select pg_advisory_unlock_all();

-- name: read_only_session
-- Nothing in this session may write, and the server ends it when the client is gone or idle in a transaction.
select set_config('default_transaction_read_only', 'on', false),
       set_config('client_connection_check_interval', '2s', false),
       set_config('idle_in_transaction_session_timeout', %(idle_ms)s, false);

-- name: act_as
-- The rights of this role, and no others.
select set_config('role', %(role)s, false);

-- name: backend
-- The process and start of this session, to end it from another one.
select pid, backend_start from pg_stat_activity where pid = pg_backend_pid();

-- name: end_backend
-- End a session, unless its process id belongs to another one by now.
select pg_terminate_backend(pid) from pg_stat_activity
where pid = %(pid)s::integer and backend_start = %(backend_start)s::timestamptz;
