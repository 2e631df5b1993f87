"""Inline cycles against a real Postgres: connections, timeouts, rights, and the outputs of a child."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests import sample_registry
from tests.sample_registry import AT

from airflow_detection.cycle import inline, planning
from airflow_detection.cycle.child_store import limits_of
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, ModelSpec, Outcome, Role
from airflow_detection.engine.isolation.child import BACKEND, FrameWriter
from airflow_detection.engine.isolation.runner import ProcessLimits
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import StorageError
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.session import limit_session
from airflow_detection.store.spool import Spool, encode_outputs

SETTINGS = Settings(
    allowed_prefixes=("tests.cycle.test_inline", "tests.misbehaving_models"), inline_timeout_s=20
)
MISBEHAVING = "tests.misbehaving_models:MisbehavingModel"


class Slow(BaseDetectionModel):
    """Sleeps with its connection open, after a query."""

    def run(self, ctx: ModelContext) -> ModelResult:
        assert ctx.database
        ctx.database.query("select 1 as n")
        time.sleep(0.6)
        return ModelResult()


class LiftsLimits(BaseDetectionModel):
    """Lifts the limits of its session and sleeps in a statement."""

    def run(self, ctx: ModelContext) -> ModelResult:
        conn = next(iter(ctx.shared.values()))._upstream._conn  # type: ignore[attr-defined]
        conn.execute("set statement_timeout = 0")
        conn.execute("set client_connection_check_interval = 0")
        conn.execute("select pg_sleep(61)")
        return ModelResult()


class ReportsRights(BaseDetectionModel):
    """Returns its database role, and the error of an attempt to write."""

    def run(self, ctx: ModelContext) -> ModelResult:
        assert ctx.database
        row = ctx.database.query("select current_user as u, current_setting('TimeZone') as z")
        conn = next(iter(ctx.shared.values()))._upstream._conn  # type: ignore[attr-defined]
        conn.execute("set default_transaction_read_only = off")
        try:
            conn.execute("delete from detection.detection_model_runs")
            error_name = "none"
        except Exception as error:
            error_name = type(error).__name__
        return ModelResult(
            outputs_per_input=[
                ({}, {"id": row["u"][0], "score": None, "zone": row["z"][0], "error": error_name})
            ]
        )


class ReadsAnother(BaseDetectionModel):
    """Reads a model that its registration does not depend on."""

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(outputs_per_input=list(ctx.shared["quality"]))


def register(conn: Any, entrypoint: str, shadows: int = 0, **options: Any) -> None:
    """Register `tracks`, and `m` that reads it; `m` and its shadows have the entry point."""
    sample_registry.put_cycle(conn, input_query="select 1 as n, '{}'::jsonb as deep")
    sample_registry.put_model(conn, "tracks", entrypoint=MISBEHAVING)
    sample_registry.put_version(conn, "tracks@1", Role.PRIMARY, behaviour="mutates")
    sample_registry.put_model(conn, "m", ("tracks",), entrypoint=entrypoint, task_options=options)
    sample_registry.put_version(conn, "m@1", Role.PRIMARY)
    for number in range(shadows):
        sample_registry.put_version(conn, f"m@s{number}", Role.SHADOW)


def run(conn: Any, settings: Settings = SETTINGS, **options: Any) -> Any:
    planning.open_cycle(Database(conn, settings.schema), "fleet", AT, mode=Mode.AS_OF)
    report = inline.run_inline(
        Database(conn, settings.schema), settings, "fleet", AT, mode=Mode.AS_OF, **options
    )
    return {r.version.label: r for r in report.reports}


def run_version(
    conn: Any,
    label: str,
    settings: Settings = SETTINGS,
    reader_conninfo: str | None = None,
) -> RunReport:
    """Run one `model@version` of the opened cycle as a task does."""
    model_id, _, version = label.partition("@")
    request = VersionRequest(model_id=model_id, version=version, cycle_id="fleet", started_at=AT)
    return run_task(
        Database(conn, settings.schema),
        settings,
        request,
        reader_conninfo=lambda: reader_conninfo,
    )


@contextmanager
def max_connections(dsn: str, held_s: float = 0.3) -> Iterator[list[int]]:
    """Give a list whose one item is the highest number of connections so far, without the observer's own.

    Those count that were there together for `held_s`: the server shows a session that its client has closed
    until it comes to end it.
    """
    highest, stop = [0], threading.Event()
    query = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"

    def watch() -> None:
        samples: deque[tuple[float, set[int]]] = deque()
        with connect(dsn) as conn:
            while not stop.wait(0.01):
                samples.append((time.monotonic(), {pid for (pid,) in conn.execute(query).fetchall()}))
                while samples[-1][0] - samples[0][0] >= held_s:
                    highest[0] = max(highest[0], len(set.intersection(*(pids for _, pids in samples))))
                    samples.popleft()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "Deleted",
            (
                "EntryPointError: entry point 'tests.cycle.test_inline:Deleted' cannot be imported:"
                " AttributeError: module 'tests.cycle.test_inline' has no attribute 'Deleted'"
            ),
        ),
        (
            "ReadsAnother",
            (
                "NotAnUpstream: model 'm' reads ctx.shared['quality'], which its depends_on in the"
                " registration does not have: it has tracks"
            ),
        ),
    ],
)
def test_a_deleted_class_and_a_missing_depends_on_are_told_by_the_manifest(
    database: Any, name: str, reason: str
) -> None:
    register(database, f"tests.cycle.test_inline:{name}")
    report = run(database)["m@1"]
    assert (report.outcome, report.error) == (Outcome.FAILED, reason)
    stored = "select error from detection.detection_model_runs where model_id = 'm'"
    assert database.execute(stored).fetchall() == [(reason,)]


@pytest.mark.parametrize(("options", "expected"), [({}, 2), ({"concurrent_shadows": True}, 5)])
def test_a_task_holds_one_connection_and_each_running_version_one(
    dsn: str, options: dict[str, bool], expected: int
) -> None:
    with connect(dsn) as conn:
        register(conn, "tests.cycle.test_inline:Slow", shadows=5)
        with max_connections(dsn) as highest:
            reports = run(conn, **options)
    assert {r.outcome for r in reports.values()} == {Outcome.SUCCEEDED}
    assert highest == [expected]


def test_the_server_ends_what_a_killed_version_has_left_running(database: Any) -> None:
    register(database, "tests.cycle.test_inline:LiftsLimits", execution_timeout=0.7)
    report = run(database)["m@1"]
    assert "had not ended after 0.7 s and was ended" in str(report.error)
    assert report.is_transient
    for _ in range(40):
        active = database.execute("select from pg_stat_activity where query like '%pg_sleep(61)%' and pid <>"
                                " pg_backend_pid() and state = 'active'").fetchall()  # fmt: skip
        if not active:
            break
        time.sleep(0.05)
    assert not active
    assert sample_registry.outcomes(database)["m@1"] == "FAILED"


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, statement_timeout_s=0.4)])
def test_a_statement_is_ended_by_the_server_in_a_task_too(dsn: str, settings: Settings) -> None:
    options = {} if settings.statement_timeout_s else {"execution_timeout": 0.4}
    with connect(dsn) as conn:
        register(conn, MISBEHAVING, **options)
        sample_registry.put_version(conn, "m@2", Role.SHADOW, behaviour="hangs_in_sql")
        sample_registry.put_model(conn, "slow", entrypoint=MISBEHAVING, task_options=options)
        sample_registry.put_version(conn, "slow@1", Role.PRIMARY, behaviour="hangs_in_sql")
        planning.open_cycle(Database(conn, settings.schema), "fleet", AT, mode=Mode.AS_OF)
        began = time.monotonic()
        tracks, champion, slow_champion, slow_shadow = (
            run_version(conn, label, settings) for label in ("tracks@1", "m@1", "slow@1", "m@2")
        )
    assert (tracks.outcome, champion.outcome) == (Outcome.SUCCEEDED, Outcome.SUCCEEDED)
    # A version's process is ended at its execution timeout too: either may come first.
    by_process = [] if settings.statement_timeout_s else ["had not ended after 0.4 s and was ended"]
    for slow in (slow_champion, slow_shadow):
        assert any(reason in str(slow.error) for reason in ["statement timeout", *by_process])
        assert slow.is_transient
    assert time.monotonic() - began < 20


def test_a_manifest_has_the_time_that_inputs_took_and_the_peak_of_memory(database: Any) -> None:
    register(database, MISBEHAVING)
    for reports in (run(database), {"m@1": run_version(database, "m@1")}):
        report = reports["m@1"]
        assert report.outcome is Outcome.SUCCEEDED, report.error
        assert report.input_digest.startswith("columns-1:")
        row = database.execute(
            "select (stage_ms->>'inputs')::float8, peak_memory_bytes, input_digest "
            "from detection.detection_model_runs where model_id = 'm'"
        ).fetchone()
        assert 0 < row[0] < 20_000
        assert 10 * 2**20 < row[1] < 2**36
        assert row[2] == report.input_digest


def test_models_read_as_the_role_that_is_set(database: Any) -> None:
    role = f"reads_{uuid.uuid4().hex[:8]}"
    for text in (
        "create role {role} nologin",
        "grant usage on schema detection to {role}",
        "grant select on all tables in schema detection to {role}",
    ):
        database.execute(sql.SQL(text).format(role=sql.Identifier(role)))
    try:
        register(database, "tests.cycle.test_inline:ReportsRights")
        reports = run(database, replace(SETTINGS, reader_role=role))
        assert reports["m@1"].error is None
        row = database.execute(
            "select outputs from detection.detection_model_run_outputs where model_id = 'm'"
        ).fetchone()[0]
        assert row == {"id": role, "score": None, "zone": "UTC", "error": "InsufficientPrivilege"}
    finally:
        database.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
        database.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_a_role_that_may_not_be_taken_fails_the_versions_with_the_reason(database: Any) -> None:
    register(database, MISBEHAVING)
    reports = run(database, replace(SETTINGS, reader_role="nobody_here"))
    assert reports["tracks@1"].outcome is Outcome.FAILED
    assert "nobody_here" in str(reports["tracks@1"].error)
    assert reports["m@1"].outcome is Outcome.SKIPPED


class ExitsInPrepare(BaseDetectionModel):
    """Exits while it is prepared."""

    @classmethod
    def prepare(cls) -> None:
        sys.exit(3)

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult()


class HangsInPrepare(ExitsInPrepare):
    """Hangs while it is prepared."""

    @classmethod
    def prepare(cls) -> None:
        time.sleep(60)
        sys.exit(3)


@pytest.mark.parametrize("name", ["ExitsInPrepare", "HangsInPrepare"])
def test_a_class_that_cannot_be_prepared_costs_no_other_model_anything(database: Any, name: str) -> None:
    sample_registry.put_cycle(database)
    for model_id in ("a", "z"):
        sample_registry.put_model(database, model_id)
        sample_registry.put_version(database, f"{model_id}@1", Role.PRIMARY)
    sample_registry.put_model(database, "m", entrypoint=f"tests.cycle.test_inline:{name}")
    sample_registry.put_version(database, "m@1", Role.PRIMARY)
    settings = replace(SETTINGS, inline_timeout_s=1, allowed_prefixes=("tests",))
    began = time.monotonic()
    reports = run(database, settings)
    assert (reports["a@1"].outcome, reports["z@1"].outcome) == (Outcome.SUCCEEDED, Outcome.SUCCEEDED)
    assert time.monotonic() - began < 10
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_models_read_through_the_connection_that_is_set(database: Any, dsn: str) -> None:
    """A shadow can then end no session of the registry's login, whatever role it takes."""
    role = f"reads_{uuid.uuid4().hex[:8]}"
    name = sql.Identifier(role)
    for text in (
        "create role {} login password 'x'",
        "grant usage on schema detection to {}",
        "grant select on all tables in schema detection to {}",
    ):
        database.execute(sql.SQL(text).format(name))
    try:
        register(database, "tests.cycle.test_inline:ReportsRights", shadows=1)
        reader_conninfo = make_conninfo(dsn, user=role, password="x")  # noqa: S106
        reports = run(database, reader_conninfo=reader_conninfo)
        assert {r.error for r in reports.values()} == {None}
        with connect(dsn) as conn:
            shadow = run_version(conn, "m@s0", reader_conninfo=reader_conninfo)
        assert shadow.error is None
        rows = database.execute(
            "select outputs from detection.detection_model_run_outputs where model_id = 'm'"
        ).fetchall()
        expected = {"id": role, "score": None, "zone": "UTC", "error": "InsufficientPrivilege"}
        assert rows == [(expected,), (expected,)]
    finally:
        database.execute(sql.SQL("drop owned by {}").format(name))
        database.execute(sql.SQL("drop role {}").format(name))


