"""A model that is one SELECT: stored by the database, with the manifest of any other, and unable to write."""

# ruff: noqa: S608 - statements that are hostile on purpose

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import sample_registry

from airflow_detection.cycle.inline import run_inline
from airflow_detection.cycle.planning import open_cycle
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.scores import EventRule
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.engine.sql_model import SqlDetectionModel
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

STORED = """
select entity_id, score, input_ref, outputs, role::text
  from detection.detection_model_run_outputs where model_id = 'loud' order by entity_id::int
"""
RUN = """
select outcome::text, output_count, score_counts, output_digest, duration_ms > 0
  from detection.detection_model_runs where model_id = 'loud'
"""


class Loud(SqlDetectionModel):
    """Numbers above a param, and how much later than the window's start."""

    statement = """
        select n as entity, case when n % 5 > 0 then n / 10.0 end as score,
               jsonb_build_object('n', n, 'hours', extract(epoch from :window_end - :window_start) / 3600)
                   as outputs
          from generate_series(1, 9) n where n > :above
    """


class SqlFromParams(SqlDetectionModel):
    """Model whose statement is that of its params."""

    score_range = (-1e12, 1e12)

    def run(self, ctx: Any) -> Any:
        self.statement = ctx.params["sql"]  # type: ignore[misc]
        return super().run(ctx)


def register(conn: Connection, name: str, **params: Any) -> None:
    sample_registry.put_cycle(conn)
    sample_registry.put_model(
        conn, "loud", entrypoint=f"tests.store.test_sql_model:{name}", score_key="score", entity_key="entity"
    )
    sample_registry.put_version(conn, "loud@1", Role.PRIMARY, **params)


SETTINGS = Settings(allowed_prefixes=("tests",), statement_timeout_s=1)
both = pytest.mark.parametrize("is_inline", [False, True], ids=["task", "inline"])


def run(conn: Connection, dsn: str, settings: Settings = SETTINGS, *, is_inline: bool = False) -> RunReport:
    open_cycle(Database(conn, settings.schema), "fleet", sample_registry.AT, mode=Mode.AS_OF)
    if is_inline:
        return run_inline(
            Database(conn, settings.schema), settings, "fleet", sample_registry.AT, mode=Mode.AS_OF
        ).reports[0]
    request = VersionRequest(cycle_id="fleet", started_at=sample_registry.AT, model_id="loud")
    return run_task(Database(conn, settings.schema), settings, request)


@both
def test_a_select_is_stored_with_the_manifest_of_any_model(
    database: Connection, dsn: str, *, is_inline: bool
) -> None:
    """No digest of the outputs: no row came through a process of ours."""
    register(database, "Loud", above=3)
    report = run(database, dsn, is_inline=is_inline)
    assert (report.outcome, report.output_count) == (Outcome.SUCCEEDED, 6), report.error
    stored = database.execute(STORED).fetchall()
    assert stored[0] == ("4", 0.4, {"entity": "4"}, {"n": 4, "hours": 1, "score": 0.4}, "PRIMARY")
    assert stored[1][1] is None
    counts = {"scored": 5, "null": 1, "gt0": 5, "medium": 5, "high": 4, "critical": 2, "flagged": 4}
    assert database.execute(RUN).fetchall() == [("SUCCEEDED", 6, counts, None, True)]
    assert database.execute("select count(*) from detection.detection_events").fetchone() == (4,)
    metrics = "select metric_key, metric_value from detection.detection_model_metrics where metric_key = %s"
    assert database.execute(metrics, ("output_count",)).fetchall() == [("output_count", 6)]
    run(database, dsn, is_inline=not is_inline)
    assert database.execute(STORED).fetchall() == stored
    assert database.execute("select to_regclass('pg_temp.detection_selected_outputs')").fetchone() == (None,)


def test_scores_that_equal_an_edge_are_not_above_it(database: Connection, dsn: str) -> None:
    scores = [-3.5, -0.0, 0.0, 0.3, 0.30000000000000004, 0.5, 0.7, 0.75, 1e9]
    values = ", ".join(f"({number}, {score!r}::float8)" for number, score in enumerate(scores))
    text = (
        f"select n as entity, score, '{{}}'::jsonb as outputs from (values {values}, (99, null)) v (n, score)"
    )
    register(database, "SqlFromParams", sql=text)
    assert run(database, dsn).outcome is Outcome.SUCCEEDED
    ((_, _, counts, *_),) = database.execute(RUN).fetchall()
    above = {name: sum(score > edge for score in scores) for name, edge in EventRule().edges.items()}
    assert counts == {"scored": len(scores), "null": 1, **above}


REST = "1 as score, '{}'::jsonb as outputs"
HOSTILE = {
    "insert": "insert into detection.seen values (1) returning 1 as entity",
    "with": f"with x as (insert into detection.seen values (1) returning 1) select 1 as entity, {REST}",
    "two": f"select 1 as entity, {REST}) q; drop table detection.seen; --",
    "function": f"select detection.sly() as entity, {REST}",
    "sequence": f"select nextval('detection.detection_attempts') as entity, {REST}",
    "read-write": f"select set_config('transaction_read_only', 'off', true) as entity, {REST}",
    "commit": "commit",
    "lock": f"select n as entity, {REST} from detection.seen for update",
    "nan": "select 1 as entity, 'nan'::float8 as score, '{}'::jsonb as outputs",
    "array": "select 1 as entity, 1 as score, '[]'::jsonb as outputs",
    "no score": "select 1 as entity, '{}'::jsonb as outputs",
    "param": "select 1 as entity, :unknown as score, '{}'::jsonb as outputs",
    "slow": f"select 1 as entity, {REST} from pg_sleep(30)",
}


