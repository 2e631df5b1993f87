"""The training step of a class, run in a process of its own, confined as a version is."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from airflow_detection.cycle.child_store import PostgresChildStore, limits_of
from airflow_detection.cycle.training_plan import TrainingPlan
from airflow_detection.cycle.versions import read_inputs, window_reader
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, VersionSpec
from airflow_detection.engine.artifact_files import write_archive
from airflow_detection.engine.canary import Pair
from airflow_detection.engine.entrypoints import load_class
from airflow_detection.engine.isolation.runner import SubprocessRunner
from airflow_detection.engine.job import Job
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.engine.run_log import LogContext
from airflow_detection.engine.training import TrainedModel, TrainingContext, TrainingWindow
from airflow_detection.errors import StorageError, TerminalModelError, TransientModelError
from airflow_detection.store.database import Database

CANARIES = "canaries.json"
_FILE_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_OF_THE_ENGINE = ("cycle_duration_ms", "output_count")
"""Metrics that the engine adds to those of a run."""


def run_step(
    settings: Settings, plan: TrainingPlan, store: TrainingStore, log_context: LogContext | None
) -> Mapping[str, Any]:  # Any: fields of `Training`
    """Run the training step in a process of its own; the archive of its files is in the store then."""
    job = Job(
        model=replace(plan.model, score_key=None, entity_key=None),
        version=plan.version,
        cycle=plan.opened.cycle,
        instantiate=lambda version: _TrainingStep(
            load_class(version.entrypoint, settings.allowed_prefixes), version, plan, store.windows()
        ),
        inputs=Inputs,
        upstreams={},
    )
    limits = replace(limits_of(settings, plan.model), timeout_s=settings.training_timeout_s)
    (report,) = SubprocessRunner(store, lambda _: limits, log_context).run([job], 1)
    if report.outcome is not Outcome.SUCCEEDED:
        kind = TransientModelError if report.is_transient else TerminalModelError
        raise kind(f"{plan.request.label} was not trained: {report.error}")
    return store.facts


class _TrainingStep(BaseDetectionModel):
    """The training step of a class, run where a version would run: its outputs are files."""

    def __init__(
        self,
        trained_class: type[BaseDetectionModel],
        version: VersionSpec,
        plan: TrainingPlan,
        windows: Iterable[TrainingWindow],
    ) -> None:
        super().__init__(version.model_id, version.version, version.params)
        self._class, self._plan, self._windows = trained_class, plan, windows

    def run(self, ctx: ModelContext) -> ModelResult:
        """Train; the outputs are pairs of a file's name and its content."""
        plan = self._plan
        if self._class.learns_from_labels and not plan.labels:
            raise TerminalModelError(
                f"no label of cycle {plan.opened.spec.cycle_id!r} in {plan.request.span} was known at"
                f" {plan.as_of.isoformat()}: {self._class.__name__} learns from labels"
            )
        if not any(len(window.inputs) for window in self._windows):
            raise TerminalModelError(
                f"cycle {plan.opened.spec.cycle_id!r} has no input rows in {plan.request.span}, as of"
                f" {plan.as_of.isoformat()}"
            )
        context = TrainingContext(
            params=ctx.params,
            interval=ctx.window,
            as_of=plan.as_of,
            windows=self._windows,
            seed=plan.request.seed,
            log=ctx.log,
        )
        trained = self._class.train(context)
        return ModelResult(
            outputs_per_input=[({"file": name}, {"content": data}) for name, data in _files(trained).items()],
            metrics=trained.metrics,
        )


def _files(trained: TrainedModel) -> dict[str, bytes]:
    """Return the files of an artefact, with that of its canaries.

    Raises:
        TerminalModelError: there is none, or one has no plain name or is not made of bytes.
    """
    if not isinstance(trained, TrainedModel):
        raise TerminalModelError(f"train returned {type(trained).__name__}, not TrainedModel")
    files = dict(trained.files)
    if trained.canaries:
        text = json.dumps([dict(canary) for canary in trained.canaries], indent=1)
        files[CANARIES] = f"{text}\n".encode()
    if not trained.files:
        raise TerminalModelError("train returned no files")
    for name, content in files.items():
        if not _FILE_NAME.fullmatch(name) or not isinstance(content, bytes):
            raise TerminalModelError(
                f"train returned {name!r}: must be a plain name of a file, with its content as bytes"
            )
    return files


