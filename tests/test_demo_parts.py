"""The parts of the demo that need neither a database nor an Airflow."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from demo.airflow_env import airflow_connection, process_environment, sqlalchemy_url
from demo.console import MAX_WIDTH, Screen
from demo.detection import SIMULATED_DAY, Result, last_cycles, simulate, statements
from demo.errors import DemoError
from demo.evidence import simulated_labels
from demo.maintenance import Run, hours_of
from demo.programs import Program, Supervisor, last_line
from demo.settings import free_port, read_settings
from demo.state import SavedState, locked, open_state, save_state, write_env
from rich.console import Console
from tests.maritime.conftest import cycle_at

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.maritime.ais.file import Layout, numbered_lines, open_text
from airflow_detection.maritime.models.spoofing import Spoofing
from airflow_detection.maritime.simulation.day import truth_path
from airflow_detection.snapshot.report import Standing


@pytest.mark.parametrize(
    ("newest", "last"),
    [("23:59:59", "00:00"), ("23:55:00", "23:55"), ("23:55:00.000001", "00:00"), ("00:00:01", "00:05")],
)
def test_the_last_cycle_is_the_newest_position_rounded_up(newest: str, last: str) -> None:
    cycles = last_cycles(datetime.fromisoformat(f"2020-01-01T{newest}Z"), 12, now=datetime.now(UTC))
    assert f"{cycles[-1]:%H:%M}" == last
    assert [later - earlier for earlier, later in pairwise(cycles)] == ([timedelta(minutes=5)] * 11)
    assert cycles[-1].tzinfo is UTC


@pytest.mark.parametrize("newest", ["12:04:00", "12:05:30", "23:59:59"])
def test_no_cycle_lies_after_now(newest: str) -> None:
    now = datetime(2020, 1, 1, 12, 4, tzinfo=UTC)
    cycles = last_cycles(datetime.fromisoformat(f"2020-01-01T{newest}Z"), 2, now=now)
    assert [f"{at:%H:%M}" for at in cycles] == ["11:55", "12:00"]


@pytest.mark.parametrize(
    ("first", "count", "hours"), [("23:05", 12, (23, 0)), ("23:00", 12, (23,)), ("23:59", 1, (23,))]
)
def test_maintenance_runs_for_every_hour_that_the_cycles_reach_into(
    first: str, count: int, hours: tuple[int, ...]
) -> None:
    start = datetime.fromisoformat(f"2020-01-01T{first}Z")
    ticks = hours_of([start + timedelta(minutes=5 * n) for n in range(count)])
    assert [(at.hour, at.minute, at.second) for at in ticks] == [(hour, 0, 0) for hour in hours]


def test_a_connection_string_becomes_sqlalchemys_and_airflows() -> None:
    dsn = "postgresql://an%40me:p%2Fw%20d@db.example:6432/my%20db?sslmode=require"
    assert sqlalchemy_url(dsn) == (
        "postgresql+psycopg://an%40me:p%2Fw%20d@/my%20db?host=db.example&port=6432&sslmode=require"
    )
    assert json.loads(airflow_connection(dsn)) == {
        "conn_type": "postgres", "host": "db.example", "port": 6432, "login": "an@me",
        "password": "p/w d", "schema": "my db", "extra": {"sslmode": "require"},
    }  # fmt: skip


def test_a_socket_directory_survives_both_forms() -> None:
    dsn = "postgresql://postgres@/detection?host=/run/some%20where"
    assert sqlalchemy_url(dsn) == "postgresql+psycopg://postgres@/detection?host=%2Frun%2Fsome+where"
    assert json.loads(airflow_connection(dsn))["host"] == "/run/some where"


def test_empty_options_are_the_defaults() -> None:
    port = str(free_port())
    settings = read_settings({"AIS": "", "CYCLES": "", "DSN": "", "ONCE": "", "PORT": port, "STATE": ""})
    assert (settings.ais, settings.cycles, settings.dsn, settings.once) == (None, 12, None, False)
    assert settings.state.name == ".demo"


@pytest.mark.parametrize(("text", "once"), [("1", True), ("yes", True), ("0", False), ("no", False)])
def test_once_is_a_yes_or_a_no(text: str, *, once: bool) -> None:
    assert read_settings({"ONCE": text, "PORT": str(free_port())}).once is once


def test_another_airflows_settings_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("KEPT", "1")
    env = process_environment({"AIRFLOW_HOME": "here"})
    assert "AIRFLOW__CORE__EXECUTOR" not in env
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert (env["KEPT"], env["AIRFLOW_HOME"]) == ("1", "here")


def test_the_saved_state_is_private_and_is_read_back(tmp_path: Path) -> None:
    first = open_state(tmp_path / "state")
    second = save_state(tmp_path / "state", SavedState(postgres_port=5))
    assert first.api_secret != second.api_secret
    assert open_state(tmp_path / "state") == second
    file = write_env(tmp_path / "state", {"A": "it's"}, tmp_path / "a b")
    assert "export A='it'\"'\"'s'" in file.read_text()
    for path in (file, tmp_path / "state" / "state.json"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_broken_state_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DemoError, match="is broken; `make demo-clean` removes it"):
        open_state(tmp_path)


def test_only_one_demo_holds_a_state_directory(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DemoError, match="already running"), locked(tmp_path):
        pass


def test_every_statement_has_a_name_and_an_intent() -> None:
    assert set(statements()) == {
        "metadata_revision", "last_position", "results", "vessels", "known_cases",
    }  # fmt: skip
    assert all(text.startswith("-- ") for text in statements().values())


def captured_screen() -> Screen:
    return Screen(Console(file=io.StringIO(), width=MAX_WIDTH, highlight=False))


def text_of(screen: Screen) -> str:
    assert isinstance(screen.console.file, io.StringIO)
    return screen.console.file.getvalue()


def result(minute: int, **changes: object) -> Result:
    defaults = {
        "cycle_started_at": datetime(2025, 1, 1, 23, minute, tzinfo=UTC),
        "model_id": "gear_identity_collision",
        "version": "1.0", "role": "PRIMARY", "outcome": "SUCCEEDED", "input_count": 4080, "output_count": 8,
        "duration_ms": 70.0, "is_new": True, "error": None,
    }  # fmt: skip
    return Result(**{**defaults, **changes})  # type: ignore[arg-type]  # the defaults have its types


def test_a_version_has_one_line_that_counts_each_outcome_of_its_cycles() -> None:
    screen = captured_screen()
    failed = {"outcome": "FAILED", "error": "no shorelines", "output_count": None}
    missing = {"outcome": None, "is_new": None}
    screen.results(
        [result(0), result(5), result(10, is_new=False), result(15, **failed), result(20, **missing)]
    )
    lines = [line.split() for line in text_of(screen).splitlines() if "gear_identity_collision" in line]
    assert lines[0][:3] == ["gear_identity_collision", "1.0", "PRIMARY"]
    output = " ".join(text_of(screen).split())
    for outcome in ("2 SUCCEEDED", "1 SUCCEEDED (old)", "1 FAILED", "1 NO MANIFEST"):
        assert outcome in output
    assert "1 x gear_identity_collision 1.0: no shorelines" in output


def test_the_report_has_a_line_for_each_model_with_the_verdict_of_each_version() -> None:
    screen = captured_screen()
    verdicts = [("PRIMARY", "1.0", "OK"), ("CHALLENGER", "2.0", "SILENT_FAULT"), ("SHADOW", "1.1", "OK")]
    standings = [
        Standing(
            model_id="spoofing", version=version, role=role, worst=worst, last="OK", is_bad=worst != "OK"
        )
        for role, version, worst in verdicts
    ]
    screen.report("1 of 3 versions is in trouble", standings, at=datetime(2025, 1, 2, tzinfo=UTC))
    assert "spoofing 1.0 OK 1.1 OK 2.0 SILENT_FAULT" in " ".join(text_of(screen).split())
    assert "airflow detection snapshot --at 2025-01-02T00:00Z" in text_of(screen)


def program(folder: Path, name: str, script: str) -> Program:
    return Program(
        name=name, argv=["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, cwd=str(folder),
        log=str(folder / f"{name}.log"),
    )  # fmt: skip


def test_a_program_that_fails_is_named_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    with Supervisor(tmp_path, tmp_path / "pids") as supervisor:
        good, bad = program(tmp_path, "good", "true"), program(tmp_path, "bad", "echo why; echo; exit 3")
        supervisor.start(good)
        supervisor.finish(good)
        supervisor.check()
        supervisor.start(bad)
        with pytest.raises(DemoError, match="the bad ended with code 3: why"):
            supervisor.finish(bad)


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with Supervisor(tmp_path, tmp_path / "pids") as supervisor:
        missing = Program(name="missing", argv=["/no/where"], env={}, cwd="/", log=str(tmp_path / "log"))
        with pytest.raises(DemoError, match=r"missing could not be started: .*No such file"):
            supervisor.start(missing)


def test_leaving_the_supervisor_ends_grandchildren_that_ignore_the_signal(tmp_path: Path) -> None:
    script = "trap '' TERM INT; (trap '' TERM INT; sleep 600) & echo $! > grandchild; wait"
    with Supervisor(tmp_path, tmp_path / "pids") as supervisor:
        child = supervisor.start(program(tmp_path, "stubborn", script))
        while not (pid_file := tmp_path / "grandchild").exists() or not pid_file.read_text().strip():
            supervisor.check()
        pids = [child, int(pid_file.read_text())]
    for pid in pids:
        status = Path(f"/proc/{pid}/status")
        assert not status.exists() or "State:\tZ" in status.read_text()


def test_the_last_line_that_is_not_blank() -> None:
    assert last_line("a\nb\n\n  \n") == "b"
    assert last_line("") == "it wrote nothing"
    assert len(last_line("x" * 999)) == 200


def test_the_challenger_of_the_demo_finds_what_its_champion_does_not(tmp_path: Path) -> None:
    path = simulate(tmp_path)
    with open_text(path) as text:
        lines = numbered_lines(text)
        layout = Layout.of_header(next(lines)[1], path)
        positions = [layout.position(line) for _, line in lines]
    end = SIMULATED_DAY + timedelta(days=1)
    rows = [
        {
            "mmsi": p.mmsi, "observed_s": p.observed_at.timestamp(), "lat": p.lat, "lon": p.lon,
            "sog_kn": p.sog_kn, "vessel_type": p.vessel_type,
        }
        for p in positions if end - timedelta(hours=1) <= p.observed_at < end
    ]  # fmt: skip
    inputs = Inputs.of_rows(rows, tuple(rows[0]))
    registry = yaml.safe_load((Path(__file__).parents[1] / "dags/registry/maritime.yaml").read_text())
    found = {}
    for version in ("1.0", "2.0"):
        params = registry["models"]["spoofing"]["versions"][version]["params"]
        model = Spoofing("spoofing", version, params)
        outputs = model.run(ModelContext(cycle=cycle_at(end), params=params, inputs=inputs)).outputs_per_input
        found[version] = {int(o["mmsi"]) for _, o in outputs if (o["score"] or 0.0) > 0.5}
    truth = json.loads(truth_path(path).read_text())
    labels = {int(label.entity_id): label.is_positive for label in simulated_labels(truth, found["2.0"])}
    won = {mmsi for mmsi in found["2.0"] - found["1.0"] if labels.get(mmsi)}
    assert won == set(truth["too_fast"])
    assert len(won) == 8
    assert found["1.0"] <= found["2.0"]
    assert all(labels.get(mmsi, True) for mmsi in found["2.0"]), "no false alarm"


@pytest.mark.parametrize(
    ("kind", "state", "task_state", "is_good"),
    [
        ("backfill", "success", "success", True),
        ("backfill", "running", "success", False),
        ("scheduled", "running", "running", True),
        ("scheduled", "running", "up_for_retry", False),
        ("scheduled", "failed", "failed", False),
        ("scheduled", "success", "skipped", True),
    ],
)
def test_a_maintenance_run_with_a_task_up_for_retry_did_not_end_as_it_should(
    kind: str, state: str, task_state: str, *, is_good: bool
) -> None:
    at = datetime(2025, 1, 2, tzinfo=UTC)
    run = Run(at=at, kind=kind, state=state, tasks=(("apply_retention", task_state),))
    assert run.is_good is is_good
