"""Model that misbehaves in the way that `params.behaviour` names."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import math
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import psycopg

from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult

Behaviour = Callable[[ModelContext], Any]
FORGED = """
insert into detection.detection_model_run_outputs
    (cycle_duration_ms, cycle_started_at, model_id, version_id, role, is_replay, entity_id, score,
     input_ref, outputs)
select 1, cycle_started_at, model_id, version_id, 'PRIMARY', is_replay, 'forged', 9, '{}', '{}'
from detection.detection_model_runs where role = 'PRIMARY'
"""


class MisbehavingModel(BaseDetectionModel):
    """Misbehaves as `params.behaviour` says; without it, returns outputs of everything in its context."""

    score_range = (-1e12, 1e12)

    def run(self, ctx: ModelContext) -> ModelResult:
        behaviour = ctx.params.get("behaviour")
        return self.well_behaved(ctx) if behaviour is None else BEHAVIOURS[behaviour](ctx)  # type: ignore[no-any-return]

    def well_behaved(self, ctx: ModelContext) -> ModelResult:
        return well_behaved(ctx)


class MisbehavingInShards(MisbehavingModel):
    """Misbehaves in the shard of entity 3; in the others, says of each entity all that is in its context."""

    shard_by = "entity"

    def run(self, ctx: ModelContext) -> ModelResult:
        return super().run(ctx) if "3" in ctx.inputs["id"] else self.well_behaved(ctx)

    def well_behaved(self, ctx: ModelContext) -> ModelResult:
        *rows, (_, about_all) = well_behaved(ctx).outputs_per_input
        seen = hashlib.sha256(repr(about_all).encode()).hexdigest()
        return ModelResult(outputs_per_input=[(ref, {**output, "seen": seen}) for ref, output in rows])


def well_behaved(ctx: ModelContext) -> ModelResult:
    """Return outputs of everything in the context: a change of it by another version would show."""
    shared = {m: [[dict(ref), dict(out)] for ref, out in upstream] for m, upstream in ctx.shared.items()}
    columns = {m: [list(c) for c in upstream.columns()] for m, upstream in ctx.shared.items()}
    weights = [w["w"] for w in ctx.params.get("weights", ())]
    rows = [
        ({"n": n}, {"id": str(n), "score": n * sum(weights) / 7, "deep": deep, "seen": len(str(shared))})
        for n, deep in zip(ctx.inputs["n"], ctx.inputs["deep"], strict=True)
    ]
    rows.append(({"n": -1}, {"id": "all", "score": None, "seen": repr(shared), "columns": columns}))
    return ModelResult(outputs_per_input=rows, metrics={"seen": len(shared), "weights": sum(weights)})


def raises(ctx: ModelContext) -> ModelResult:
    raise RuntimeError("out of luck\0\ud800")


def hangs(ctx: ModelContext) -> ModelResult:
    time.sleep(600)
    return ModelResult()


def hangs_and_ignores_signals(ctx: ModelContext) -> ModelResult:
    """Go on whatever signal comes and whatever is raised."""
    end_at = time.monotonic() + 600
    while time.monotonic() < end_at:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
    return ModelResult()


def hangs_in_sql(ctx: ModelContext) -> ModelResult:
    assert ctx.database
    ctx.database.query("select pg_sleep(600)")
    return ModelResult()


def sys_exit(ctx: ModelContext) -> ModelResult:
    sys.exit(0)


def os_exit(ctx: ModelContext) -> ModelResult:
    os._exit(0)


def kills_itself(ctx: ModelContext) -> ModelResult:
    os.kill(os.getpid(), signal.SIGKILL)
    return ModelResult()


def exhausts_memory(ctx: ModelContext) -> ModelResult:
    chunks = []
    for _ in range(6_000):  # 600 MB at most, where no limit is set
        chunks.append(bytes(100_000))  # noqa: PERF401
    raise MemoryError


def mutates(ctx: ModelContext) -> ModelResult:
    """Change the context in place: nested values, and those behind the read-only views."""
    shared = [pair for upstream in ctx.shared.values() for pair in upstream]
    attempts: list[Callable[[], Any]] = [
        lambda: ctx.params.update(weights=()),  # type: ignore[attr-defined]
        lambda: ctx.params["weights"][0].update(w=99),
        lambda: ctx.inputs.columns.clear(),  # type: ignore[attr-defined]
        lambda: ctx.inputs["deep"][0]["list"].append(99),
        lambda: ctx.inputs["deep"][0].update(k=99),
        lambda: ctx.shared.clear(),  # type: ignore[attr-defined]
        lambda: [pair[1].update(score=99) for pair in shared],  # type: ignore[attr-defined]
        lambda: object.__setattr__(ctx, "inputs", None),
        lambda: gc.get_referents(ctx.params)[0].clear(),
        lambda: [d.clear() for d in gc.get_referents(*(p[1] for p in shared)) if isinstance(d, dict)],
        lambda: [d.clear() for d in gc.get_referents(*ctx.inputs["deep"]) if isinstance(d, dict)],
    ]
    for attempt in attempts:
        with contextlib.suppress(Exception):
            attempt()
    return ModelResult(outputs_per_input=[({}, {"id": "shadow", "score": 0.5})])


def no_result(ctx: ModelContext) -> Any:
    return {"outputs_per_input": []}


def not_a_number(ctx: ModelContext) -> ModelResult:
    return ModelResult(outputs_per_input=[({}, {"id": "x", "score": math.nan})])


def wrong_pairs(ctx: ModelContext) -> ModelResult:
    return ModelResult(outputs_per_input=[({}, {"id": "x", "score": 1}), "ab"])  # type: ignore[list-item]


def half_way(ctx: ModelContext) -> ModelResult:
    def outputs() -> Any:
        for n in range(3000):
            yield {}, {"id": str(n), "score": 0.5}
        raise RuntimeError("half way")

    return ModelResult(outputs_per_input=outputs())


def runs_sql(*statements: str) -> Behaviour:
    """Return a behaviour that runs statements through `ctx.database`; one that fails stops no other."""

    def behaviour(ctx: ModelContext) -> ModelResult:
        assert ctx.database
        for statement in statements:
            with contextlib.suppress(Exception):
                ctx.database.query(statement)
        return ModelResult(outputs_per_input=[({}, {"id": "shadow", "score": 0.5})])

    return behaviour


def uses_private_connections(ctx: ModelContext) -> ModelResult:
    """Write through every connection that can be reached from the context."""
    for upstream in ctx.shared.values():
        len(upstream)  # opens its session
    objects = [ctx.database, *ctx.shared.values()]
    seen: dict[int, Any] = {}
    while objects := [o for o in gc.get_referents(*objects) if id(o) not in seen and _is_data(o)]:
        seen |= {id(o): o for o in objects}
    connections = [o for o in seen.values() if isinstance(o, psycopg.Connection)]
    assert connections
    for conn in connections:
        for statement in (FORGED, "drop table detection.detection_model_runs cascade", "begin"):
            with contextlib.suppress(psycopg.Error):
                conn.execute(statement)
    return ModelResult(outputs_per_input=[({}, {"id": "shadow", "score": 0.5})])


def _is_data(value: Any) -> bool:
    """Whether it is neither a class, nor a module, nor the names of one."""
    return not isinstance(value, (type, ModuleType)) and not (isinstance(value, dict) and "__name__" in value)


def forges(ctx: ModelContext) -> ModelResult:
    """Write rows of a champion into every open file."""
    mark = os.urandom(16)
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(fd, mark + (4).to_bytes(4, "big") + b"none")
    return ModelResult(outputs_per_input=[({}, {"id": "shadow", "score": 0.5})])


def leaves_a_daemon(ctx: ModelContext) -> ModelResult:
    """Leave a process in a session of its own, which goes on writing rows of others into every file."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            sizes = {fd: os.fstat(fd).st_size for fd in range(3, 64) if _is_file(fd)}
            while True:
                for fd, size in sizes.items():
                    os.pwrite(fd, b"\0" * 64, max(os.fstat(fd).st_size - 64, size))
        os._exit(0)
    os.wait()
    return ModelResult(outputs_per_input=[({}, {"id": str(n), "score": 0.5}) for n in range(2000)])