class NamesAnotherSession(BaseDetectionModel):
    """Tells the task that the session of its params is its own, and exits."""

    def run(self, ctx: ModelContext) -> ModelResult:
        (writer,) = [o for o in gc.get_objects() if isinstance(o, FrameWriter)]
        writer.send(BACKEND, dict(ctx.params))
        os._exit(1)


class ReadsNothing(BaseDetectionModel):
    """Asks the database for nothing."""

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult()


def test_a_version_ends_no_session_but_those_of_its_own_login(database: Any, dsn: str) -> None:
    """Whatever session its process says is its own: the task ends that one with the login it reads with."""
    role = f"reads_{uuid.uuid4().hex[:8]}"
    name = sql.Identifier(role)
    with connect(dsn) as victim:
        (session,) = victim.execute(
            "select jsonb_build_object('pid', pid, 'backend_start', backend_start) from pg_stat_activity"
            " where pid = pg_backend_pid()"
        ).fetchone() or ({},)
        for text in (
            "create role {} login password 'pw'",
            "grant usage on schema detection to {}",
            "grant select on all tables in schema detection to {}",
        ):
            database.execute(sql.SQL(text).format(name))
        try:
            sample_registry.put_cycle(database)
            sample_registry.put_model(database, "m", entrypoint="tests.cycle.test_inline:NamesAnotherSession")
            sample_registry.put_version(database, "m@1", Role.PRIMARY, **session)
            reports = run(database, reader_conninfo=make_conninfo(dsn, user=role, password="pw"))  # noqa: S106
            assert "exited with status 1" in str(reports["m@1"].error)
            assert victim.execute("select 1").fetchone() == (1,)
        finally:
            database.execute(sql.SQL("drop owned by {}").format(name))
            database.execute(sql.SQL("drop role {}").format(name))