class _Windows:
    """Past windows, each read from the database when it is asked for; `read` has what was read of each."""

    def __init__(self, db: Database, plan: TrainingPlan) -> None:
        self._db, self._plan = db, plan
        self.read: dict[datetime, tuple[int, str]] = {}

    def __iter__(self) -> Iterator[TrainingWindow]:
        for cycle in self._plan.cycles:
            reader = window_reader(self._db, cycle, self._plan.as_of)
            inputs = read_inputs(reader, self._plan.opened.spec)
            at = cycle.started_at
            self.read[at] = len(inputs), inputs.digest or ""
            labels = {
                label.entity_id: bool(label.is_positive)
                for label in self._plan.labels
                if label.valid_from <= at and (label.valid_to is None or at < label.valid_to)
            }
            yield TrainingWindow(cycle=cycle, inputs=inputs, labels=labels)

    def facts(self) -> JsonMapping:
        """Return the number of windows and rows that were read, and the digest of all of them."""
        read = [(at.isoformat(), *facts) for at, facts in sorted(self.read.items())]
        return {
            "window_count": len(read),
            "row_count": sum(rows for _, rows, _ in read),
            "input_digest": hashlib.sha256(json.dumps(read).encode()).hexdigest(),
        }


class TrainingStore(PostgresChildStore):
    """Store of a training: its process reads windows; what it makes becomes an archive in a file.

    Nothing is stored in the database: `facts` has what the process has read, and its metrics.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        plan: TrainingPlan,
        reader_conninfo: str | None,
        archive: IO[bytes],
    ) -> None:
        super().__init__(db, settings, [plan.opened], reader_conninfo)
        self._plan, self._archive = plan, archive
        self._windows: _Windows | None = None
        self.facts: dict[str, Any] = {}  # Any: fields of `Training`

    def windows(self) -> _Windows:
        """In the child: return the windows that it may read."""
        if self._windows is None:
            self._windows = _Windows(self.own_session(), self._plan)
        return self._windows

    def spool(self, file: IO[bytes], model: ModelSpec, outputs: Iterable[Pair]) -> JsonMapping:
        """In the child: write the files into the archive of a folder, which is the same whoever makes it."""
        with TemporaryDirectory() as folder:
            files = {str(ref["file"]): output["content"] for ref, output in outputs}
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            write_archive(file, [(name, Path(folder, name)) for name in files])
        file.flush()
        return {"count": len(files), **self.windows().facts()}

    def save(
        self,
        file: IO[bytes],
        spool_facts: JsonMapping,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """Keep the archive that a child has written, and what it has read.

        Raises:
            StorageError: `spool_facts` does not tell what it has read.
            TerminalModelError: the archive is larger than a machine keeps.
        """
        windows, rows, digest = map(spool_facts.get, ("window_count", "row_count", "input_digest"))
        if type(windows) is not int or type(rows) is not int or type(digest) is not str:
            raise StorageError("the archive lacks a valid window_count, row_count or input_digest")
        size, bound = file.seek(0, io.SEEK_END) / 2**20, self.settings.artifact_cache_mib
        if size > bound:
            raise TerminalModelError(
                f"its artefact has {size:.1f} MiB: must have at most {bound:g},"
                f" [detection] artifact_cache_size"
            )
        file.seek(0)
        shutil.copyfileobj(file, self._archive)
        self.facts = {
            "window_count": windows,
            "row_count": rows,
            "input_digest": digest,
            "metrics": {name: v for name, v in metrics.items() if name not in _OF_THE_ENGINE},
        }
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Store nothing: the failure is raised."""
