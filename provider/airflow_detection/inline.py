"""A whole plan in one task: each version in a process of its own, and one connection that writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from importlib import import_module
from typing import IO, TYPE_CHECKING, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from airflow_detection import __version__
from airflow_detection.domain import (
    Cycle,
    CycleSpec,
    Inputs,
    Mode,
    ModelSpec,
    Role,
    RunReport,
    SelectedOutputs,
    VersionSpec,
)
from airflow_detection.engine.alarm import alarm
from airflow_detection.engine.canary import Pair
from airflow_detection.engine.forked import Access, Facts, Forked, Limits
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.engine.registry import Registry
from airflow_detection.engine.run import CycleReport, DAGExecutor, summarize
from airflow_detection.engine.run_log import Telling
from airflow_detection.errors import RegistryUnavailable, StorageError
from airflow_detection.pipeline import (
    chosen,
    job_of,
    positive_option,
    read_inputs,
    reader,
    run_step,
    skipped_step,
)
from airflow_detection.planning import Conn, OpenedCycle, planned
from airflow_detection.store.connection import connect
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.pushdown import SelectLimits, selection_json, selection_of
from airflow_detection.store.reader import StoredOutputs
from airflow_detection.store.session import backend_of, end_backend, limit_session, limited_statements
from airflow_detection.store.spool import Spool, encode_outputs

if TYPE_CHECKING:
    from airflow_detection.config import Settings


log = logging.getLogger(__name__)
T = TypeVar("T")


class PostgresBase:
    """Postgres for versions that run in processes of their own.

    A version may end any session of its login. What this process does is therefore done once more, on a new
    connection, where the one that it had is lost.

    Args:
        conn: of this process, in autocommit mode; the children connect to the same database themselves.
        reading: the connection string that children connect with; that of `conn` when None.
    """

    def __init__(
        self, conn: Conn, settings: Settings, opened: OpenedCycle, reading: str | None = None
    ) -> None:
        self._given, self._conn, self._settings, self._opened = conn, conn, settings, opened
        self._conninfo = conninfo_of(conn)
        self._reading = reading or self._conninfo
        self.store = PostgresStore(conn, conn, settings.schema, code_version=__version__)

    def again(self, call: Callable[[Conn], T]) -> T:
        """Call with the connection; once more with a new one where it is lost."""
        try:
            return call(self._conn)
        except (RegistryUnavailable, psycopg.OperationalError):
            if not self._conn.closed:
                raise
        log.warning("the connection to the registry was lost: opening another one")
        self._conn = connect(self._conninfo)
        self.store.use(self._conn)
        return call(self._conn)

    def close(self) -> None:
        """Close a connection that was opened in place of the one given."""
        if self._conn is not self._given:
            self._conn.close()

    def _timeout_s(self, limits: Limits) -> float:
        """The longest that one statement of a version may take."""
        return min(limits.timeout_s, self._settings.statement_timeout_s or limits.timeout_s)

    @contextmanager
    def access(self, limits: Limits) -> Iterator[Access]:
        """In the child: a connection that only reads."""
        settings, schema = self._settings, self._settings.schema
        timeout_s = self._timeout_s(limits)
        conn = connect(self._reading)
        backend = backend_of(conn, schema)
        limit_session(conn, schema, timeout_s=timeout_s, role=settings.reader_role)
        yield Access(
            upstream=lambda version, cycle: StoredOutputs(conn, schema, cycle, version),
            database=reader(conn, settings, self._opened),
            backend=backend,
        )
        with suppress(psycopg.Error):
            conn.close()

    def spool(self, file: IO[bytes], model: ModelSpec, outputs: Iterable[Pair]) -> Facts:
        """In the child: encode the outputs into the file; of a SQL model, tell the statement."""
        if isinstance(outputs, SelectedOutputs):
            return {"count": 0, "selection": selection_json(outputs)}
        spool = encode_outputs(file, model, outputs)
        return {"count": spool.count, "digest": spool.digest, "score_counts": dict(spool.score_counts)}

    def save(
        self,
        file: IO[bytes],
        facts: Facts,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """Store what a child has encoded, or let the database select it.

        Raises:
            StorageError: the file or the facts are not what the child should have left.
        """
        if "selection" in facts:
            return self._select(selection_of(facts["selection"]), model, cycle, report, metrics)
        spool = _spool_of(file, facts)
        if spool.count != report.output_count:
            raise StorageError(f"{spool.count} encoded outputs were found, not {report.output_count}")
        self.again(lambda _: self.store.save_spool(model, report.version, cycle, spool, report, metrics))
        return report

    def _select(
        self,
        outputs: SelectedOutputs,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """Let the database select and store, on a connection that no other version depends on.

        The child has ended, so it holds none now. A statement may do to its session what it likes.
        """

        def finish(count: int) -> tuple[RunReport, Mapping[str, float]]:
            return replace(report, output_count=count), {**metrics, "output_count": float(count)}

        limits = SelectLimits(
            timeout_s=self._timeout_s(limits_of(self._settings, model)), role=self._settings.reader_role
        )
        with connect(self._conninfo) as conn:
            store = PostgresStore(
                conn,
                conn,
                self._settings.schema,
                code_version=__version__,
                select_limits=limits,
                attempt=self.store.attempt,
            )
            return store.save(model, report.version, cycle, outputs, finish)

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Store the manifest of a failure."""
        self.again(lambda _: self.store.save_failure(model, version, cycle, report))

    def end(self, backend: Facts) -> None:
        """End the session of a child that was killed: its server process may still be at work."""
        pid, began = int(backend["pid"]), str(backend["backend_start"])
        self.again(lambda conn: end_backend(conn, self._settings.schema, pid, began))