def test_a_version_that_reads_nothing_opens_no_session(database: Any) -> None:
    sample_registry.put_cycle(database, input_query="")
    for model_id, model in (("m", "ReadsNothing"), ("reads", "ReportsRights")):
        sample_registry.put_model(database, model_id, entrypoint=f"tests.cycle.test_inline:{model}")
        sample_registry.put_version(database, f"{model_id}@1", Role.PRIMARY)
    behind = {"entrypoint": "tests.cycle.test_inline:ReadsNothing"}
    sample_registry.put_model(database, "behind", ("m",), **behind)
    sample_registry.put_version(database, "behind@1", Role.PRIMARY)
    reports = run(database, reader_conninfo="host=127.0.0.1 port=1 dbname=nowhere")
    assert reports["m@1"].outcome is reports["behind@1"].outcome is Outcome.SUCCEEDED
    assert "no connection to the database" in str(reports["reads@1"].error)
    assert reports["reads@1"].is_transient


def test_a_limited_session_cannot_write(dsn: str) -> None:
    with connect(dsn) as conn:
        limit_session(Database(conn, "detection"))
        with pytest.raises(Exception, match="read-only"):
            conn.execute("delete from detection.detection_model_runs")


def spool_of(*outputs: dict[str, Any]) -> Spool:
    model = ModelSpec(model_id="m", score_key="score", entity_key="id")
    return encode_outputs(io.BytesIO(), model, [({}, {"id": "a", "score": 1.0, **o}) for o in outputs])