def _is_file(fd: int) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(os.fstat(fd).st_mode)
    return False


def logs_nonsense(ctx: ModelContext) -> ModelResult:
    """Log malformed records, and use thousands of loggers."""
    for level in (math.inf, math.nan, None, "high", [1], 2**80):
        record = logging.makeLogRecord({"name": "x" * 1000, "levelno": level, "msg": "%d", "args": ("no",)})
        for handler in logging.root.handlers:
            with contextlib.suppress(Exception):
                handler.handle(record)
    for n in range(20_000):
        logging.getLogger(f"misbehaving.{n}").error("%d", n)
    return ModelResult(outputs_per_input=[({}, {"id": "shadow", "score": 0.5})])


BEHAVIOURS: dict[str, Behaviour] = {
    "raises": raises,
    "hangs": hangs,
    "hangs_and_ignores_signals": hangs_and_ignores_signals,
    "hangs_in_sql": hangs_in_sql,
    "sys_exit": sys_exit,
    "os_exit": os_exit,
    "kills_itself": kills_itself,
    "exhausts_memory": exhausts_memory,
    "mutates": mutates,
    "no_result": no_result,
    "not_a_number": not_a_number,
    "wrong_pairs": wrong_pairs,
    "half_way": half_way,
    "uses_private_connections": uses_private_connections,
    "forges": forges,
    "leaves_a_daemon": leaves_a_daemon,
    "logs_nonsense": logs_nonsense,
    "kills_sessions": runs_sql(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    ),
    "locks": runs_sql(
        "select pg_advisory_lock(hashtextextended('detection registry detection', 0))",
        "select pg_advisory_lock(hashtextextended('detection_events:m0', 0))",
        "select pg_advisory_lock_shared(n) from generate_series(1, 100) n",
    ),
    "fails_in_sql": runs_sql("select 1/0", "select no_such_column", "selec"),
    "writes": runs_sql(
        FORGED,
        f"with x as ({FORGED} returning 1) select * from x",  # noqa: S608
        "select 1; commit; drop table detection.detection_model_runs cascade",
        "commit",
        "drop table detection.detection_model_runs cascade",
        "truncate detection.detection_model_runs",
    ),
    "begins": runs_sql(
        "begin", "begin read write", "select 1 for update", "lock table detection.detection_model_runs"
    ),
    "sets": runs_sql(
        "select set_config('transaction_read_only', 'off', false)",
        "select set_config('transaction_read_only', 'off', true)",
        "select set_config('default_transaction_read_only', 'off', false)",
        "select set_config('search_path', 'nowhere', false), set_config('TimeZone', 'Asia/Kolkata', false)",
        "select set_config('role', 'none', false)",
        FORGED,
    ),
}
"""Ways to misbehave, by name."""

SLOW_BEHAVIOURS = frozenset({"hangs", "hangs_and_ignores_signals", "hangs_in_sql"})
TASK_BEHAVIOURS = frozenset(BEHAVIOURS) - {"forges"}
"""Behaviours of a version that has a task of its own."""
