"""Versions in processes of their own: what goes wrong in one is in its report, and nowhere else."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from tests.engine.conftest import Bench, ListStore, fails, model, one_output, outcomes

from airflow_detection.domain.reports import CycleSummary, RunReport
from airflow_detection.domain.specs import Outcome
from airflow_detection.engine.executor import CycleReport
from airflow_detection.engine.isolation.report_json import MalformedReport, report_json, report_of
from airflow_detection.engine.isolation.runner import Access, ProcessLimits, SubprocessRunner
from airflow_detection.engine.model import ModelContext, ModelResult

RAN, FAILED = Outcome.SUCCEEDED, Outcome.FAILED
Script = Callable[[ModelContext], Any]


@dataclass
class ListChildStore:
    """Keeps in lists of this process what children encode as JSON lines."""

    store: ListStore = field(default_factory=ListStore)
    ended: list[Any] = field(default_factory=list)

    @contextmanager
    def access(self, limits: ProcessLimits, tell_backend: Callable[[Any], None]) -> Iterator[Access]:
        tell_backend({"pid": os.getpid()})
        yield Access(upstream=self.store.upstream)

    def spool(self, file: IO[bytes], model: Any, outputs: Iterable[Any]) -> Mapping[str, Any]:
        count = 0
        for ref, out in outputs:
            file.write(json.dumps([dict(ref), dict(out)]).encode() + b"\n")
            count += 1
        file.flush()
        return {"count": count}

    def save(
        self, file: IO[bytes], spool_facts: Any, model: Any, cycle: Any, report: Any, metrics: Any
    ) -> Any:
        file.seek(0)
        rows = [tuple(json.loads(line)) for line in file]
        assert len(rows) == spool_facts["count"]
        self.store.save(model, report.version, cycle, rows, lambda _: (report, metrics))
        return report

    def save_failure(self, model: Any, version: Any, cycle: Any, report: RunReport) -> None:
        self.store.save_failure(model, version, cycle, report)

    def end(self, backend: Any) -> None:
        self.ended.append(backend)


@dataclass
class IsolatedBench(Bench):
    """Runs each version in a process of its own."""

    limits: ProcessLimits = field(default_factory=lambda: ProcessLimits(timeout_s=20))
    child_store: ListChildStore = field(default_factory=ListChildStore)
    log_context: Any = None

    def run(self, *models: Any, **options: Any) -> CycleReport:
        self.store = self.child_store.store
        runner = SubprocessRunner(self.child_store, lambda _: self.limits, self.log_context)
        return super().run(*models, **{"runner": runner, **options})


@pytest.fixture
def isolated(cycle: Any) -> IsolatedBench:
    return IsolatedBench(cycle)


def hangs(ctx: ModelContext) -> ModelResult:
    time.sleep(60)
    return ModelResult()


def hangs_and_ignores_sigterm(ctx: ModelContext) -> ModelResult:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hangs(ctx)


def exits(ctx: ModelContext) -> ModelResult:
    os._exit(3)


def kills_itself(ctx: ModelContext) -> ModelResult:
    os.kill(os.getpid(), signal.SIGKILL)
    return ModelResult()


def interrupts(ctx: ModelContext) -> ModelResult:
    raise KeyboardInterrupt


def writes_everywhere(ctx: ModelContext) -> ModelResult:
    for fd in range(3, 64):
        try:
            os.write(fd, b"this is not a frame at all, whoever reads it")
        except OSError:
            continue
    return ModelResult()


def report_of_failure(isolated: IsolatedBench, script: Script) -> RunReport:
    report = isolated.run(model("a", shadows=["2"]), model("b", reads=["a"]), scripts={"a@2": script})
    assert outcomes(report) == {"a@1": RAN, "a@2": FAILED, "b@1": RAN}
    assert isolated.store.manifests["a@2"].outcome is FAILED
    assert "a@2" not in isolated.store.outputs
    return isolated.store.manifests["a@2"]


def test_what_is_stored_is_the_same_as_in_one_process(isolated: IsolatedBench, bench: Bench) -> None:
    models = [model("a", shadows=["2"]), model("b", reads=["a"], shadows=["2", "3"])]

    def counts(ctx: ModelContext) -> ModelResult:
        seen = len(ctx.shared["a"])
        return ModelResult(outputs_per_input=[({"id": seen}, {"score": 1.0})], metrics={"seen": seen})

    scripts = {"b@1": counts, "b@2": counts}
    forked, in_process = isolated.run(*models, scripts=scripts), bench.run(*models, scripts=scripts)
    assert outcomes(forked) == outcomes(in_process)
    assert forked.summary == in_process.summary
    assert isolated.store.outputs == bench.store.outputs
    assert isolated.store.metrics["b@2"]["seen"] == bench.store.metrics["b@2"]["seen"] == 1


@pytest.mark.parametrize("script", [hangs, hangs_and_ignores_sigterm])
def test_a_version_that_hangs_is_ended_at_its_time_and_the_cycle_goes_on(
    isolated: IsolatedBench, script: Script
) -> None:
    isolated.limits = ProcessLimits(timeout_s=0.4)
    began = time.monotonic()
    manifest = report_of_failure(isolated, script)
    assert manifest.error == "TransientModelError: it had not ended after 0.4 s and was ended"
    assert manifest.duration_ms > 400
    assert time.monotonic() - began < 10
    assert len(isolated.child_store.ended) == 1


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (fails, "ValueError: no luck"),
        (exits, "TerminalModelError: its process exited with status 3 before it had a result"),
        (kills_itself, "TransientModelError: its process was ended by SIGKILL before it had a result"),
        (
            interrupts,
            "TerminalModelError: its process exited with status 1 before it had a result: KeyboardInterrupt",
        ),
    ],
)
def test_a_version_that_leaves_has_failed_with_the_reason(
    isolated: IsolatedBench, script: Script, reason: str
) -> None:
    error = report_of_failure(isolated, script).error or ""
    assert error == reason or (script is interrupts and error.startswith(reason))


def test_a_malformed_frame_is_a_failure(isolated: IsolatedBench) -> None:
    assert "its process sent a malformed report: frame begins with" in (
        report_of_failure(isolated, writes_everywhere).error or ""
    )


def test_a_version_that_takes_too_much_memory_fails_with_the_bound(isolated: IsolatedBench) -> None:
    isolated.limits = ProcessLimits(timeout_s=20, memory_bytes=48 * 2**20)

    def large_objects(ctx: ModelContext) -> ModelResult:
        objects = []
        while True:
            objects.append(bytes(100_000))

    def small_objects(ctx: ModelContext) -> ModelResult:
        nested: list[Any] = []
        while True:
            nested = [nested, len(nested)]

    assert report_of_failure(isolated, large_objects).error == "MemoryError: it may allocate 48 MiB"
    assert report_of_failure(isolated, small_objects).error == "MemoryError: it may allocate 48 MiB"


def test_nothing_that_the_parent_has_open_is_in_reach(isolated: IsolatedBench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def intrudes(ctx: ModelContext) -> ModelResult:
            os.write(theirs.fileno(), b"a goodbye")  # what a driver's destructor would do
            theirs.close()
            return ModelResult()

        report = isolated.run(model("a"), scripts={"a@1": intrudes})
        assert outcomes(report) == {"a@1": RAN}
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):  # neither a byte nor an end
            ours.recv(100)


def test_the_standard_streams_are_the_childs_own(
    isolated: IsolatedBench, caplog: pytest.LogCaptureFixture
) -> None:
    def prints(ctx: ModelContext) -> ModelResult:
        assert not sys.stdin.read()
        print("printed")
        print("no end of line", end="")
        os.write(2, b"from C\n")
        return ModelResult()

    with caplog.at_level(logging.INFO):
        assert outcomes(isolated.run(model("a"), scripts={"a@1": prints})) == {"a@1": RAN}
    assert {"printed", "no end of line", "from C"} <= set(caplog.messages)


def test_each_line_says_whose_it_is(isolated: IsolatedBench, caplog: pytest.LogCaptureFixture) -> None:
    entered: list[Mapping[str, str]] = []

    @contextmanager
    def log_context(facts: Mapping[str, str]) -> Iterator[None]:
        entered.append(facts)
        yield

    def logs(ctx: ModelContext) -> ModelResult:
        ctx.log.info("through the context")
        logging.getLogger("acme").warning("with a logger of %s own", "its")
        logging.getLogger("acme").warning("half of a character: \ud800")
        raise ValueError("and an error")

    isolated.log_context = log_context
    with caplog.at_level(logging.INFO):
        isolated.run(model("a", shadows=["2"]), scripts={"a@2": logs})
    facts = {
        "cycle": "c 2020-01-01T12:00:00+00:00", "model": "a", "version": "2", "role": "SHADOW",
    }  # fmt: skip
    lines = {r.getMessage(): r for r in caplog.records}
    failure = next(text for text in lines if text.startswith("a@2 failed: ValueError: and an error"))
    assert "Traceback" in failure
    assert "half of a character: \\ud800" in lines, "as every handler can write it"
    for text in ("through the context", "with a logger of its own", failure):
        assert {key: getattr(lines[text], key) for key in facts} == facts
    assert lines["with a logger of its own"].name == "acme"
    assert facts in entered


def test_the_engines_own_lines_say_whose_they_are_in_one_process_too(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.run(model("a"), scripts={"a@1": fails})
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert (record.__dict__["model"], record.__dict__["role"]) == ("a", "PRIMARY")


def test_a_version_that_never_stops_talking_costs_its_lines_alone(
    isolated: IsolatedBench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_detection.engine.isolation.runner.MAX_LINES", 10)

    def logs_without_end(ctx: ModelContext) -> ModelResult:
        for number in range(25):
            ctx.log.warning("line %d", number)
        return ModelResult()

    isolated.run(model("a"), scripts={"a@1": logs_without_end})
    assert sum(m.startswith("line ") for m in caplog.messages) == 10
    assert "15 log lines were left out" in caplog.messages


def test_at_most_four_shadows_run_at_once_and_four_do(isolated: IsolatedBench) -> None:
    def timed(ctx: ModelContext) -> ModelResult:
        began = time.monotonic()
        time.sleep(0.3)
        return ModelResult(metrics={"began": began, "ended": time.monotonic()})

    versions = [str(n) for n in range(2, 10)]
    scripts = {f"a@{v}": timed for v in versions}
    report = isolated.run(model("a", shadows=versions), scripts=scripts, concurrent_shadows=True)
    assert report.summary == CycleSummary(executed=1, shadow_ran=8)
    spans = [(m["began"], m["ended"]) for label, m in isolated.store.metrics.items() if label in scripts]
    max_running = max(sum(b <= at < e for b, e in spans) for at, _ in spans)
    assert max_running == 4


def test_what_a_version_has_started_ends_with_it(isolated: IsolatedBench, tmp_path: Path) -> None:
    def starts(ctx: ModelContext) -> ModelResult:
        sleeper = subprocess.Popen(["sleep", "60"])
        (tmp_path / "pid").write_text(str(sleeper.pid))
        os._exit(0)

    report_of_failure(isolated, starts)
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_a_process_that_left_its_session_ends_with_it_and_others_do_not(
    isolated: IsolatedBench, tmp_path: Path
) -> None:
    def leaves_a_daemon(ctx: ModelContext) -> ModelResult:
        if os.fork() == 0:
            os.setsid()
            if (pid := os.fork()) == 0:
                time.sleep(60)
            (tmp_path / "pid").write_text(str(pid))
            os._exit(0)
        os.wait()
        return ModelResult()

    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        report = isolated.run(model("a", shadows=["2"]), scripts={"a@2": leaves_a_daemon})
        assert outcomes(report) == {"a@1": RAN, "a@2": RAN}
        assert has_ended(int((tmp_path / "pid").read_text()))
        assert len(isolated.child_store.ended) == 1, "its server process may still be at work"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_fork_of_a_version_reports_nothing(isolated: IsolatedBench) -> None:
    def forks(ctx: ModelContext) -> ModelResult:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return ModelResult(metrics={"is_parent": int(pid > 0)})

    isolated.run(model("a"), scripts={"a@1": forks})
    assert isolated.store.metrics["a@1"]["is_parent"] == 1


def has_ended(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_task_that_is_interrupted_leaves_no_process(isolated: IsolatedBench, tmp_path: Path) -> None:
    class Interrupted(BaseException):
        pass

    @contextmanager
    def log_context(facts: Mapping[str, str]) -> Iterator[None]:
        if (tmp_path / "pid").exists():
            raise Interrupted
        yield

    def writes_its_pid(ctx: ModelContext) -> ModelResult:
        (tmp_path / "part").write_text(str(os.getpid()))
        (tmp_path / "part").rename(tmp_path / "pid")  # whole, when it is there
        ctx.log.warning("here")
        return hangs(ctx)

    isolated.log_context = log_context
    with pytest.raises(Interrupted):
        isolated.run(model("a"), scripts={"a@1": writes_its_pid})
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_a_version_dies_with_a_task_that_is_killed(isolated: IsolatedBench, tmp_path: Path) -> None:
    def writes_its_pid(ctx: ModelContext) -> ModelResult:
        (tmp_path / "part").write_text(str(os.getpid()))
        (tmp_path / "part").rename(tmp_path / "pid")
        return hangs(ctx)

    task = os.fork()
    if task == 0:
        isolated.run(model("a"), scripts={"a@1": writes_its_pid})
        os._exit(0)
    while not (tmp_path / "pid").exists():
        time.sleep(0.02)
    os.kill(task, signal.SIGKILL)
    os.waitpid(task, 0)
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_threads_of_the_task_are_no_obstacle(isolated: IsolatedBench) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert outcomes(isolated.run(model("a"))) == {"a@1": RAN}
    finally:
        stop.set()
        thread.join()


def test_a_child_without_access_fails_alone(isolated: IsolatedBench) -> None:
    class Unavailable(ListChildStore):
        def access(self, limits: ProcessLimits, tell_backend: Any) -> Any:
            raise OSError("the database is away")

    isolated.child_store = Unavailable()
    report = isolated.run(model("a"), model("b"))
    assert [r.error for r in report.reports] == ["OSError: the database is away"] * 2
    assert all(r.is_transient for r in report.reports)


def test_a_descriptor_is_given_back_for_each_that_was_taken(isolated: IsolatedBench) -> None:
    isolated.run(model("a", shadows=["2"]), scripts={"a@2": exits})
    before = len(list(Path("/proc/self/fd").iterdir()))
    isolated.run(model("a", shadows=["2", "3", "4"]), scripts={"a@2": exits}, concurrent_shadows=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_report_survives_the_pipe(isolated: IsolatedBench) -> None:
    (report,) = isolated.run(model("a"), scripts={"a@1": one_output}).reports
    assert report_of(json.loads(json.dumps(report_json(report))), report.version) == report


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "WON"},
        {"output_count": -1},
        {"output_count": True},
        {"duration_ms": float("nan")},
        {"started_at": "2020-01-01T00:00:00"},
        {"canaries": [{}]},
        {"stage_ms": {"run": "long"}},
        {"peak_memory_bytes": 0},
        {"peak_memory_bytes": 1.5},
        {"more": 1},
    ],
)
def test_a_malformed_report_is_refused(isolated: IsolatedBench, change: dict[str, Any]) -> None:
    (report,) = isolated.run(model("a")).reports
    with pytest.raises(MalformedReport):
        report_of(report_json(report) | change, report.version)
    with pytest.raises(MalformedReport):
        report_of([], report.version)
