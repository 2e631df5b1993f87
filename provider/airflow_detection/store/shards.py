"""Results of single shards of a version: staged in a transaction each, and read as one."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle, Mode, Outcome, VersionSpec
from airflow_detection.errors import StaleAttempt, StorageError
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.encoding import COPY_HEAD, COPY_TAIL, field, instant_field, to_json
from airflow_detection.store.manifests import run_params
from airflow_detection.store.reader import cursor_name
from airflow_detection.store.run_lock import lock_run
from airflow_detection.store.spool import MARK_BYTES, EncodedOutputs

FETCHED_CHUNKS = 4
"""Chunks of outputs that are fetched at a time: each has one output at least, however large that is."""

_COPY_COLUMNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedRun:
    """The run of a version in shards: for a cycle as it was opened, its scores counted at edges."""

    cycle: Cycle
    version: VersionSpec
    shard_count: int
    opened_at: datetime
    score_edges: Mapping[str, float]

    def params(self) -> dict[str, Any]:  # Any: a statement's params
        """Return the statement params that identify it."""
        more = {
            "shard_count": self.shard_count,
            "opened_at": self.opened_at,
            "score_edges": to_json(self.score_edges).decode(),
        }
        return run_params(self.version, self.cycle) | more


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedShard:
    """What is stored of a shard beside its outputs; `report` as `report_json` writes it."""

    shard: int
    report: JsonMapping
    metrics: Mapping[str, float]
    score_counts: Mapping[str, int]


def stage(db: Database, run: ShardedRun, shard: StagedShard, spool: EncodedOutputs, attempt: int) -> None:
    """Store the result of one shard in place of an earlier one, in one transaction.

    Raises:
        StaleAttempt: a later attempt has written the shard, or the whole result; nothing was changed.
        StorageError, RegistryUnavailable: the database refused or did not answer; nothing was changed.
    """
    queries, params = db.queries("detection_shards"), run.params() | {"shard": shard.shard}
    params |= {"attempt": attempt, "row_mark": (mark := os.urandom(MARK_BYTES))}
    values = {
        "report": to_json(shard.report).decode(),
        "metrics": to_json(shard.metrics).decode(),
        "score_counts": to_json(shard.score_counts).decode(),
    }
    with storage_errors(run.cycle), db.conn.transaction():
        lock_run(db, params, f"{run.version.label}, shard {shard.shard}", statement="try_lock_shard")
        if (newest := _newest(db, params)) > attempt:
            raise StaleAttempt(attempt, newest)
        db.conn.execute(queries["delete"], params)
        db.conn.execute(queries["insert"], params | values)
        _copy_chunks(db, _chunk_prefix(run, shard.shard), spool.chunks(mark))


def _newest(db: Database, params: Mapping[str, Any]) -> int:  # Any: a statement's params
    """Return the newest attempt that has written the shard, or the result of the whole version."""
    staged = db.conn.execute(db.queries("detection_shards")["attempt"], params).fetchone() or (0,)
    run = db.conn.execute(db.queries("detection_model_runs")["stored"], params).fetchone() or (0, None)
    return max(int(staged[0]), int(run[0]) if run[1] == Outcome.SUCCEEDED else 0)


def _copy_chunks(db: Database, prefix: bytes, chunks: Iterator[bytes]) -> None:
    with db.conn.cursor() as cursor, cursor.copy(db.queries("detection_shards")["copy_chunks"]) as copy:
        copy.write(COPY_HEAD)
        for number, chunk in enumerate(chunks):
            copy.write(prefix + field(struct.pack(">i", number)) + field(chunk))
        copy.write(COPY_TAIL)


def _chunk_prefix(run: ShardedRun, shard: int) -> bytes:
    """Return the columns that are the same in every chunk of a shard, in the format of binary COPY."""
    return b"".join(
        (
            struct.pack(">h", _COPY_COLUMNS),
            field(run.cycle.cycle_id.encode()),
            instant_field(run.cycle.started_at),
            field(struct.pack(">q", run.version.version_id)),
            field(struct.pack(">?", run.version.is_replay)),
            field(struct.pack(">i", run.shard_count)),
            field(struct.pack(">i", shard)),
        )
    )


def staged(db: Database, run: ShardedRun) -> list[StagedShard]:
    """Return the shards of a run that are there, in order; those of another opening or other edges are not.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    with storage_errors():
        rows = db.conn.execute(db.queries("detection_shards")["staged"], run.params()).fetchall()
    return [StagedShard(shard=s, report=r, metrics=m, score_counts=c) for s, r, m, c in rows]


