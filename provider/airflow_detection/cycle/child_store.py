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
from airflow_detection.engine.isolation.runner import Access, Facts, ProcessLimits
from airflow_detection.errors import RegistryUnavailable, StorageError
from airflow_detection.store.connection import connect, conninfo_of
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.pushdown import SelectLimits, selection_json, selection_of
from airflow_detection.store.reader import StoredOutputs
from airflow_detection.store.session import backend_of, end_backend, limit_session
from airflow_detection.store.spool import Spool, encode_outputs

log = logging.getLogger(__name__)
T = TypeVar("T")


class PostgresChildStore:
    """Postgres for versions that run in processes of their own.

    A version may end any session of its login. What this process does is therefore done once more, on a new
    connection, where the one that it had is lost.

    Args:
        db: of this process, in autocommit mode; the children connect to the same database themselves.
        reader_conninfo: the connection string that children connect with; that of `db` when None.
    """

    def __init__(
        self, db: Database, settings: Settings, opened: OpenedCycle, reader_conninfo: str | None = None
    ) -> None:
        self._given, self._db, self._settings, self._opened = db.conn, db, settings, opened
        self._conninfo = conninfo_of(db.conn)
        self._reader_conninfo = reader_conninfo or self._conninfo
        self.store = PostgresStore(db.conn, db.conn, db.schema, code_version=__version__)

    def with_reconnect(self, call: Callable[[Database], T]) -> T:
        """Call with the database; once more, on a new connection, where the connection is lost."""
        try:
            return call(self._db)
        except (RegistryUnavailable, psycopg.OperationalError):
            if not self._db.conn.closed:
                raise
        log.warning("the connection to the registry was lost: opening another one")
        self._db = replace(self._db, conn=connect(self._conninfo))
        self.store.use(self._db.conn)
        return call(self._db)

    def close(self) -> None:
        """Close a connection that was opened in place of the one given."""
        if self._db.conn is not self._given:
            self._db.conn.close()

    def _timeout_s(self, limits: ProcessLimits) -> float:
        """The longest that one statement of a version may take."""
        return min(limits.timeout_s, self._settings.statement_timeout_s or limits.timeout_s)

    @contextmanager
    def access(self, limits: ProcessLimits) -> Iterator[Access]:
        """In the child: a connection that only reads."""
        db = Database(connect(self._reader_conninfo), self._db.schema)
        backend = backend_of(db)
        limit_session(db, timeout_s=self._timeout_s(limits), role=self._settings.reader_role)
        yield Access(
            upstream=lambda version, cycle: StoredOutputs(db, cycle, version),
            database=reader(db, self._opened),
            backend=backend,
        )
        with suppress(psycopg.Error):
            db.conn.close()

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
        self.with_reconnect(
            lambda _: self.store.save_spool(model, report.version, cycle, spool, report, metrics)
        )
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
                self._db.schema,
                code_version=__version__,
                select_limits=limits,
                attempt=self.store.attempt,
            )
            return store.save(model, report.version, cycle, outputs, finish)

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Store the manifest of a failure."""
        self.with_reconnect(lambda _: self.store.save_failure(model, version, cycle, report))

    def end(self, backend: Facts) -> None:
        """End the session of a child that was killed: its server process may still be at work."""
        pid, began = int(backend["pid"]), str(backend["backend_start"])
        self.with_reconnect(lambda db: end_backend(db, pid, began))


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


def limits_of(settings: Settings, model: ModelSpec) -> ProcessLimits:
    """What a model's versions may take: its task options, else the settings."""
    mib = positive_option(model, "memory_limit") or settings.inline_memory_mib
    return ProcessLimits(
        timeout_s=positive_option(model, "execution_timeout") or settings.inline_timeout_s,
        memory_bytes=None if mib is None else round(mib * 2**20),
    )
