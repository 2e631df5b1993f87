"""`make demo` as its user runs it: real processes, a real Airflow, and nothing left behind."""

from __future__ import annotations

import os
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
RUN_TIMEOUT_S = 240.0
END_TIMEOUT_S = 30.0

pytestmark = pytest.mark.e2e


@dataclass(slots=True)
class Demo:
    """A demo that was started; `session` is the session that everything it starts sits in."""

    process: subprocess.Popen[str]
    state: Path
    output: Path
    session: int = field(default=-1)

    def text(self) -> str:
        return self.output.read_text()

    def wait(self, what: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not what():
            with suppress(OSError, IndexError):
                self.session = int((self.state / "pids").read_text().split()[1])
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def wait_for(self, words: str) -> None:
        self.wait(lambda: words in self.text() or self.process.poll() is not None, RUN_TIMEOUT_S)
        assert words in self.text()

    def wait_for_exit(self) -> int:
        self.wait(lambda: self.process.poll() is not None, RUN_TIMEOUT_S)
        return self.process.returncode

    def survivors(self) -> list[str]:
        """Name every living process of the demo: in its session, or with its state directory in its words."""
        assert self.session > 0
        return [str(process) for process in psutil.process_iter() if self._owns(process)]

    def airflow_processes(self) -> int:
        return sum("airflow" in " ".join(words) for words in map(self._words, psutil.process_iter()))

    def _words(self, process: psutil.Process) -> list[str]:
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == self.session:
                return process.cmdline()
        return []

    def _owns(self, process: psutil.Process) -> bool:
        try:
            words = process.cmdline()
            in_session = os.getsid(process.pid) == self.session
        except (psutil.Error, OSError):
            return False
        return is_alive(process) and (in_session or any(str(self.state) in word for word in words))


def environment(state: Path, **wishes: str) -> dict[str, str]:
    unset = {"AIS", "CYCLES", "DSN", "ONCE", "PORT"}
    own = {name: value for name, value in os.environ.items() if name not in unset}
    return {**own, "STATE": str(state), "PORT": str(free_port()), **wishes}


@contextmanager
def demo(state: Path, **wishes: str) -> Iterator[Demo]:
    output = state.with_name(f"{state.name}.txt")
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=CHECKOUT,
            env=environment(state, **wishes),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = Demo(process, state, output)
    try:
        yield running
    finally:
        process.terminate()
        process.wait(END_TIMEOUT_S * 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """One whole demo over simulated positions, ended."""
    state = tmp_path_factory.mktemp("demo") / "state"
    with demo(state, ONCE="1", CYCLES=str(CYCLES)) as run:
        run.wait_for_exit()
    return run


def test_a_demo_ends_with_0_when_every_version_of_every_cycle_succeeded(finished: Demo) -> None:
    assert finished.process.returncode == 0, finished.text()
    assert finished.text().count(f" {CYCLES} SUCCEEDED ") == len(VERSIONS)
    assert "all ended as they should" in finished.text()


def test_the_maintenance_dag_ran_for_every_hour_beside_the_cycles(finished: Demo) -> None:
    lines = [line.split() for line in finished.text().splitlines() if " backfill " in line]
    runs = [words for words in lines if words[2:3] == ["backfill"]]
    assert [words[1] for words in runs] == ["23:00", "00:00"]  # the last two cycles of the simulated day
    assert [words[3] for words in runs] == ["success", "success"]


def test_the_report_of_the_last_hour_has_every_version_and_none_in_trouble(finished: Demo) -> None:
    told = finished.text().rsplit("report ", 1)[1].split("all of that report", 1)[0]
    # two cycles are too few to compare with
    assert told.count("WARMING_UP") == len(VERSIONS), finished.text()
    assert "in trouble" not in told
    assert "airflow detection snapshot --at 2025-01-02T00:00Z" in finished.text()


def test_what_a_demo_prints_fits_into_110_columns(finished: Demo) -> None:
    assert [line for line in finished.text().splitlines() if len(line) > 110] == []


def test_every_cycle_has_a_manifest_of_every_version(finished: Demo) -> None:
    remembered = open_state(finished.state)
    query = (
        "select count(*), count(distinct cycle_started_at), count(distinct version_id)"
        " from detection.detection_model_runs"
        " where cycle_started_at < '2026-01-01Z' and outcome = 'SUCCEEDED'"
    )
    with Supervisor(finished.state / "logs", finished.state / "pids") as keeper:
        databases = postgres.embedded(
            keeper, finished.state, port=free_port(), password=remembered.postgres_password
        )
        with psycopg.connect(databases.registry) as conn:
            assert conn.execute(query).fetchone() == (CYCLES * len(VERSIONS), CYCLES, len(VERSIONS))


def test_a_finished_demo_leaves_no_process(finished: Demo) -> None:
    assert finished.survivors() == []


def test_the_file_to_source_is_private_and_reaches_airflow(finished: Demo) -> None:
    file = finished.state / "env"
    assert file.stat().st_mode & 0o077 == 0
    shown = subprocess.run(
        ["bash", "-c", f'. "{file}" && echo "$AIRFLOW_HOME" && echo "$DETECTION_DSN" && command -v airflow'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    home, dsn, airflow = shown.stdout.split()
    assert home == str(finished.state / "airflow")
    assert dsn.startswith("postgresql://")
    assert Path(airflow).parent == Path(sys.executable).parent


@pytest.mark.parametrize(
    ("signum", "processes"),
    [(signal.SIGINT, 6), (signal.SIGTERM, 1), (signal.SIGKILL, 4)],  # four servers, which then have children
    ids=["SIGINT", "SIGTERM", "SIGKILL"],
)
def test_a_demo_that_is_ended_half_way_leaves_no_process(
    finished: Demo, signum: signal.Signals, processes: int
) -> None:
    with demo(finished.state, CYCLES=str(CYCLES)) as run:
        run.wait_for("Airflow's metadata")
        run.wait(lambda: run.airflow_processes() >= processes, RUN_TIMEOUT_S)
        run.process.send_signal(signum)
        code = run.wait_for_exit()
        run.wait(lambda: run.survivors() == [], END_TIMEOUT_S)
    assert code == (-signal.SIGKILL if signum == signal.SIGKILL else 130)
    assert "Traceback" not in run.text()


def test_a_second_demo_in_the_same_place_is_refused(finished: Demo) -> None:
    with demo(finished.state, CYCLES=str(CYCLES)) as run:
        run.wait_for("PostgreSQL")
        assert refusal(finished.state) == f"error: a demo is already running in {finished.state}"
        run.process.send_signal(signal.SIGINT)
        run.wait_for_exit()


def refusal(state: Path, **wishes: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=CHECKOUT, env=environment(state, **wishes), capture_output=True, text=True, check=False,
        timeout=RUN_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(tmp_path / "state", PORT=str(port))
    assert said == f"error: port {port} on 127.0.0.1 is in use; name another one with PORT="


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AIS", "/nowhere/positions.csv", "error: AIS=/nowhere/positions.csv: there is no such file"),
        ("CYCLES", "some", "error: CYCLES=some is not a number from 1 to 288"),
        ("PORT", "99999", "error: PORT=99999 is not a number from 1 to 65535"),
    ],
)
def test_a_wish_that_makes_no_sense_is_one_line(tmp_path: Path, name: str, value: str, said: str) -> None:
    assert refusal(tmp_path / "state", **{name: value}) == said
    assert not (tmp_path / "state").exists()


def test_an_unreachable_database_is_one_line(tmp_path: Path) -> None:
    said = refusal(tmp_path / "state", DSN=f"postgresql://nobody@127.0.0.1:{free_port()}/x")
    assert said.startswith("error: DSN: connection failed")


@pytest.mark.parametrize("content", [b"", b"this,is,no\nais,file,1\n", b"\x1f\x8bgarbage"])
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "positions.csv"
    broken.write_bytes(content)
    assert "positions.csv" in refusal(tmp_path / "state", AIS=str(broken))


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
