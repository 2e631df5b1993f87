"""A registry behind a pooler in transaction mode: all of it works, and nothing outlives a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests import sample_registry
from tests.cycle.test_inline import run, run_version
from tests.sample_registry import AT
from tests.store.servers import pooler

from airflow_detection.cycle import closing
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import ConfigurationError
from airflow_detection.hooks.session import session_of
from airflow_detection.registration.apply import apply_file
from airflow_detection.store import grants, registry
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.grants import ROLES
from airflow_detection.store.migrations import migrate
from airflow_detection.store.session import limit_session

SETTINGS = Settings(
    allowed_prefixes=("tests.cycle.test_pooler",), inline_timeout_s=20, reader_role="detection_reader"
)
LEFT_BEHIND = """
select 'setting ' || name || ' = ' || setting from pg_settings
 where source = 'session' and name not in ('application_name', 'client_encoding', 'transaction_read_only',
       'transaction_isolation', 'transaction_deferrable')
union all select 'prepared ' || name from pg_prepared_statements
union all select 'table ' || relname from pg_class where relnamespace = pg_my_temp_schema()
union all select 'cursor ' || name from pg_cursors where name <> ''
union all select 'lock ' || pid from pg_locks where locktype = 'advisory'
"""
REGISTRATION = """
cycles:
  fleet: {schedule: "*/5 * * * *", lookback: 1h, start_date: 2026-01-01T00:00:00Z}
models:
"""
MODEL = """
  m{n}:
    cycle: fleet
    entrypoint: tests.cycle.test_pooler:Reads
    score_key: score
    entity_key: id
    versions: {{"1": {{role: PRIMARY, since: 2026-01-01T00:00:00Z, params: {{n: {n}}}}}}}
