"""Postgres for versions that run in processes of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import IO, TypeVar

import psycopg

from airflow_detection import __version__
from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.versions import (
    positive_option,
    reader,
)
from airflow_detection.domain.inputs import SelectedOutputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Cycle, ModelSpec, VersionSpec
from airflow_detection.engine.canary import Pair
from airflow_detection.engine.isolation.runner import Access, Facts, Limits
from airflow_detection.errors import RegistryUnavailable, StorageError
from airflow_detection.store.connection import Connection, connect, conninfo_of
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.pushdown import SelectLimits, selection_json, selection_of
from airflow_detection.store.reader import StoredOutputs
from airflow_detection.store.session import backend_of, end_backend, limit_session
from airflow_detection.store.spool import Spool, encode_outputs

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
        self, conn: Connection, settings: Settings, opened: OpenedCycle, reading: str | None = None
    ) -> None:
        self._given, self._conn, self._settings, self._opened = conn, conn, settings, opened
        self._conninfo = conninfo_of(conn)
        self._reading = reading or self._conninfo
        self.store = PostgresStore(conn, conn, settings.schema, code_version=__version__)

    def again(self, call: Callable[[Connection], T]) -> T:
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
        backend = backend_of(Database(conn, schema))
        limit_session(Database(conn, schema), timeout_s=timeout_s, role=settings.reader_role)
        yield Access(
            upstream=lambda version, cycle: StoredOutputs(Database(conn, schema), cycle, version),
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
        self.again(lambda conn: end_backend(Database(conn, self._settings.schema), pid, began))


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
