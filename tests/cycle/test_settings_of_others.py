"""Settings that others have made for the database: what is stored and read is the same with all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.cycle.test_inline import run, run_version

from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Outcome
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.engine.sql_model import SqlDetectionModel
from airflow_detection.errors import ConfigurationError
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

SETTINGS = Settings(allowed_prefixes=("tests.cycle.test_settings_of_others",), inline_timeout_s=30)
OTHERS = [
    ("IntervalStyle", "iso_8601"),
    ("IntervalStyle", "sql_standard"),
    ("DateStyle", "German, DMY"),
    ("DateStyle", "SQL, MDY"),
    ("TimeZone", "Asia/Kathmandu"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("search_path", ""),
    ("search_path", "nowhere"),
    ("row_security", "off"),
    ("idle_session_timeout", "1s"),
    ("statement_timeout", "20s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "20s"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_deferrable", "on"),
    ("standard_conforming_strings", "off"),
    ("lc_messages", "C"),
    ("session_replication_role", "replica"),
    ("client_encoding", "LATIN1"),
    ("array_nulls", "off"),
    ("quote_all_identifiers", "on"),
]
COMPUTES_S = 0.0  # longer than a session may idle, where a setting is about that
REGISTRATION = r"""
cycles:
  fleet:
    schedule: "*/5 * * * *"
    lookback: 90m
    start_date: 2026-01-01T00:00:00Z
    input_query: |
      select interval '1 day 02:03:04.5' as length, '\xdeadbeef'::bytea as bytes, 0.1::float8 + 0.2 as number,
             :window_start as at, 'Łódź \ "quoted"' as text, date_trunc('day', :window_start)::text as day,
             (0.1::float8 + 0.2)::text as digits, (:window_end - :window_start)::text as window
models:
  told:
    cycle: fleet
    entrypoint: tests.cycle.test_settings_of_others:TellsInputs
    score_key: score
    entity_key: id
    versions: {"1": {role: PRIMARY, since: 2026-01-01T00:00:00Z, params: {text: 'Łódź \ "q"', number: 0.1}}}
  reads:
    cycle: fleet
    entrypoint: tests.cycle.test_settings_of_others:ReadsBack
    depends_on: [told]
    score_key: score
    entity_key: id
    versions:
      "1": {role: PRIMARY, since: 2026-01-01T00:00:00Z}
      "2": {role: SHADOW, since: 2026-01-01T00:00:00Z}
  selected:
    cycle: fleet
    entrypoint: tests.cycle.test_settings_of_others:Selects
    score_key: score
    entity_key: entity
    versions: {"1": {role: PRIMARY, since: 2026-01-01T00:00:00Z}}
"""
TOLD = {
    "length": "1 day, 2:03:04.500000",
    "bytes": "b'\\xde\\xad\\xbe\\xef'",
    "number": "0.30000000000000004",
    "at": "2026-03-01T10:35:00+00:00",
    "text": 'Łódź \\ "quoted"',
    "day": "2026-03-01 00:00:00+00",
    "digits": "0.30000000000000004",
    "window": "01:30:00",
    "param text": 'Łódź \\ "q"',
    "param number": "0.1",
}
STORED = """
select o.model_id, v.version, o.entity_id, o.score, o.outputs from detection.detection_model_run_outputs o
  join detection.detection_model_versions v using (version_id) order by 1, 2, 3
"""


class TellsInputs(BaseDetectionModel):
    """Its inputs and params as text, and a score that needs all 17 digits; computes for `COMPUTES_S`."""

    def run(self, ctx: ModelContext) -> ModelResult:
        row = {name: column[0] for name, column in ctx.inputs.columns.items()} if len(ctx.inputs) else {}
        told = {k: v.isoformat() if isinstance(v, datetime) else str(v) for k, v in row.items()}
        told |= {f"param {k}": str(v) for k, v in ctx.params.items()}
        time.sleep(COMPUTES_S)
        return ModelResult(
            outputs_per_input=[({}, {"id": k, "score": 0.1 + 0.2, "told": v}) for k, v in told.items()]
        )


class ReadsBack(BaseDetectionModel):
    """What is stored of another model, again."""

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(outputs_per_input=[({}, dict(output)) for _, output in ctx.shared["told"]])


class Selects(SqlDetectionModel):
    """A score that needs all 17 digits, and texts that the settings shape."""

    statement = """
        select 'one' as entity, 0.1::float8 + 0.2 as score,
               jsonb_build_object('entity', 'one', 'window', (:window_end - :window_start)::text,
                                  'day', date_trunc('day', :window_start)::text) as outputs
    """


@pytest.fixture
def set_by_others(empty_dsn: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Connection string of an empty database with one setting of its own."""
    name, value = request.param
    set_for_database(empty_dsn, name, value)
    return empty_dsn


def set_for_database(dsn: str, name: str, value: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        names = sql.Identifier(conn.info.dbname), sql.Identifier(name)
        values = sql.SQL(", ").join(map(sql.Literal, value.split(", ") if name == "DateStyle" else [value]))
        conn.execute(sql.SQL("alter database {} set {} = {}").format(*names, values))


def expected() -> list[tuple[Any, ...]]:
    score = 0.1 + 0.2
    told = {k: {"id": k, "score": score, "told": v} for k, v in TOLD.items()}
    selected = {"entity": "one", "score": score, "window": "01:30:00", "day": "2026-03-01 00:00:00+00"}
    rows = [
        (model_id, version, k, score, output)
        for model_id, version in (("reads", "1"), ("reads", "2"), ("told", "1"))
        for k, output in told.items()
    ]
    return sorted([*rows, ("selected", "1", "one", score, selected)], key=lambda row: row[:3])


@pytest.mark.parametrize("is_inline", [True, False], ids=["inline", "task"])
@pytest.mark.parametrize("set_by_others", OTHERS, ids=" ".join, indirect=True)
def test_a_cycle_stores_and_reads_the_same_whatever_others_have_set(
    set_by_others: str,
    tmp_path: Path,
    is_inline: bool,  # noqa: FBT001
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "session_timeout" in request.node.name:
        monkeypatch.setitem(globals(), "COMPUTES_S", 1.5)
    dsn, file = set_by_others, tmp_path / "registry.yaml"
    file.write_text(REGISTRATION)
    with connect(dsn) as conn:
        db = Database(conn)
        migrate(db)
        assert len(apply_file(db, file)) == 12
        assert apply_file(db, file) == []
        if is_inline:
            assert {r.outcome for r in run(conn, SETTINGS).values()} == {Outcome.SUCCEEDED}
        else:
            for label in ("told@1", "reads@1", "reads@2", "selected@1"):
                assert run_version(conn, label, SETTINGS).outcome is Outcome.SUCCEEDED
        rows = [(*row[:4], dict(row[4])) for row in conn.execute(STORED).fetchall()]
        assert sorted(rows, key=lambda row: row[:3]) == expected()


def test_a_login_whose_triggers_do_not_work_and_who_may_not_mend_it_is_refused(dsn: str) -> None:
    set_for_database(dsn, "session_replication_role", "replica")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create role plain_login login")
    try:
        with pytest.raises(ConfigurationError, match=r"role is 'replica'.* may not set it"):
            connect(psycopg.conninfo.make_conninfo(dsn, user="plain_login"))
    finally:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("drop role plain_login")
