"""Storage of the outputs of a version: one transaction for each (cycle, version)."""

from __future__ import annotations

import logging
import math
import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from airflow_detection.domain.inputs import MaterializedOutputs, SelectedOutputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.scores import FLAGGED, EventRule
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.errors import (
    StaleAttempt,
    UnstorableValue,
)
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.encoding import COPY_HEAD, COPY_TAIL, field, instant_field, to_json
from airflow_detection.store.events import flagged_entities, refresh
from airflow_detection.store.manifests import params_digest, run_params, storable_text
from airflow_detection.store.pushdown import SelectLimits, select_rows, store_rows
from airflow_detection.store.queries import load_queries
from airflow_detection.store.reader import StoredOutputs
from airflow_detection.store.run_lock import lock_run
from airflow_detection.store.spool import EncodedOutputs, Encoder, encode_outputs

log = logging.getLogger(__name__)

MEMORY_BYTES = 32 * 2**20
"""Bytes of encoded outputs of one version that are kept in memory; more of them go to a temporary file."""

_COPY_COLUMNS = 10
_NO_LIMITS = SelectLimits()

Finish = Callable[[int], tuple[RunReport, Mapping[str, float]]]
RunParams = dict[str, Any]  # Any: the params that identify one run, and what is stored of it


@dataclass(frozen=True, slots=True)
class _Written:
    """Facts of the outputs that were written, for the manifest."""

    report: RunReport
    metrics: Mapping[str, float]
    digest: str | None
    score_counts: Mapping[str, int]