def checked_rows(spool: Spool) -> bytes:
    return b"".join(replace(spool, is_foreign=True).chunks(b"|"))


def test_rows_that_a_child_has_encoded_are_taken() -> None:
    assert checked_rows(spool_of()) == b""
    spool = spool_of({"k": "v" * 100_000}, {"k": None}, {})
    assert checked_rows(spool) == b"".join(spool.chunks(b"|"))


@pytest.mark.parametrize(
    "more",
    [b"\x00\x0a" + b"\x00\x00\x00\x08" + bytes(8), b"\x00", (-1).to_bytes(4, "big", signed=True)],
)
def test_a_row_that_goes_on_after_its_fields_is_refused(more: bytes) -> None:
    spool = spool_of({}, {})
    content = spool.file.getvalue()  # type: ignore[attr-defined]
    mark, length, chunk = content[:16], int.from_bytes(content[16:20], "big"), content[20:]
    forged = io.BytesIO(mark + (length + len(more)).to_bytes(4, "big") + chunk + more)
    with pytest.raises(StorageError, match="are no rows"):
        checked_rows(replace(spool, file=forged))


def test_a_file_with_another_number_of_rows_is_refused() -> None:
    with pytest.raises(StorageError, match="2 encoded outputs"):
        checked_rows(replace(spool_of({}, {}), count=1))


def test_a_models_limits_come_before_the_settings() -> None:
    options = {"execution_timeout": 5, "memory_limit": 100, "disk_limit": 7, "environment": ["ACME_KEY"]}
    limited = ModelSpec(model_id="m", task_options=options)
    invalid = ModelSpec(model_id="m", task_options={"execution_timeout": "soon", "memory_limit": True})
    settings = replace(SETTINGS, inline_memory_mib=64, inline_disk_mib=3)
    mib = 2**20
    assert limits_of(settings, limited) == ProcessLimits(
        timeout_s=5, memory_bytes=100 * mib, disk_bytes=7 * mib, environment=("ACME_KEY",)
    )
    assert limits_of(settings, invalid) == ProcessLimits(
        timeout_s=20, memory_bytes=64 * mib, disk_bytes=3 * mib
    )
    assert limits_of(SETTINGS, invalid).memory_bytes is None
    assert limits_of(SETTINGS, invalid).disk_bytes == 256 * mib
