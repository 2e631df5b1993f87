"""`make demo` as its user runs it: real processes, a real Airflow, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest
import yaml
from demo import postgres
from demo.api import Airflow
from demo.clean import clean
from demo.detection import MODELS
from demo.programs import Supervisor
from demo.settings import free_port
from demo.state import open_state
from demo.supervisor import is_alive

CHECKOUT = Path(__file__).resolve().parents[2]
CYCLES = 2
VERSIONS = [
    (model_id, version)
    for model_id, model in yaml.safe_load(MODELS.read_text())["models"].items()
    for version in model["versions"]
]
RUN_TIMEOUT_S = 900.0
"""Ends a demo that hangs; how fast it is decides nothing."""
END_TIMEOUT_S = 120.0
REPORTED_S = 6.0
"""In the first five seconds an answer comes before Airflow's executor has reported the task."""

pytestmark = pytest.mark.e2e


@dataclass(slots=True)
class DemoProcess:
    """A demo that was started; `session` is the session of every process that it starts."""

    process: subprocess.Popen[str]
    state: Path
    output: Path
    session: int = field(default=-1)

    def text(self) -> str:
        return self.output.read_text()

    def wait(self, has_happened: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not has_happened():
            with suppress(OSError, IndexError):
                self.session = int((self.state / "pids").read_text().split()[1])
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def wait_for(self, text: str) -> None:
        self.wait(lambda: text in self.text() or self.process.poll() is not None, RUN_TIMEOUT_S)
        assert text in self.text()

    def wait_for_exit(self) -> int:
        self.wait(lambda: self.process.poll() is not None, RUN_TIMEOUT_S)
        return self.process.returncode

    def survivors(self) -> list[str]:
        """Name every running process in the demo's session, or with its state directory in an argument."""
        assert self.session > 0
        return [str(process) for process in psutil.process_iter() if self._owns(process)]

    def airflow_processes(self) -> int:
        return sum("airflow" in " ".join(line) for line in map(self._command_line, psutil.process_iter()))

    def _command_line(self, process: psutil.Process) -> list[str]:
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == self.session:
                return process.cmdline()
        return []

    def _owns(self, process: psutil.Process) -> bool:
        try:
            arguments = process.cmdline()
            in_session = os.getsid(process.pid) == self.session
        except (psutil.Error, OSError):
            return False
        return is_alive(process) and (
            in_session or any(str(self.state) in argument for argument in arguments)
        )


def environment(state: Path, **options: str) -> dict[str, str]:
    unset = {"AIS", "CYCLES", "DSN", "ONCE", "PORT"}
    own = {name: value for name, value in os.environ.items() if name not in unset}
    return {**own, "STATE": str(state), "PORT": str(free_port()), **options}


@contextmanager
def demo(state: Path, **options: str) -> Iterator[DemoProcess]:
    output = state.with_name(f"{state.name}.txt")
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=CHECKOUT,
            env=environment(state, **options),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = DemoProcess(process, state, output)
    try:
        yield running
    finally:
        process.terminate()
        process.wait(END_TIMEOUT_S * 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DemoProcess:
    """One whole demo over simulated positions, ended."""
    state = tmp_path_factory.mktemp("demo") / "state"
    with demo(state, ONCE="1", CYCLES=str(CYCLES)) as run:
        run.wait_for_exit()
    return run


def test_a_demo_ends_with_0_when_every_version_of_every_cycle_succeeded(finished: DemoProcess) -> None:
    assert finished.process.returncode == 0, finished.text()
    assert finished.text().count(f" {CYCLES} SUCCEEDED ") == len(VERSIONS)
    assert "all ended as they should" in finished.text()


def test_the_maintenance_dag_ran_for_every_hour_beside_the_cycles(finished: DemoProcess) -> None:
    lines = [line.split() for line in finished.text().splitlines() if " backfill " in line]
    runs = [cells for cells in lines if cells[2:3] == ["backfill"]]
    assert [cells[1] for cells in runs] == ["23:00", "00:00"]  # the last two cycles of the simulated day
    assert [cells[3] for cells in runs] == ["success", "success"]


def test_the_report_of_the_last_hour_has_every_version_and_none_in_trouble(finished: DemoProcess) -> None:
    report = finished.text().rsplit("report ", 1)[1].split("all of that report", 1)[0]
    # two cycles are too few to compare with
    assert report.count("WARMING_UP") == len(VERSIONS), finished.text()
    assert "in trouble" not in report
    assert "airflow detection snapshot --at 2025-01-02T00:00Z" in finished.text()


def test_what_a_demo_prints_fits_into_110_columns(finished: DemoProcess) -> None:
    assert [line for line in finished.text().splitlines() if len(line) > 110] == []


def test_every_cycle_has_a_manifest_of_every_version(finished: DemoProcess) -> None:
    saved = open_state(finished.state)
    query = (
        "select count(*), count(distinct cycle_started_at), count(distinct version_id)"
        " from detection.detection_model_runs"
        " where cycle_started_at < '2026-01-01Z' and outcome = 'SUCCEEDED'"
    )
    with Supervisor(finished.state / "logs", finished.state / "pids") as supervisor:
        databases = postgres.embedded(
            supervisor,
            finished.state,
            port=free_port(),
            password=saved.postgres_password,
            login_password=saved.login_password,
        )
        with psycopg.connect(databases.registry) as conn:
            assert conn.execute(query).fetchone() == (CYCLES * len(VERSIONS), CYCLES, len(VERSIONS))


def test_the_comparison_and_the_gate_are_shown(finished: DemoProcess) -> None:
    shown = " ".join(finished.text().split("comparison ", 1)[1].split())
    beside = re.match(r"spoofing@2\.0 beside spoofing@1\.0, (\d+) cycles ", shown)
    assert beside is not None
    assert int(beside[1]) >= CYCLES, "those that the schedule has started since count, too"
    assert "beside 192 labels found false alarms missed precision recall" in shown
    for condition in ("cycles", "coverage", "alert volume", "duration", "verdicts", "canaries", "evidence"):
        assert f" {condition} passed " in shown
    assert "8 pairs won and 0 lost of 192" in shown
    assert "spoofing@2.0: the gate has passed" in shown


def test_a_demo_that_ends_by_itself_asks_nobody(finished: DemoProcess) -> None:
    assert "waits for" not in finished.text()


@pytest.mark.long
def test_a_promotion_waits_at_the_end_for_a_second_user(finished: DemoProcess) -> None:
    """A user who cannot approve has asked; the last lines say who can, and where; what he answers holds."""
    with demo(finished.state, CYCLES=str(CYCLES)) as run:
        run.wait_for("/plugin/detection")
        last = run.text().rsplit("sign in   ", 1)[1]
        password = last.split("password ")[1].split()[0]
        page = next(line for line in last.splitlines() if "required_actions" in line).strip()
        assert last.splitlines()[-1].strip().startswith("open "), "the pages are the last line"
        assert "sign in as ben and choose Approve (ana asked for it, and cannot)" in last
        address, _, path = page.partition("/dags/")
        dag_id, _, run_id, _, task_id, _ = path.split("/")
        ben = Airflow(address, "ben", password)
        task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        assert "spoofing@2.0" in ben._call("GET", f"{task}/-1/hitlDetails")["subject"]
        time.sleep(REPORTED_S)
        ben._call("PATCH", f"{task}/-1/hitlDetails", {"chosen_options": ["Approve"], "params_input": {}})
        run.wait(lambda: ben._call("GET", task)["state"] == "success", RUN_TIMEOUT_S)
        run.process.send_signal(signal.SIGINT)
        run.wait_for_exit()
    assert run.survivors() == []
    assert str(finished.state / "passwords.json") not in run.text()
    assert (finished.state / "passwords.json").stat().st_mode & 0o077 == 0


@pytest.mark.long
def test_a_demo_after_that_leaves_the_champion_that_was_approved(finished: DemoProcess) -> None:
    with demo(finished.state, CYCLES="1", ONCE="1") as run:
        assert run.wait_for_exit() == 0, run.text()
    assert "spoofing@2.0 by promotion" in " ".join(run.text().split())


def test_a_finished_demo_leaves_no_process(finished: DemoProcess) -> None:
    assert finished.survivors() == []


def test_the_file_to_source_is_private_and_reaches_airflow(finished: DemoProcess) -> None:
    file = finished.state / "env"
    assert file.stat().st_mode & 0o077 == 0
    output = subprocess.run(
        ["bash", "-c", f'. "{file}" && echo "$AIRFLOW_HOME" && echo "$DETECTION_DSN" && command -v airflow'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    home, dsn, airflow = output.stdout.split()
    assert home == str(finished.state / "airflow")
    assert dsn.startswith("postgresql://")
    assert Path(airflow).parent == Path(sys.executable).parent


@pytest.mark.parametrize(
    ("signum", "processes"),
    [(signal.SIGINT, 6), (signal.SIGTERM, 1), (signal.SIGKILL, 4)],  # four servers, which have children later
    ids=["SIGINT", "SIGTERM", "SIGKILL"],
)
def test_a_demo_that_is_ended_half_way_leaves_no_process(
    finished: DemoProcess, signum: signal.Signals, processes: int
) -> None:
    with demo(finished.state, CYCLES=str(CYCLES)) as run:
        run.wait_for("Airflow's metadata")
        run.wait(lambda: run.airflow_processes() >= processes, RUN_TIMEOUT_S)
        run.process.send_signal(signum)
        code = run.wait_for_exit()
        run.wait(lambda: run.survivors() == [], END_TIMEOUT_S)
    assert code == (-signal.SIGKILL if signum == signal.SIGKILL else 130)
    assert "Traceback" not in run.text()


def test_a_second_demo_in_the_same_place_is_refused(finished: DemoProcess) -> None:
    with demo(finished.state, CYCLES=str(CYCLES)) as run:
        run.wait_for("PostgreSQL")
        assert error_of(finished.state) == f"error: a demo is already running in {finished.state}"
        run.process.send_signal(signal.SIGINT)
        run.wait_for_exit()


def error_of(state: Path, **options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=CHECKOUT, env=environment(state, **options), capture_output=True, text=True, check=False,
        timeout=RUN_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = error_of(tmp_path / "state", PORT=str(port))
    assert error == f"error: port {port} on 127.0.0.1 is in use; name another one with PORT="


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("AIS", "/nowhere/positions.csv", "error: AIS=/nowhere/positions.csv: there is no such file"),
        ("CYCLES", "some", "error: CYCLES=some is not a number from 1 to 288"),
        ("PORT", "99999", "error: PORT=99999 is not a number from 1 to 65535"),
    ],
)
def test_an_option_that_is_not_valid_is_one_line(tmp_path: Path, name: str, value: str, error: str) -> None:
    assert error_of(tmp_path / "state", **{name: value}) == error
    assert not (tmp_path / "state").exists()


def test_an_unreachable_database_is_one_line(tmp_path: Path) -> None:
    error = error_of(tmp_path / "state", DSN=f"postgresql://nobody@127.0.0.1:{free_port()}/x")
    assert error.startswith("error: DSN: connection failed")


@pytest.mark.parametrize("content", [b"", b"this,is,no\nais,file,1\n", b"\x1f\x8bgarbage"])
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "positions.csv"
    broken.write_bytes(content)
    assert "positions.csv" in error_of(tmp_path / "state", AIS=str(broken))


def test_cleaning_removes_the_state_and_refuses_other_directories(tmp_path: Path) -> None:
    state = tmp_path / "state"
    open_state(state)
    assert clean(state) == f"{state} removed"
    assert not state.exists()
    (state / "precious").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "demo.clean"],
        cwd=CHECKOUT, env=environment(state), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {state} holds no demo, so it was left as it is"
    assert (state / "precious").exists()