"""


class Writes(BaseDetectionModel):
    """More outputs than are read at a time."""

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(outputs_per_input=[({"n": n}, {"id": n, "score": 0.5}) for n in range(12_000)])


class Reads(BaseDetectionModel):
    """Reads the outputs of two champions in turn, between queries, and says what its session is."""

    score_range = (-1e12, 1e12)

    def run(self, ctx: ModelContext) -> ModelResult:
        assert ctx.database
        total = 0.0
        iterators = [iter(outputs) for outputs in ctx.shared.values()]
        for pairs in zip(*iterators, strict=True):
            total += sum(output["score"] for _, output in pairs)
        facts = ctx.database.query(
            "select current_user::text as role, current_setting('TimeZone') as zone, "
            "current_setting('transaction_read_only') as read_only, 0.1::float8 + 0.2 as float, "
            "pg_try_advisory_lock(1) as locked"
        )
        return ModelResult(
            outputs_per_input=[
                ({}, {"id": k, "score": total, "value": str(v[0])}) for k, v in facts.columns.items()
            ]
        )


@pytest.fixture
def pooled(dsn: str) -> Iterator[str]:
    """Connection string of a pooler with two sessions before the registry."""
    with connect(dsn) as conn:
        grants.grant(Database(conn))
    with pooler(dsn) as pooled:
        yield pooled


def left_behind(pooled: str) -> list[str]:
    """What others find in the sessions of the pool."""
    found: list[str] = []
    with ExitStack() as stack:
        for _ in range(2):  # at the same time: each has one of the two sessions
            conn = stack.enter_context(psycopg.connect(pooled, prepare_threshold=None))
            rows = conn.execute(LEFT_BEHIND).fetchall()
            found += [f"{conn.execute('select pg_backend_pid()').fetchone()}: {row[0]}" for row in rows]
    return found


def registered(conn: Connection) -> None:
    sample_registry.put_cycle(conn, input_query="select 1 as n, now() as at")
    for model_id in ("a", "b"):
        sample_registry.put_model(conn, model_id, entrypoint="tests.cycle.test_pooler:Writes")
        sample_registry.put_version(conn, f"{model_id}@1", Role.PRIMARY)
    sample_registry.put_model(conn, "m", ("a", "b"), entrypoint="tests.cycle.test_pooler:Reads")
    sample_registry.put_version(conn, "m@1", Role.PRIMARY)
    sample_registry.put_version(conn, "m@2", Role.SHADOW)


def facts_of(conn: Connection, label: str) -> dict[str, str]:
    model_id, _, version = label.partition("@")
    return dict(
        conn.execute(
            "select o.outputs ->> 'id', o.outputs ->> 'value' from detection.detection_model_run_outputs o "
            "join detection.detection_model_versions v using (version_id) "
            "where o.model_id = %s and v.version = %s",
            (model_id, version),
        ).fetchall()
    )


FACTS = {
    "role": "detection_reader", "zone": "UTC", "read_only": "on", "float": "0.30000000000000004",
    "locked": "True",
}  # fmt: skip


def test_a_registration_is_applied_again_and_again(pooled: str, tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    for count in (4, 8, 8):
        file.write_text(REGISTRATION + "".join(MODEL.format(n=n) for n in range(count)))
        with connect(pooled) as conn:
            apply_file(Database(conn), file)
    with connect(pooled) as conn:
        assert apply_file(Database(conn), file) == []
    assert left_behind(pooled) == []


def test_migrations_are_applied_once(empty_dsn: str) -> None:
    with pooler(empty_dsn) as pooled:
        with connect(pooled) as conn:
            assert migrate(Database(conn))
            assert migrate(Database(conn)) == []
        assert left_behind(pooled) == []


def test_an_inline_cycle_leaves_nothing_in_the_sessions_of_the_pool(pooled: str) -> None:
    with connect(pooled) as conn:
        registered(conn)
        reports = run(conn, SETTINGS)
        closing.close_cycle(Database(conn), "fleet", AT, mode=Mode.AS_OF, task_states={})
        assert {label: r.outcome for label, r in reports.items()} == dict.fromkeys(
            ("a@1", "b@1", "m@1", "m@2"), Outcome.SUCCEEDED
        )
        assert facts_of(conn, "m@1") == FACTS
        assert facts_of(conn, "m@2") == FACTS
    assert left_behind(pooled) == []


def test_tasks_leave_nothing_in_the_sessions_of_the_pool(pooled: str) -> None:
    with connect(pooled) as conn:
        registered(conn)
        for label in ("a@1", "b@1", "m@1", "m@2"):
            assert run_version(conn, label, SETTINGS).outcome is Outcome.SUCCEEDED
        assert facts_of(conn, "m@1") == FACTS
    assert left_behind(pooled) == []


def test_a_read_only_connection_is_read_only_and_only_that_one(pooled: str) -> None:
    with (
        session_of("x", lambda: psycopg.connect(pooled), read_only=True) as reader,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        reader.execute("delete from detection.detection_cycles")
    with connect(pooled) as conn:
        conn.execute("delete from detection.detection_cycles")
    assert left_behind(pooled) == []


def test_instants_are_utc_whatever_the_time_zone_of_the_server(dsn: str) -> None:
    set_for_database(dsn, "TimeZone", "Asia/Tokyo")
    with pooler(dsn) as pooled, connect(pooled) as conn:
        sample_registry.put_cycle(conn)
        (now,) = conn.execute("select clock_timestamp()").fetchone() or (None,)
        assert now.utcoffset() == timedelta()
        assert registry.cycle_specs(Database(conn))[0].start_date == sample_registry.SINCE
        assert registry.clock(Database(conn)).tzinfo is UTC
        assert left_behind(pooled) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [("DateStyle", "German"), ("IntervalStyle", "iso_8601"), ("session_replication_role", "replica")],
)
def test_a_setting_that_a_pooled_session_needs_otherwise_is_refused_with_the_reason(
    dsn: str, setting: str, value: str
) -> None:
    set_for_database(dsn, setting, value)
    with pooler(dsn) as pooled, pytest.raises(ConfigurationError, match=f"{setting} is .*pooler"):
        connect(pooled)


def test_a_limited_session_is_one_transaction_with_its_limits(pooled: str) -> None:
    with connect(pooled) as conn:
        backend = limit_session(Database(conn), timeout_s=0.05, role=ROLES[0])
        assert conn.execute("select pg_backend_pid()").fetchone() == (backend["pid"],)
        assert conn.execute("select current_user::text").fetchone() == (ROLES[0],)
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("select pg_sleep(5)")
    assert left_behind(pooled) == []


def set_for_database(dsn: str, name: str, value: Any) -> None:
    with connect(dsn) as conn:
        statement = psycopg.sql.SQL("alter database {} set {} = {}")
        conn.execute(
            statement.format(
                psycopg.sql.Identifier(conn.info.dbname),
                psycopg.sql.Identifier(name),
                psycopg.sql.Literal(value),
            )
        )