@both
@pytest.mark.parametrize("name", HOSTILE)
def test_a_select_that_would_write_or_gives_no_outputs_fails_and_changes_nothing(
    database: Connection, dsn: str, name: str, *, is_inline: bool
) -> None:
    database.execute("create table detection.seen (n int)")
    database.execute("insert into detection.seen values (7)")
    database.execute(
        "create function detection.sly() returns int language plpgsql as "
        "$$ begin insert into detection.seen values (2); return 1; end $$"
    )
    register(database, "SqlFromParams", sql=HOSTILE[name])
    report = run(database, dsn, is_inline=is_inline)
    assert report.outcome is Outcome.FAILED
    assert report.error
    assert report.error.startswith("RegistryUnavailable" if name == "slow" else "TerminalModelError")
    assert database.execute("select n from detection.seen").fetchall() == [(7,)]
    assert database.execute(STORED).fetchall() == []


def test_params_may_be_lists_and_objects(database: Connection, dsn: str) -> None:
    sql = "select n as entity, :at::jsonb -> n::text as score, '{}'::jsonb as outputs from unnest(:ns) n"
    register(database, "SqlFromParams", sql=sql, ns=[2, 3], at={"3": 0.5})
    for is_inline in (False, True):
        report = run(database, dsn, is_inline=is_inline)
        assert report.outcome is Outcome.SUCCEEDED, report.error
        stored = [(entity, score) for entity, score, *_ in database.execute(STORED).fetchall()]
        assert stored == [("2", None), ("3", 0.5)]


@both
def test_a_select_has_the_rights_of_the_role_that_is_set(
    database: Connection, dsn: str, *, is_inline: bool
) -> None:
    role = f"reads_{uuid.uuid4().hex[:8]}"
    database.execute("create table detection.secret as select 1 as n")
    database.execute(f"create role {role}")
    try:
        database.execute(f"grant usage on schema detection to {role}")
        settings = replace(SETTINGS, reader_role=role)
        register(database, "SqlFromParams", sql=f"select n as entity, {REST} from detection.secret")
        report = run(database, dsn, settings, is_inline=is_inline)
        assert "permission denied for table secret" in str(report.error)
        database.execute(f"grant select on detection.secret to {role}")
        report = run(database, dsn, settings, is_inline=is_inline)
        assert report.outcome is Outcome.SUCCEEDED, report.error
        assert len(database.execute(STORED).fetchall()) == 1
    finally:
        database.execute(f"drop owned by {role}")
        database.execute(f"drop role {role}")


@pytest.mark.parametrize(
    "spoils",
    [
        "pg_terminate_backend(pg_backend_pid())",
        "set_config('statement_timeout', '1', false)",
        "set_config('search_path', 'nowhere', false)",
        "set_config('TimeZone', 'Asia/Tokyo', false)",
        "pg_advisory_lock(hashtextextended('detection_events:loud', 0))",
    ],
)
def test_a_shadow_that_spoils_its_session_changes_nothing_for_the_others(
    database: Connection, dsn: str, spoils: str
) -> None:
    """Inline, where versions share a task: each SELECT has a connection of its own."""
    register(database, "Loud", above=3)
    sql = f"select ({spoils} is null)::int as entity, {REST}"
    entrypoint = "tests.store.test_sql_model:SqlFromParams"
    sample_registry.put_version(database, "loud@2", Role.SHADOW, entrypoint=entrypoint, sql=sql)
    sample_registry.put_version(database, "loud@3", Role.SHADOW, above=5)
    open_cycle(Database(database, SETTINGS.schema), "fleet", sample_registry.AT, mode=Mode.AS_OF)
    reports = run_inline(
        Database(database, SETTINGS.schema), SETTINGS, "fleet", sample_registry.AT, mode=Mode.AS_OF
    ).reports
    results = {r.version.version: (r.outcome, r.output_count) for r in reports}
    assert (results["1"], results["3"]) == ((Outcome.SUCCEEDED, 6), (Outcome.SUCCEEDED, 4))
    left = database.execute("show TimeZone").fetchone(), database.execute("show statement_timeout").fetchone()
    assert left == (("UTC",), ("0",))


def test_a_select_knows_when_its_cycle_was_opened(database: Connection, dsn: str) -> None:
    sql = "select 1 as entity, extract(epoch from :opened_at) as score, '{}'::jsonb as outputs"
    register(database, "SqlFromParams", sql=sql)
    report = run(database, dsn)
    assert report.outcome is Outcome.SUCCEEDED, report.error
    opened = "select extract(epoch from opened_at)::float8 from detection.detection_cycle_runs"
    ((_, score, *_),) = database.execute(STORED).fetchall()
    assert database.execute(opened).fetchall() == [(score,)]


def test_the_example_of_the_documentation_runs(database: Connection, dsn: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "sql_models.md"
    example = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    namespace: dict[str, Any] = {"SqlDetectionModel": SqlDetectionModel}
    exec(example, namespace)  # noqa: S102 - our own documentation
    database.execute(
        "insert into detection.ais_positions (mmsi, observed_at, lat, lon) "
        "values (211000001, %(at)s - interval '30 minutes', 54, 10), "
        "(211000001, %(at)s - interval '15 minutes', 54, 10), (211000002, %(at)s, 54, 10)",
        {"at": sample_registry.AT},
    )
    register(database, "SqlFromParams", sql=namespace["Silent"].statement, silent_s=1800)
    report = run(database, dsn)
    assert report.outcome is Outcome.SUCCEEDED, report.error
    ((entity, score, _, outputs, _),) = database.execute(STORED).fetchall()
    assert (entity, score, outputs["score"]) == ("211000001", 0.5, 0.5)
    assert outputs["last_seen"].startswith("2026-03-01T11:50:00")
