"""Storage, in Postgres, of the results of versions that run in processes of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import IO, TypeVar

import psycopg

from airflow_detection import __version__
from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.shared_inputs import shared_inputs
from airflow_detection.cycle.versions import cycle_reader, positive_option, read_inputs
from airflow_detection.domain.inputs import Inputs, SelectedOutputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Cycle, ModelSpec, VersionSpec
from airflow_detection.engine.canary import Pair
from airflow_detection.engine.isolation.runner import Access, ProcessLimits
from airflow_detection.errors import RegistryUnavailable, StorageError
from airflow_detection.store.connection import connect, conninfo_of
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.pushdown import SelectLimits, selection_json, selection_of
from airflow_detection.store.reader import StoredOutputs
from airflow_detection.store.session import end_backend, limit_session
from airflow_detection.store.spool import Spool, encode_outputs

log = logging.getLogger(__name__)
T = TypeVar("T")


class PostgresChildStore:
    """Store, in Postgres, of versions that run in processes of their own.

    A version can end any session of its login. Where this process has lost its connection, it therefore opens
    a new one and tries once more.

    Args:
        db: of this process, in autocommit mode; the children open connections of their own.
        opened: the cycles that they run in.
        reader_conninfo: the connection string that children connect with; that of `db` when None.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        opened: Sequence[OpenedCycle],
        reader_conninfo: str | None = None,
    ) -> None:
        self._given_conn, self._db, self.settings = db.conn, db, settings
        self._opened = {cycle.cycle: cycle for cycle in opened}
        self._session: _OwnSession | None = None
        self._conninfo = conninfo_of(db.conn)
        self.reader_conninfo = reader_conninfo or self._conninfo
        self.store = PostgresStore(db.conn, db.conn, db.schema, code_version=__version__)

    def with_reconnect(self, call: Callable[[Database], T]) -> T:
        """Call with the database; where the connection was lost, once more with a new one."""
        try:
            return call(self._db)
        except (RegistryUnavailable, psycopg.Error):
            if not self._db.conn.closed:
                raise
        log.warning("the connection to the registry was lost: opening another one")
        self._db = replace(self._db, conn=connect(self._conninfo))
        self.store.use(self._db.conn)
        return call(self._db)

    def close(self) -> None:
        """Close the connection if it was opened here, in place of the given one."""
        if self._db.conn is not self._given_conn:
            self._db.conn.close()

    def inputs(self, opened: OpenedCycle, *, is_shared: bool = False) -> Inputs:
        """Return a cycle's input rows, read in a session like those of the children; none without a query.

        Args:
            is_shared: other tasks run versions of the cycle, too: rows that one has kept here are taken.

        Raises:
            TerminalModelError: the database refused the query, or its time column holds no times.
            RegistryUnavailable: the database did not answer.
        """
        if not opened.spec.input_query:
            return Inputs()
        query = partial(self._queried_inputs, opened)
        if not is_shared:
            return query()
        return self.with_reconnect(lambda db: shared_inputs(db, self.settings, opened, query))

    def _queried_inputs(self, opened: OpenedCycle) -> Inputs:
        with self.reading() as db:
            return read_inputs(cycle_reader(db, opened), opened.spec)

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """Open a session like those of the children, which only reads."""
        settings = self.settings
        with connect(self.reader_conninfo) as conn:
            db = Database(conn, self._db.schema)
            timeout_s = settings.statement_timeout_s or settings.inline_timeout_s
            limit_session(db, timeout_s=timeout_s, role=settings.reader_role)
            yield db

    def inputs_in_child(self, opened: OpenedCycle) -> Inputs:
        """In the child: return a cycle's input rows, read in its own session. Raises as `inputs`."""
        return read_inputs(cycle_reader(self.own_session(), opened), opened.spec)

    def own_session(self) -> Database:
        """In the child: return the session that it reads in, which is opened when it is first asked for.

        Raises:
            StorageError: this is not the process of a version.
            RegistryUnavailable: the database did not answer.
        """
        if self._session is None:
            raise StorageError("only the process of a version has a session of its own")
        return self._session.db

    @contextmanager
    def access(self, limits: ProcessLimits, tell_backend: Callable[[JsonMapping], None]) -> Iterator[Access]:
        """In the child: give access to one session that only reads; none is opened before it is needed."""

        def open_session() -> Database:
            db = Database(connect(self.reader_conninfo), self._db.schema)
            timeout_s = self._timeout_s(limits)
            tell_backend(limit_session(db, timeout_s=timeout_s, role=self.settings.reader_role))
            return db

        self._session = _OwnSession(open_session)
        yield Access(
            upstream=lambda version, cycle: StoredOutputs(self.own_session, cycle, version),
            database=lambda cycle: _CycleQueries(self.own_session, self._opened[cycle]),
        )
        with suppress(psycopg.Error):
            self._session.close()

    def spool(self, file: IO[bytes], model: ModelSpec, outputs: Iterable[Pair]) -> JsonMapping:
        """In the child: encode the outputs into the file; a SQL model gives its statement instead."""
        if isinstance(outputs, SelectedOutputs):
            return {"count": 0, "selection": selection_json(outputs)}
        spool = encode_outputs(file, model, outputs)
        return {"count": spool.count, "digest": spool.digest, "score_counts": dict(spool.score_counts)}

    def save(
        self,
        file: IO[bytes],
        spool_facts: JsonMapping,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """Store the outputs that a child has encoded, or let the database select them.

        Raises:
            StorageError: the file does not hold the outputs that `spool_facts` describes.
        """
        if "selection" in spool_facts:
            return self._select(selection_of(spool_facts["selection"]), model, cycle, report, metrics)
        spool = spool_of(file, spool_facts)
        if spool.count != report.output_count:
            raise StorageError(f"{spool.count} encoded outputs were found, not {report.output_count}")
        self.with_reconnect(
            lambda _: self.store.save_spool(model, report.version, cycle, spool, report, metrics)
        )
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Store the manifest of a failure."""
        self.with_reconnect(lambda _: self.store.save_failure(model, version, cycle, report))

    def end(self, backend: JsonMapping) -> None:
        """End the session of a child that was killed: its server process may still be at work.

        With the rights of the login that it reads with: its code may have named any session.
        """
        pid, started_at = int(backend["pid"]), str(backend["backend_start"])
        with connect(self.reader_conninfo) as conn:
            end_backend(Database(conn, self._db.schema), pid, started_at)

    def _timeout_s(self, limits: ProcessLimits) -> float:
        """Return the limit of one statement of a version, in seconds."""
        return min(limits.timeout_s, self.settings.statement_timeout_s or limits.timeout_s)

    def _select(
        self,
        outputs: SelectedOutputs,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """Let the database select and store, on a new connection: the statement may change its session.

        The child has none, because it has only told the statement: the version still has no more than one.
        """

        def finish(count: int) -> tuple[RunReport, Mapping[str, float]]:
            return replace(report, output_count=count), {**metrics, "output_count": float(count)}

        limits = SelectLimits(
            timeout_s=self._timeout_s(limits_of(self.settings, model)), role=self.settings.reader_role
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


class _OwnSession:
    """The session of a version's process; not opened before it is needed, and once."""

    def __init__(self, open_session: Callable[[], Database]) -> None:
        self._open = open_session
        self._db: Database | None = None

    @property
    def db(self) -> Database:
        """The session; opened now, if it is not."""
        if self._db is None:
            self._db = self._open()
        return self._db

    def close(self) -> None:
        """Close the session, if there is one."""
        if self._db is not None:
            self._db.conn.close()


class _CycleQueries:
    """Read-only queries of a version in one cycle."""

    def __init__(self, session: Callable[[], Database], opened: OpenedCycle) -> None:
        self._session, self._opened = session, opened

    def query(self, sql: str, params: JsonMapping | None = None) -> Inputs:
        """Run one SELECT; see `Reader.query`."""
        return cycle_reader(self._session(), self._opened).query(sql, params)


def limits_of(settings: Settings, model: ModelSpec) -> ProcessLimits:
    """Return the limits of a model's versions: its task options, else the settings."""
    return ProcessLimits(
        timeout_s=positive_option(model, "execution_timeout") or settings.inline_timeout_s,
        memory_bytes=_bytes(positive_option(model, "memory_limit") or settings.inline_memory_mib),
        disk_bytes=_bytes(positive_option(model, "disk_limit") or settings.inline_disk_mib),
        environment=tuple(map(str, model.task_options.get("environment") or ())),
    )


def _bytes(mib: float | None) -> int | None:
    return None if mib is None else round(mib * 2**20)


def spool_of(file: IO[bytes], facts: JsonMapping) -> Spool:
    """Return the outputs that a child has encoded into a file, as it tells of them.

    Raises:
        StorageError: it does not tell their count, digest or scores.
    """
    count, digest, scores = facts.get("count"), facts.get("digest"), facts.get("score_counts")
    if (
        not isinstance(count, int)
        or not isinstance(digest, str)
        or not isinstance(scores, dict)
        or not all(isinstance(n, int) for n in scores.values())
    ):
        raise StorageError("the encoded outputs lack a valid count, digest or score_counts")
    return Spool(file=file, count=count, digest=digest, score_counts=scores, is_foreign=True)
