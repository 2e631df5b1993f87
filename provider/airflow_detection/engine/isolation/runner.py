"""Runner of versions in processes of their own: a version that ends its process does not end the cycle."""

from __future__ import annotations

import errno
import logging
import selectors
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, VersionSpec
from airflow_detection.engine.alarm import alarm
from airflow_detection.engine.canary import Pair
from airflow_detection.engine.isolation.child import (
    BACKEND,
    LOG,
    RESULT,
    Confinement,
    FrameWriter,
    allow_spool,
    fork,
    free_memory_reserve,
    limits_restored,
    occupy_standard_descriptors,
)
from airflow_detection.engine.isolation.folder import Folder, remove_leftovers
from airflow_detection.engine.isolation.orphans import end_orphans, subreaper
from airflow_detection.engine.isolation.report_json import (
    MalformedReport,
    metrics_of,
    report_json,
    report_of,
    strict_loads,
)
from airflow_detection.engine.isolation.structlog_lines import log_record_of
from airflow_detection.engine.job import (
    Finish,
    Job,
    ms_since,
    not_run_report,
    record_failure,
    run_job,
    save_failure,
)
from airflow_detection.engine.model import ReadOnlyDatabase, Upstream
from airflow_detection.engine.run_log import LogContext, run_facts, run_logger
from airflow_detection.errors import (
    ArtifactUnavailable,
    RegistryUnavailable,
    TerminalModelError,
    TransientModelError,
)

GRACE_S = 2.0
"""Seconds that a process has to end after SIGTERM, or after its report, before it is killed."""

MAX_LINES = 10_000
"""Log lines of one version that are logged here; at its end the number of the others is logged."""

_POLL_S = 0.05
_DISK_POLL_S = 1.0
_TOO_LARGE = f"OSError: [Errno {errno.EFBIG}]"
_log = run_logger("airflow_detection.engine")
_PRINT_LOGGER = "airflow_detection.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Limits of one version: seconds from start to end, and bytes beyond what its parent has allocated.

    `disk_bytes` may be written into one file, and into all files below its folder. `environment` names the
    variables of the task that it has besides those that each version has.
    """

    timeout_s: float
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    environment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Read-only access of a child to the database, through connections of its own."""

    upstream: Callable[[VersionSpec, Cycle], Upstream]
    database: Callable[[Cycle], ReadOnlyDatabase | None] = lambda _: None


