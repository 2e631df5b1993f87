"""Whatever shadows do, the PRIMARY rows are those of a run without them, byte for byte."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests import sample_registry
from tests.misbehaving_models import BEHAVIOURS, SLOW_BEHAVIOURS, TASK_BEHAVIOURS
from tests.sample_registry import AT

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database

SETTINGS = Settings(
    allowed_prefixes=("tests.misbehaving_models",), inline_timeout_s=30, inline_memory_mib=256
)
LIMIT_S = 2.0
INPUTS = """
select n, n::text as id, jsonb_build_object('list', jsonb_build_array(n, n + 1), 'k', n) as deep
from generate_series(1, 5) as n order by n
"""
SHARDS = 2
QUERIES = {
    "outputs": """
        select model_id, version_id, role::text, is_replay, cycle_started_at, entity_id, score,
               input_ref::text, outputs::text
        from detection.detection_model_run_outputs where role = 'PRIMARY'""",
    "manifests": """
        select cycle_id, cycle_started_at, model_id, version_id, role::text, outcome::text, input_count,
               input_digest, output_count, output_digest, score_counts::text, params_digest,
               canaries::text, features::text, error
        from detection.detection_model_runs where role = 'PRIMARY'""",
    "metrics": """
        select model_id, version_id, role::text, metric_key, metric_value, cycle_started_at
        from detection.detection_model_metrics
        where role = 'PRIMARY' and metric_key <> 'cycle_duration_ms'""",
}
Run = Callable[[str], None]


@dataclass(frozen=True)
class Planned:
    """`reads[n]` are the models that model n reads; `shadows[n]` the behaviours of its shadows."""

    reads: tuple[tuple[int, ...], ...]
    shadows: tuple[tuple[str, ...], ...]


MAY_PASS = frozenset({
    *("mutates", "uses_private_connections", "writes", "begins", "sets", "fails_in_sql", "forges"),
    *("leaves_a_daemon", "logs_nonsense", "kills_sessions", "locks"),
})  # fmt: skip
"""Behaviours after which a shadow may succeed: their attempts have no effect."""


@st.composite
def plans(draw: st.DrawFn, behaviours: frozenset[str]) -> Planned:
    size = draw(st.integers(1, 5))
    reads = tuple(tuple(sorted(draw(st.sets(st.integers(0, n - 1))))) if n else () for n in range(size))
    quick = st.sampled_from(sorted(behaviours - SLOW_BEHAVIOURS))
    shadows = [draw(st.lists(quick, max_size=4)) for _ in range(size)]
    if draw(st.booleans()):  # at most one that runs into its time limit
        shadows[draw(st.integers(0, size - 1))] = [draw(st.sampled_from(sorted(SLOW_BEHAVIOURS)))]
    return Planned(reads, tuple(tuple(s) for s in shadows))


@contextmanager
def clone(server: str, template: str) -> Iterator[str]:
    name = f"detection_isolation_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield make_conninfo(server, dbname=name)
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def register(conn: Any, plan: Planned, *, with_shadows: bool, shards: int = 1) -> None:
    """Champions first, so that they have the same ids with and without shadows."""
    name = "MisbehavingInShards" if shards > 1 else "MisbehavingModel"
    sample_registry.put_cycle(conn, input_query=INPUTS)
    for n, reads in enumerate(plan.reads):
        options: dict[str, Any] = {"shards": shards} if shards > 1 else {}
        if SLOW_BEHAVIOURS & set(plan.shadows[n]):
            options["execution_timeout"] = LIMIT_S
        fields = {"entrypoint": f"tests.misbehaving_models:{name}", "task_options": options}
        sample_registry.put_model(conn, f"m{n}", tuple(f"m{r}" for r in reads), **fields)
        sample_registry.put_version(conn, f"m{n}@1", Role.PRIMARY, weights=[{"w": n + 1}, {"w": 0.1}])
    for n, behaviours in enumerate(plan.shadows if with_shadows else ()):
        for number, behaviour in enumerate(behaviours):
            role = Role.CHALLENGER if number == 0 else Role.SHADOW
            sample_registry.put_version(
                conn, f"m{n}@s{number}", role, behaviour=behaviour, weights=[{"w": 1}]
            )


def primary_rows(dsn: str) -> dict[str, list[Any]]:
    with connect(dsn) as conn:
        return {
            name: sorted(map(repr, conn.execute(query.encode()).fetchall()))
            for name, query in QUERIES.items()
        }


def run_tasks(dsn: str) -> None:
    """Run each version as Airflow does: in a process that is ended at its execution timeout."""
    with connect(dsn) as conn:
        opened = planning.open_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=Mode.AS_OF)
    for step in opened.steps:
        model = opened.plan.models[step.model_id]
        limit_s = model.task_options.get("execution_timeout", 30)
        for shard in (*range(model.shards), None) if model.shards > 1 else (None,):
            run_in_process(partial(run_task_and_exit, dsn, step, shard), limit_s)
    with connect(dsn) as conn:
        closing.close_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=Mode.AS_OF, task_states={})


def run_in_process(run: Callable[[], None], limit_s: float) -> None:
    """Run in a process that is ended after `limit_s`."""
    pid = os.fork()
    if pid == 0:
        run()
    end_at = time.monotonic() + limit_s
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end_at:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.005)


def run_task_and_exit(dsn: str, step: Any, shard: int | None) -> None:
    """Run one version, or one shard of it, as an operator does, and end this process."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        with connect(dsn) as conn:
            version = None if step.role is Role.PRIMARY else step.version
            request = VersionRequest(model_id=step.model_id, version=version, cycle_id="fleet", started_at=AT)
            run_task(Database(conn, SETTINGS.schema), SETTINGS, request, shard=shard)
        status = 0
    finally:
        os._exit(status)