def conninfo_of(conn: Conn) -> str:
    """The connection string that opens another connection like this one."""
    return make_conninfo(**conn.info.get_parameters(), password=conn.info.password or None)


def _spool_of(file: IO[bytes], facts: Facts) -> Spool:
    count, digest, scores = facts.get("count"), facts.get("digest"), facts.get("score_counts")
    if (
        not isinstance(count, int)
        or not isinstance(digest, str)
        or not isinstance(scores, dict)
        or not all(isinstance(n, int) for n in scores.values())
    ):
        raise StorageError("the facts of the encoded outputs are not what they should be")
    return Spool(file=file, count=count, digest=digest, score_counts=scores, is_foreign=True)


def limits_of(settings: Settings, model: ModelSpec) -> Limits:
    """What a model's versions may take: its task options, else the settings."""
    mib = positive_option(model, "memory_limit") or settings.inline_memory_mib
    return Limits(
        timeout_s=positive_option(model, "execution_timeout") or settings.inline_timeout_s,
        memory_bytes=None if mib is None else round(mib * 2**20),
    )


def run_inline(
    conn: Conn,
    settings: Settings,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    concurrent_shadows: bool = False,
    telling: Telling | None = None,
    reading: str | None = None,
) -> CycleReport:
    """Run the whole plan of a cycle, one process for each version; this one holds one connection.

    Args:
        telling: makes another logging system's lines carry the facts of each run.
        reading: the connection string for what models read; that of `conn` when None.

    Raises:
        PlanError: unknown cycle, or `override` without a recorded plan.
        TerminalModelError, RegistryUnavailable: the input query failed.
    """
    spec, opened = planned(conn, settings, cycle_id, started_at, mode=mode)
    plan = opened.plan
    if mode is Mode.OVERRIDE:  # replays read stored champions, which do not run again
        reports = tuple(run_steps(conn, settings, spec, opened, opened.steps, telling, reading))
        return CycleReport(reports=reports, summary=summarize(plan, reports))
    inputs = _inputs(conn, settings, spec, opened)
    known = Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes)
    _import(settings.inline_preload)
    _prepare(known, plan, settings.inline_timeout_s)
    with closing(PostgresBase(conn, settings, opened, reading)) as base:
        return DAGExecutor(
            plan,
            instantiate=known.instantiate,
            store=base.store,
            inputs=inputs,
            concurrent_shadows=concurrent_shadows,
            runner=Forked(base, lambda model: limits_of(settings, model), telling),
        ).run(opened.cycle)


def _import(names: Iterable[str]) -> None:
    """Import once what many processes would import each; what is not installed is left out."""
    for name in names:
        with suppress(ImportError):
            import_module(name)


def _prepare(known: Registry, plan: ExecutionPlan, timeout_s: float) -> None:
    """Load once what the champions' classes share; a class that cannot is left to fail in its own run."""

    def ring() -> None:
        raise TimeoutError(f"it had not ended after {timeout_s:g} s")

    for champion in plan.primaries.values():
        try:
            with alarm(timeout_s, ring):
                known.model_class(champion).prepare()
        except (Exception, SystemExit):
            log.warning("%s could not be prepared", champion.label, exc_info=True)


def run_steps(
    conn: Conn,
    settings: Settings,
    spec: CycleSpec,
    opened: OpenedCycle,
    steps: Sequence[VersionSpec],
    telling: Telling | None = None,
    reading: str | None = None,
) -> list[RunReport]:
    """Run some steps of a plan one after the other, whatever becomes of each; the inputs are read once."""
    reports = []
    if len(steps) > 1:
        _import(settings.inline_preload)
    with closing(PostgresBase(conn, settings, opened, reading)) as base:
        runner = Forked(base, lambda model: limits_of(settings, model), telling)
        inputs = cache(lambda: base.again(lambda conn: _inputs(conn, settings, spec, opened)))
        for step in steps:
            report = base.again(partial(skipped_step, settings=settings, opened=opened, step=step))
            if report is None:
                inputs()  # read here, once, where every child will find it
                (report,) = runner.run([job_of(settings, opened, step, inputs)], 1)
            reports.append(report)
    return reports


def run_task(
    conn: Conn,
    reader_conn: Callable[[], Conn],
    settings: Settings,
    cycle_id: str | None,
    started_at: datetime,
    *,
    model_id: str,
    version: str | None,
    mode: Mode,
    telling: Telling | None = None,
    reading: Callable[[], str | None] = lambda: None,
) -> RunReport:
    """Run one version, as a task does: a champion in this process, any other in one of its own.

    A shadow can then hang, exit, take memory or leave processes behind as it likes: what it may is bounded,
    and the task goes on. See `pipeline.run_one` for the arguments and what is raised.

    Args:
        reading: gives the connection string for what a shadow reads.
    """
    spec, opened, step = chosen(
        conn, settings, cycle_id, started_at, model_id=model_id, version=version, mode=mode
    )
    if step.role is Role.PRIMARY and not step.is_replay:
        return run_step(conn, reader_conn, settings, spec, opened, step, telling)
    (report,) = run_steps(conn, settings, spec, opened, [step], telling, reading())
    return report


def _inputs(conn: Conn, settings: Settings, spec: CycleSpec, opened: OpenedCycle) -> Inputs:
    seconds = settings.statement_timeout_s or settings.inline_timeout_s
    with limited_statements(conn, settings.schema, seconds):
        return read_inputs(reader(conn, settings, opened), spec)