class PostgresStore:
    """Store of the engine, on Postgres.

    An attempt's number is taken when the store is created, or by `begin`: of two attempts at the same run,
    the one that began later wins, whichever ends first.

    Args:
        conn: for writing, in autocommit mode.
        reader: for reading champions' outputs while a model runs; may be `conn`.
        code_version: goes into every manifest.
        select_limits: limits of a SQL model's SELECT.
        attempt: the number that another store took for the same task.

    Raises:
        RegistryUnavailable: the database did not answer.
    """

    def __init__(
        self,
        conn: Connection,
        reader: Connection,
        schema: str = "detection",
        *,
        code_version: str = "",
        select_limits: SelectLimits = _NO_LIMITS,
        attempt: int | None = None,
    ) -> None:
        self._conn, self._reader, self._schema, self._code_version = conn, reader, schema, code_version
        self._select_limits = select_limits
        self._runs = load_queries("detection_model_runs", schema)
        self._rows = load_queries("detection_model_run_outputs", schema)
        self._metrics = load_queries("detection_model_metrics", schema)
        self._attempts: dict[tuple[int, bool, str, datetime], int] = {}
        self.attempt = self._next_attempt() if attempt is None else attempt

    def use(self, conn: Connection) -> None:
        """Write and read on another connection from now on, after the previous one was lost."""
        self._conn = self._reader = conn

    def begin(self, version: VersionSpec, cycle: Cycle) -> int:
        """Take a new attempt number for this run; earlier attempts can no longer overwrite it."""
        attempt = self._next_attempt()
        self._attempts[_run_key(version, cycle)] = attempt
        return attempt

    def upstream(self, version: VersionSpec, cycle: Cycle) -> StoredOutputs:
        """Return the stored outputs of a champion, read lazily."""
        return StoredOutputs(lambda: Database(self._reader, self._schema), cycle, version)

    def save(
        self,
        model: ModelSpec,
        version: VersionSpec,
        cycle: Cycle,
        outputs: Iterable[tuple[JsonMapping, JsonMapping]],
        finish: Finish,
    ) -> RunReport:
        """Replace what is stored of this run by `outputs`, and the metrics and manifest `finish` gives.

        `outputs` is consumed once: before the transaction begins, or within it where they are computed
        already (`MaterializedOutputs`). `finish` is called with their number.

        Raises:
            UnstorableValue: an output or a metric cannot be stored; nothing was changed.
            StaleAttempt: a later attempt has already written; nothing was changed.
            MissingPartition: no table partition holds the cycle's month; nothing was changed.
            StorageError, RegistryUnavailable: the database refused or did not answer; nothing was changed.
        """
        if isinstance(outputs, MaterializedOutputs):
            return self._replace(
                model, version, cycle, lambda _: self._streamed(model, version, cycle, outputs, finish)
            )
        if isinstance(outputs, SelectedOutputs):
            return self._replace(
                model, version, cycle, lambda run: self._selected(model, run, outputs, finish)
            )
        with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as file:
            spool = encode_outputs(file, model, outputs)
            report, metrics = finish(spool.count)
            self.save_spool(model, version, cycle, spool, report, metrics)
        return report

    def save_spool(
        self,
        model: ModelSpec,
        version: VersionSpec,
        cycle: Cycle,
        spool: EncodedOutputs,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> None:
        """Replace what is stored of this run by outputs that are encoded already.

        Raises:
            UnstorableValue, StaleAttempt, MissingPartition, StorageError, RegistryUnavailable: as `save`.
        """
        _check_metrics(metrics)

        def fill(_: RunParams) -> _Written:
            self._copy(spool.chunks(_prefix(version, cycle, report.duration_ms)))
            return _Written(report, metrics, spool.digest, spool.score_counts)

        self._replace(model, version, cycle, fill)

    def _streamed(
        self,
        model: ModelSpec,
        version: VersionSpec,
        cycle: Cycle,
        outputs: MaterializedOutputs,
        finish: Finish,
    ) -> _Written:
        """Encode the outputs while the server receives those already encoded."""
        encoder = Encoder(model)
        prefix = _prefix(version, cycle, outputs.duration_ms)
        self._copy(prefix + prefix.join(batch) for batch in encoder.batches(outputs.pairs))
        report, metrics = finish(encoder.count)
        _check_metrics(metrics)
        return _Written(report, metrics, encoder.digest, encoder.score_counts)

    def _selected(
        self, model: ModelSpec, run: RunParams, outputs: SelectedOutputs, finish: Finish
    ) -> _Written:
        """Let the database select and store the outputs."""
        selected = select_rows(Database(self._conn, self._schema), model, outputs, self._select_limits)
        store_rows(Database(self._conn, self._schema), run, selected.duration_ms)
        report, metrics = finish(selected.count)
        _check_metrics(metrics)
        stages = {**report.stage_ms, "select": selected.duration_ms}
        report = replace(report, duration_ms=selected.duration_ms, stage_ms=stages)
        metrics = {**metrics, "cycle_duration_ms": selected.duration_ms}
        return _Written(report, metrics, None, selected.score_counts)

    def _replace(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, fill: Callable[[RunParams], _Written]
    ) -> RunReport:
        """Replace what is stored of a run by what `fill` writes and returns, in one transaction."""
        rule = EventRule.of(model.events)
        is_counted = version.role is Role.PRIMARY and not version.is_replay
        with storage_errors(cycle), self._conn.transaction():
            run = self._lock_run(version, cycle)
            if run["newest"] > run["attempt"]:
                raise StaleAttempt(run["attempt"], run["newest"])
            was_counted = run["was_primary"] and not version.is_replay
            previously_flagged = (
                flagged_entities(Database(self._conn, self._schema), run) if was_counted else ()
            )
            self._conn.execute(self._rows["delete"], run)
            self._conn.execute(self._metrics["delete"], run)
            written = fill(run)
            keys, values = list(written.metrics), list(written.metrics.values())
            self._conn.execute(self._metrics["insert"], run | {"keys": keys, "values": values})
            output_params = {
                "output_digest": written.digest,
                "score_counts": to_json(written.score_counts).decode(),
                "score_edges": to_json(rule.edges).decode(),
            }
            self._conn.execute(
                self._runs["upsert"], self._manifest(written.report, cycle) | run | output_params
            )
            if is_counted or was_counted:
                refresh(
                    Database(self._conn, self._schema), run,
                    previously_flagged=previously_flagged,
                    rule=rule,
                    flagged_count=written.score_counts.get(FLAGGED, 0) if is_counted else 0,
                    projection=written.report.projection,
                )  # fmt: skip
        return written.report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Write the manifest of a run that did not succeed.

        An earlier success stays, with the failure noted beside it; a later attempt's manifest stays as it is.

        Raises:
            StorageError, RegistryUnavailable: the database refused or did not answer.
        """
        with storage_errors(cycle), self._conn.transaction():
            run = self._lock_run(version, cycle)
            row = (
                self._manifest(report, cycle)
                | run
                | {"output_digest": None, "score_counts": "{}", "score_edges": "{}"}
            )
            if run["newest"] > run["attempt"]:
                log.warning(
                    "%s: attempt %d failed after a later one had written", version.label, run["attempt"]
                )
            elif run["outcome"] == Outcome.SUCCEEDED:
                self._conn.execute(self._runs["note_failure"], row)
            else:
                self._conn.execute(self._runs["upsert"], row)

    def _next_attempt(self) -> int:
        with storage_errors():
            row = self._conn.execute(self._runs["next_attempt"]).fetchone()
        return int(row[0]) if row else 0

    def _lock_run(self, version: VersionSpec, cycle: Cycle) -> RunParams:
        """Lock the run until the transaction ends; return its key, this attempt and what is stored."""
        attempt = self._attempts.get(_run_key(version, cycle), self.attempt)
        run = run_params(version, cycle) | {"attempt": attempt}
        lock_run(Database(self._conn, self._schema), run, version.label)
        stored = self._conn.execute(self._runs["stored"], run).fetchone() or (0, None, False)
        return run | {"newest": stored[0], "outcome": stored[1], "was_primary": stored[2]}

    def _copy(self, chunks: Iterable[bytes]) -> None:
        """Copy encoded rows, each behind the columns that all share; nothing is sent if there are none."""
        remaining = iter(chunks)
        first = next(remaining, None)
        if first is None:
            return
        with self._conn.cursor() as cursor, cursor.copy(self._rows["copy"]) as copy:
            copy.write(COPY_HEAD + first)
            for chunk in remaining:
                copy.write(chunk)
            copy.write(COPY_TAIL)

    def _manifest(self, report: RunReport, cycle: Cycle) -> dict[str, Any]:  # Any: a statement's params
        return {
            "new_outcome": report.outcome.value,
            "input_count": report.input_count,
            "input_digest": report.input_digest,
            "newest_input_at": report.newest_input_at,
            "reads_since": report.reads_since,
            "reads": to_json(report.reads).decode(),
            "history_tables": list(report.history_tables),
            "output_count": report.output_count,
            "started_at": report.started_at,
            "duration_ms": report.duration_ms,
            "stage_ms": to_json(report.stage_ms).decode(),
            "peak_memory_bytes": report.peak_memory_bytes,
            "params_digest": params_digest(report.version.params),
            "artifact_sha256": report.artifact_sha256,
            "code_version": self._code_version,
            "canaries": to_json([asdict(c) | {"error": c.error} for c in report.canaries]).decode(),
            "features": to_json([asdict(f) for f in report.features]).decode(),
            "error": storable_text(report.error),
        }


def _prefix(version: VersionSpec, cycle: Cycle, duration_ms: float) -> bytes:
    """Return the columns that are the same in every row of a run, in the format of binary COPY."""
    return b"".join(
        (
            struct.pack(">h", _COPY_COLUMNS),
            field(struct.pack(">d", duration_ms)),
            instant_field(cycle.started_at),
            field(version.model_id.encode()),
            field(struct.pack(">q", version.version_id)),
            field(version.role.value.encode()),
            field(struct.pack(">?", version.is_replay)),
        )
    )


def _run_key(version: VersionSpec, cycle: Cycle) -> tuple[int, bool, str, datetime]:
    return (version.version_id, version.is_replay, cycle.cycle_id, cycle.started_at)


def _check_metrics(metrics: Mapping[str, float]) -> None:
    for key, value in metrics.items():
        if not math.isfinite(value):
            raise UnstorableValue(None, f"metrics.{key}", f"is not a finite number: {value}")