def clear(db: Database, run: ShardedRun, attempt: int) -> None:
    """Delete the shards of a run up to an attempt.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    with storage_errors(run.cycle):
        db.conn.execute(db.queries("detection_shards")["clear"], run.params() | {"attempt": attempt})


def clear_old(db: Database) -> None:
    """Delete the shards that are a week old, whatever run they are of.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    with storage_errors():
        db.conn.execute(db.queries("detection_shards")["clear_old"])


@contextmanager
def snapshot(conn: Connection) -> Iterator[None]:
    """One state of the database: what is read of the shards of a run belongs together."""
    with storage_errors(), conn.transaction():
        conn.execute("set transaction isolation level repeatable read, read only")
        yield


class StagedOutputs:
    """The outputs of all shards of a run, in order, as those of one version.

    Args:
        db: in a `snapshot`, in which all shards are there.
    """

    def __init__(self, db: Database, run: ShardedRun, shards: list[StagedShard], count: int) -> None:
        self._db, self._run, self.count = db, run, count
        self._digest = hashlib.sha256()
        names = dict.fromkeys(name for shard in shards for name in shard.score_counts)
        self.score_counts = {n: sum(shard.score_counts.get(n, 0) for shard in shards) for n in names}

    @property
    def digest(self) -> str:
        """sha256 of the encoded rows, in hex, once they were read: that of a version without shards."""
        return self._digest.hexdigest()

    def chunks(self, prefix: bytes) -> Iterator[bytes]:
        """Iterate over chunks of rows in the format of binary COPY, each row behind `prefix`.

        Raises:
            StorageError: there is another number of rows than the shards have told.
        """
        self._digest, row_count = hashlib.sha256(), 0
        query = self._db.queries("detection_shards")["chunks"]
        with self._db.conn.cursor(name=cursor_name(), binary=True) as cursor:
            cursor.itersize = FETCHED_CHUNKS
            for mark, rows in cursor.execute(query, self._run.params()):
                row_count += rows.count(mark)
                self._digest.update(rows.replace(mark, b""))
                yield rows.replace(mark, prefix)
        if row_count != self.count:
            raise StorageError(f"{row_count} outputs of its shards were found, not {self.count}")


def bounds(db: Database, cycle: Cycle, mode: Mode, opened_at: datetime, name: str) -> list[Any] | None:
    """Return where the shards begin that have a name, in a cycle as it was opened; None if nobody knows yet.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    params = _bounds_key(cycle, mode, opened_at, name)
    with storage_errors():
        row = db.conn.execute(db.queries("detection_cycle_runs")["shard_bounds"], params).fetchone()
    return row[0] if row else None


@contextmanager
def locked_bounds(db: Database, cycle: Cycle) -> Iterator[None]:
    """One transaction that alone may compute the bounds of a cycle.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    params = {"cycle_id": cycle.cycle_id, "cycle_started_at": cycle.started_at}
    with db.conn.transaction():
        with storage_errors(cycle):
            db.conn.execute(db.queries("detection_cycle_runs")["patient_shard_bounds"])
            db.conn.execute(db.queries("detection_cycle_runs")["lock_shard_bounds"], params)
        yield


def keep_bounds(
    db: Database, cycle: Cycle, mode: Mode, opened_at: datetime, name: str, found: list[Any]
) -> None:
    """Keep where the shards begin that have a name.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    params = _bounds_key(cycle, mode, opened_at, name) | {"bounds": to_json(found).decode()}
    with storage_errors(cycle):
        db.conn.execute(db.queries("detection_cycle_runs")["keep_shard_bounds"], params)


def _bounds_key(
    cycle: Cycle, mode: Mode, opened_at: datetime, name: str
) -> dict[str, Any]:  # Any: a statement's params
    return {
        "cycle_id": cycle.cycle_id,
        "cycle_started_at": cycle.started_at,
        "mode": mode.value,
        "opened_at": opened_at,
        "name": name,
    }