def run_inline(dsn: str, *, concurrent: bool = False) -> None:
    with connect(dsn) as conn:
        planning.open_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=Mode.AS_OF)
        inline.run_inline(
            Database(conn, SETTINGS.schema),
            SETTINGS,
            "fleet",
            AT,
            mode=Mode.AS_OF,
            concurrent_shadows=concurrent,
        )
    with connect(dsn) as conn:
        closing.close_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=Mode.AS_OF, task_states={})


def run_concurrent(dsn: str) -> None:
    run_inline(dsn, concurrent=True)


def check(server: str, template: str, plan: Planned, how: str) -> None:
    run, _ = RUNS[how]
    shards, outputs = (SHARDS, 5) if how == "sharded" else (1, 6)
    rows = []
    for with_shadows in (True, False):
        with clone(server, template) as dsn:
            with connect(dsn) as conn:
                register(conn, plan, with_shadows=with_shadows, shards=shards)
            run(dsn)
            rows.append(primary_rows(dsn))
            if with_shadows:
                check_shadow_outcomes(dsn, plan)
    assert rows[0] == rows[1]
    assert len(rows[0]["manifests"]) == len(plan.reads)
    assert all("SUCCEEDED" in manifest for manifest in rows[0]["manifests"])
    assert len(rows[0]["outputs"]) == outputs * len(plan.reads)


def check_shadow_outcomes(dsn: str, plan: Planned) -> None:
    """Check that every shadow has a manifest, and that one that must fail has failed."""
    with connect(dsn) as conn:
        outcomes = sample_registry.outcomes(conn)
    for n, behaviours in enumerate(plan.shadows):
        for number, behaviour in enumerate(behaviours):
            outcome = outcomes[f"m{n}@s{number}"]
            assert outcome != "SUCCEEDED" or behaviour in MAY_PASS, (behaviour, outcome)


RUNS: dict[str, tuple[Run, frozenset[str]]] = {
    "task": (run_tasks, TASK_BEHAVIOURS),
    "sharded": (run_tasks, TASK_BEHAVIOURS),
    "inline": (run_inline, frozenset(BEHAVIOURS)),
    "concurrent": (run_concurrent, frozenset(BEHAVIOURS)),
}
QUICK = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
LONG = settings(
    QUICK, max_examples=100, derandomize=False, phases=(Phase.explicit, Phase.generate, Phase.shrink)
)


def every_behaviour(behaviours: frozenset[str]) -> Planned:
    """Return a chain of models whose shadows have each behaviour once."""
    quick = sorted(behaviours - SLOW_BEHAVIOURS)
    groups = [tuple(quick[i : i + 4]) for i in range(0, len(quick), 4)] + [tuple(sorted(SLOW_BEHAVIOURS))]
    return Planned(tuple((n - 1,) if n else () for n in range(len(groups))), tuple(groups))


@pytest.mark.parametrize("how", RUNS)
def test_no_behaviour_of_a_shadow_changes_a_primary_row(server: str, template: str, how: str) -> None:
    check(server, template, every_behaviour(RUNS[how][1]), how)


@pytest.mark.parametrize("how", [how for how in RUNS if how != "sharded"])  # below, with a hundred plans
def test_no_shadow_of_any_plan_changes_a_primary_row(server: str, template: str, how: str) -> None:
    @QUICK
    @given(plans(RUNS[how][1]))
    def holds(plan: Planned) -> None:
        check(server, template, plan, how)

    holds()


@pytest.mark.long
@pytest.mark.parametrize("how", RUNS)
def test_no_shadow_of_a_hundred_plans_changes_a_primary_row(server: str, template: str, how: str) -> None:
    @LONG
    @given(plans(RUNS[how][1]))
    def holds(plan: Planned) -> None:
        check(server, template, plan, how)

    holds()