class ChildStore(Protocol):
    """Store of the results of children; the engine itself has no database."""

    def access(
        self, limits: ProcessLimits, tell_backend: Callable[[JsonMapping], None]
    ) -> AbstractContextManager[Access]:
        """In the child: give what it reads from; `tell_backend` names a session to `end` if it is killed."""

    def spool(self, file: IO[bytes], model: ModelSpec, outputs: Iterable[Pair]) -> JsonMapping:
        """In the child: write the outputs into the file; returns what `save` needs to know about it."""

    def save(
        self,
        file: IO[bytes],
        spool_facts: JsonMapping,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """In the parent: store what a child has written or selected; returns the report as stored.

        The child may still write to the file: what is stored is what was checked, whatever it does.
        """

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """In the parent: store the manifest of a failure."""

    def end(self, backend: JsonMapping) -> None:
        """In the parent: end the session that a killed child has left running.

        Code of a model may have named another one: with its own login's rights alone.
        """


class SubprocessRunner:
    """Runs each version in a process of its own; this process alone writes to the database.

    Processes that a version leaves running are ended with it. They are not told apart from others that are
    started meanwhile, so this process should start no others while versions run.

    Args:
        child_store: what the children read from, and where this process stores their results.
        limits: gives the limits of a model's versions.
        log_context: makes another logging system's lines carry the facts of a run.
    """

    def __init__(
        self,
        child_store: ChildStore,
        limits: Callable[[ModelSpec], ProcessLimits],
        log_context: LogContext | None = None,
    ) -> None:
        self._store, self._limits, self._log_context = child_store, limits, log_context

    def run(self, jobs: Sequence[Job], at_once: int) -> list[RunReport]:
        """Run each job in a process of its own, at most `at_once` at a time; reports are in order of jobs."""
        return [report for (report,) in self._run([(job,) for job in jobs], at_once)]

    def run_series(self, jobs: Sequence[Job]) -> list[RunReport]:
        """Run jobs of one version one after the other in one process; each has the version's time limit.

        The reports are those of the first jobs, and of one at least: the jobs behind one that has ended the
        process have not run.
        """
        (reports,) = self._run([jobs], 1)
        return reports

    def _run(self, series: Sequence[Sequence[Job]], at_once: int) -> list[list[RunReport]]:
        settled = [_with_artifact(jobs, self._limits(jobs[0].model).timeout_s) for jobs in series]
        waiting, running = deque(enumerate(settled)), dict[int, _ChildRun]()
        reports: dict[int, list[RunReport]] = {}
        occupy_standard_descriptors()
        remove_leftovers()
        with selectors.DefaultSelector() as selector, subreaper() as earlier_children:
            try:
                while waiting or running:
                    while waiting and len(running) < at_once:
                        number, jobs = waiting.popleft()
                        running[number] = self._start(jobs, selector)
                    ended = self._ended(selector, running)
                    for run in running.values():
                        self._store_ahead(run)
                    for number in ended:
                        run = running.pop(number)
                        # Before the outputs of its last job are read: nothing of it may still write to them.
                        run.left_orphans = end_orphans(earlier_children)
                        reports[number] = self._conclude(run, selector)
            finally:  # a task that is ended in the meantime leaves no process behind
                for run in running.values():
                    run.close()
                    self._end_backend(run)
                end_orphans(earlier_children)
        return [reports[number] for number in range(len(series))]

    def _start(self, jobs: Sequence[Job], selector: selectors.BaseSelector) -> _ChildRun:
        run = _ChildRun(jobs, self._store, self._limits(jobs[0].model))
        for fd in (run.child.frames_fd, run.child.text_fd, run.child.pidfd):
            if fd is not None:
                selector.register(fd, selectors.EVENT_READ, run)
        return run

    def _ended(self, selector: selectors.BaseSelector, running: Mapping[int, _ChildRun]) -> list[int]:
        """Wait for output, the end of a process or a deadline; return the numbers of the runs that ended."""
        wait_s = min(run.deadline for run in running.values()) - time.monotonic()
        if any(run.child.pidfd is None for run in running.values()):
            wait_s = min(wait_s, _POLL_S)
        if any(run.limits.disk_bytes is not None for run in running.values()):
            wait_s = min(wait_s, _DISK_POLL_S)
        ready_runs = {id(key.data): key.data for key, _ in selector.select(max(wait_s, 0.0))}
        for run in ready_runs.values():
            with run_facts(run.job.version, run.job.cycle, self._log_context):
                run.read_pipes()
        now, ended = time.monotonic(), []
        for number, run in running.items():
            if run.child.has_ended():
                ended.append(number)
            else:
                run.enforce_deadline(now)
                run.enforce_disk(now)
        self._unregister_closed(selector, ready_runs.values())
        return ended

    def _store_ahead(self, run: _ChildRun) -> None:
        """Store the results that are there while the process goes on with its next job.

        It can still write to their files: `save` takes what it has checked. The time does not count for it,
        because meanwhile nobody reads what it prints.
        """
        began = time.monotonic()
        self._store_first(run, min(len(run.results), len(run.jobs) - 1))
        run.deadline += time.monotonic() - began

    def _store_first(self, run: _ChildRun, count: int) -> None:
        """Store the results of the first `count` jobs that are not stored yet."""
        for number in range(len(run.reports), count):
            run.reports.append(self._concluded(run, number, None))

    def _unregister_closed(self, selector: selectors.BaseSelector, runs: Iterable[_ChildRun]) -> None:
        """Stop waiting for closed pipes: each would be ready at once, every time."""
        for run in runs:
            for fd in (run.child.frames_fd, run.child.text_fd):
                if run.child.is_closed(fd):
                    with suppress(KeyError):
                        selector.unregister(fd)

    def _conclude(self, run: _ChildRun, selector: selectors.BaseSelector) -> list[RunReport]:
        try:
            with run_facts(run.job.version, run.job.cycle, self._log_context):
                run.read_pipes(at_end=True)
                if run.line_count > MAX_LINES:
                    _log.warning("%d log lines were left out", run.line_count - MAX_LINES)
                failure = run.failure()
            count = len(run.results) if failure is None else run.jobs.index(run.job)
            self._store_first(run, count)
            if failure is not None:
                run.reports.append(self._concluded(run, count, failure))
            return run.reports
        finally:
            for fd in (run.child.frames_fd, run.child.text_fd, run.child.pidfd):
                if fd is not None:
                    with suppress(KeyError):
                        selector.unregister(fd)
            run.close()
            if run.was_terminated or run.left_orphans or run.child.status:
                self._end_backend(run)

    def _concluded(self, run: _ChildRun, number: int, failure: Exception | None) -> RunReport:
        """Store the result of one of the process's jobs, or the error that explains why there is none."""
        job = run.jobs[number]
        with run_facts(job.version, job.cycle, self._log_context):
            try:
                if failure is not None:
                    raise failure
                return self._stored(run, job, run.files[number], run.results[number])
            except Exception as error:
                report = replace(
                    not_run_report(job.version, Outcome.FAILED, ""), duration_ms=ms_since(run.began)
                )
                return record_failure(self._store, job.model, report, job.cycle, error)

    def _stored(self, run: _ChildRun, job: Job, file: IO[bytes], result: dict[str, Any]) -> RunReport:
        """Store one result of the process; raises the error that explains why it is none."""
        if result.keys() != {"report", "metrics", "spool"} or not isinstance(result["spool"], dict):
            raise MalformedReport("the result does not have the fields of a result")
        report = report_of(result["report"], job.version)
        if report.outcome is Outcome.SUCCEEDED:
            return self._store.save(
                file, result["spool"], job.model, job.cycle, report, metrics_of(result["metrics"])
            )
        if (report.error or "").startswith("MemoryError") and run.limits.memory_bytes is not None:
            reason = f"MemoryError: it may allocate {run.limits.memory_bytes / 2**20:g} MiB"
            report = replace(report, error=reason)
        if (report.error or "").startswith(_TOO_LARGE) and run.limits.disk_bytes is not None:
            reason = f"{report.error}: it may write {run.limits.disk_bytes / 2**20:g} MiB"
            report = replace(report, error=reason, is_transient=False)
        save_failure(self._store, job.model, report, job.cycle)
        return report

    def _end_backend(self, run: _ChildRun) -> None:
        if run.backend is not None:
            with suppress(Exception):  # the session's own limits end it, if only later
                self._store.end(run.backend)


def _with_artifact(jobs: Sequence[Job], timeout_s: float) -> list[Job]:
    """Fetch a version's artefact here, before it runs: its process has no connections of Airflow.

    An error is raised in that process, where the artefact is asked for: the version fails with it.
    """
    job = jobs[0]
    if job.version.artifact is None:
        return list(jobs)
    uri = job.version.artifact.uri

    def on_timeout() -> None:
        raise ArtifactUnavailable(uri, f"it was not here after {timeout_s:g} s")

    try:
        with alarm(timeout_s, on_timeout):
            path = job.artifact()
    except Exception as error:
        failure = error

        def fail() -> Path | None:
            raise failure

        return [replace(job, artifact=fail) for job in jobs]
    return [replace(job, artifact=lambda: path) for job in jobs]


class _SpoolingStore:
    """Store of a child: outputs go into the file, the report to the parent."""

    def __init__(
        self, child_store: ChildStore, access: Access | None, file: IO[bytes], writer: FrameWriter
    ) -> None:
        self._store, self._access, self._file, self._writer = child_store, access, file, writer

    def save(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, outputs: Iterable[Pair], finish: Finish
    ) -> RunReport:
        allow_spool()
        spool_facts = dict(self._store.spool(self._file, model, outputs))
        report, metrics = finish(spool_facts["count"])
        free_memory_reserve()
        result = {"report": report_json(report), "metrics": dict(metrics), "spool": spool_facts}
        self._writer.send(RESULT, result)
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        free_memory_reserve()
        self._writer.send(RESULT, {"report": report_json(report), "metrics": {}, "spool": {}})

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Upstream:
        if self._access is None:
            raise RegistryUnavailable("there is no access to the database")
        return self._access.upstream(version, cycle)


class _ChildRun:
    """Process of one version, which runs some jobs one after the other, and what it has sent."""

    def __init__(self, jobs: Sequence[Job], child_store: ChildStore, limits: ProcessLimits) -> None:
        self.jobs, self.limits = jobs, limits
        self.files: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in jobs]  # noqa: SIM115  # closed in `close`
        self.began = time.perf_counter()
        self.deadline = time.monotonic() + limits.timeout_s
        self.results: list[dict[str, Any]] = []  # Any: JSON
        self.reports: list[RunReport] = []
        """Those of the jobs whose results were stored, or whose failures."""
        self.backend: JsonMapping | None = None
        self.pipe_error: Exception | None = None
        self.line_count, self.last_line = 0, ""
        self.was_terminated = self.is_overdue = self.left_orphans = self.is_disk_used_up = False
        self.folder = Folder()
        self._disk_counted_at = time.monotonic()
        confinement = Confinement(
            folder=self.folder.path,
            memory_bytes=limits.memory_bytes,
            file_bytes=limits.disk_bytes,
            environment=limits.environment,
        )
        self.child = fork(
            lambda writer: _work(jobs, child_store, limits, self.files, writer),
            confinement,
            keep=[file.fileno() for file in self.files],
        )

    @property
    def job(self) -> Job:
        """The job that it is at, or was at last."""
        return self.jobs[min(len(self.results), len(self.jobs) - 1)]

    @property
    def is_done(self) -> bool:
        """Whether there is a result of each job."""
        return len(self.results) == len(self.jobs)

    def read_pipes(self, *, at_end: bool = False) -> None:
        """Read what the process has written by now: frames, and lines of text."""
        try:
            for kind, body in self.child.frames(at_end=at_end):
                self._take(kind, strict_loads(body))
        except Exception as error:  # a frame can hold anything: each error of reading it is the version's
            self.pipe_error = TerminalModelError(f"its process sent a malformed report: {error}")
            self.child.kill(signal.SIGKILL)
        for line in self.child.lines(at_end=at_end):
            name, level, self.last_line = log_record_of(line) or (_PRINT_LOGGER, logging.INFO, line)
            self._log_line(name, level, self.last_line)

    def enforce_deadline(self, now: float) -> None:
        """Terminate a process that is past its deadline; kill it if it has been terminated before."""
        if now < self.deadline:
            return
        self.is_overdue = self.is_overdue or not self.is_done
        self.child.kill(signal.SIGKILL if self.was_terminated else signal.SIGTERM)
        self.was_terminated, self.deadline = True, now + GRACE_S

    def enforce_disk(self, now: float) -> None:
        """Kill a process whose files take more than it may write; they are counted once a second."""
        if self.limits.disk_bytes is None or now - self._disk_counted_at < _DISK_POLL_S:
            return
        self._disk_counted_at = now
        if self.folder.takes_more_than(self.limits.disk_bytes):
            self.is_disk_used_up = True
            self.child.kill(signal.SIGKILL)

    def failure(self) -> Exception | None:
        """Return the error that explains why the last job has no result; None if it has one."""
        if self.pipe_error is not None:
            return self.pipe_error
        if self.is_disk_used_up:
            mib = (self.limits.disk_bytes or 0) / 2**20
            return TerminalModelError(f"its files took more than the {mib:g} MiB that it may write")
        if self.is_overdue:
            return TransientModelError(f"it had not ended after {self.limits.timeout_s:g} s and was ended")
        if self.is_done or (self.results and not self.child.status):  # it left the others on purpose
            return None
        status, last_line = self.child.status or 0, f": {self.last_line}" if self.last_line else ""
        if status < 0:
            name = signal.Signals(-status).name
            return TransientModelError(f"its process was ended by {name} before it had a result{last_line}")
        return TerminalModelError(
            f"its process exited with status {status} before it had a result{last_line}"
        )

    def close(self) -> None:
        """End the process if it has not ended, and close its pipes and its files."""
        self.child.end()
        self.child.close()
        for file in self.files:
            file.close()
        self.folder.remove()

    def _take(self, kind: bytes, values: Any) -> None:  # Any: JSON
        if kind == LOG:
            self._log_line(str(values["name"]), int(values["level"]), str(values["text"]))
        elif kind == BACKEND and self.backend is None:
            self.backend = values
        elif kind == RESULT and not self.is_done:
            self.results.append(values)
            self.deadline = time.monotonic() + (GRACE_S if self.is_done else self.limits.timeout_s)

    def _log_line(self, name: str, level: int, text: str) -> None:
        self.line_count += 1
        if self.line_count <= MAX_LINES and (logger := run_logger(name)).isEnabledFor(level):
            # Half of a surrogate pair is escaped: not every handler can write it.
            logger.log(level, "%s", text.encode(errors="backslashreplace").decode())


def _work(
    jobs: Sequence[Job],
    child_store: ChildStore,
    limits: ProcessLimits,
    files: Sequence[IO[bytes]],
    writer: FrameWriter,
) -> None:
    """Run the version in the child, once for each job, and send each result to the parent."""
    job = jobs[0]
    with ExitStack() as stack:
        try:
            access = stack.enter_context(child_store.access(limits, partial(writer.send, BACKEND)))
        except Exception as error:
            spooling = _SpoolingStore(child_store, None, files[0], writer)
            nothing_ran = not_run_report(job.version, Outcome.FAILED, "")
            record_failure(spooling, job.model, nothing_ran, job.cycle, error)
            return
        for job, file in zip(jobs, files, strict=True):
            nothing_ran = not_run_report(job.version, Outcome.FAILED, "")
            store = _SpoolingStore(child_store, access, file, writer)
            with limits_restored():
                try:
                    run_job(job, store, access.database(job.cycle))
                except MemoryError as error:  # so little was left that the failure could not be stored
                    free_memory_reserve()
                    record_failure(store, job.model, nothing_ran, job.cycle, error)
                    return
