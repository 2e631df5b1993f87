"""`airflow detection plan --diff`: what it says beforehand is what Airflow's own hash says afterwards."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
from tests import sample_registry
from tests.dags.test_cycles import CONN_ENV, connection

from airflow_detection.cli import plan
from airflow_detection.dags.cycles import cycle_dags
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Artifact, Role
from airflow_detection.store import roles
from airflow_detection.store.database import Database

FILE = """
cycles:
  fleet: {schedule: "*/5 * * * *", lookback: 1h, start_date: "2026-01-01"}
models:
  tracks:
    cycle: fleet
    entrypoint: tests.sample_registry:Echo
    score_key: score
    entity_key: id
    versions:
      "3": {role: SHADOW, notes: "a try"}
"""


@dataclass
class Machine:
    """One machine that parses the Dags, and a command line on it."""

    database: Any
    settings: Settings
    capsys: pytest.CaptureFixture[str]

    def parse(self) -> str:
        """Airflow's hash of the Dag as a parse makes it now."""
        dag = cycle_dags(settings=self.settings)["detection_fleet"]
        return str(SerializedDagModel.hash(DagSerialization.to_dict(dag)))  # type: ignore[no-untyped-call]

    def diff(self, cycle: str | None = "fleet", file: Path | None = None) -> tuple[int, str]:
        """How `plan --diff` exits, and what it says."""
        code = 0
        options = {"at": None, "known_at": None, "output": "text", "diff": True, "file": file}
        try:
            plan.plan(Namespace(cycle=cycle, **options))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        output = self.capsys.readouterr()
        return code, output.out + output.err


@pytest.fixture
def machine(
    database: Any,
    dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Machine:
    monkeypatch.setenv(CONN_ENV, connection(dsn))
    monkeypatch.setenv("AIRFLOW__DETECTION__STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AIRFLOW__DETECTION__ALLOWED_MODULES", "tests")
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    sample_registry.register(database)
    return Machine(
        database, Settings(state_dir=tmp_path / "state", plan_ttl_s=0, allowed_prefixes=("tests",)), capsys
    )


def test_what_alters_neither_structure_nor_what_runs_makes_no_new_dag_version(machine: Machine) -> None:
    before = machine.parse()
    sample_registry.put_version(machine.database, "tracks@9")
    machine.database.execute(
        "update detection.detection_model_versions set notes = 'told' where version = '9'"
    )
    sample_registry.put_cycle(machine.database, lookback=timedelta(hours=3))
    assert machine.diff() == (0, "detection_fleet: no new Dag version\n")
    assert machine.parse() == before


LATE = {"after_s": 240, "callback": "tests.sample_registry:legacy"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda db: sample_registry.put_version(db, "tracks@9", Role.SHADOW), "+ task tracks__9"),
        (
            lambda db: sample_registry.put_model(db, "tracks", task_options={"retries": 7}),
            "task tracks retries: 2 -> 7",
        ),
        (
            lambda db: sample_registry.put_cycle(db, schedule="0 * * * *"),
            "  ~ timetable.expression: */5 * * * * -> 0 * * * *\n",
        ),
        (
            lambda db: sample_registry.put_cycle(db, default_args={"pool": "heavy"}),
            "task open_cycle pool: none -> heavy",
        ),
        (
            lambda db: sample_registry.put_cycle(db, owner_links={"us": "https://example.org"}),
            "~ owner_links",
        ),
        (
            lambda db: sample_registry.put_cycle(db, deadline=LATE),
            "~ deadline: none -> ",
        ),
        (
            lambda db: sample_registry.put_version(db, "spoofing@9", Role.PRIMARY, since=None),
            "+ doc: | spoofing | 9 | PRIMARY |",
        ),
        (
            lambda db: sample_registry.put_version(
                db, "tracks@1", artifact=Artifact(uri="/m.bin", sha256="0" * 64), ids=["a", "b"]
            ),
            "artefact /m.bin (sha256 000000000000)",
        ),
    ],
)
def test_what_alters_structure_or_what_runs_makes_one_and_is_named(
    machine: Machine, change: Any, line: str
) -> None:
    before = machine.parse()
    change(machine.database)
    code, out = machine.diff(cycle=None)
    assert (code, out.splitlines()[0]) == (3, "detection_fleet: new Dag version")
    assert line in out
    assert machine.parse() != before
    assert machine.diff() == (0, "detection_fleet: no new Dag version\n")


def test_a_file_is_tried_and_not_kept(machine: Machine, tmp_path: Path) -> None:
    before = machine.parse()
    file = tmp_path / "fleet.yaml"
    file.write_text(FILE)
    code, out = machine.diff(file=file)
    assert code == 3
    assert "  + task tracks__3\n" in out
    assert machine.parse() == before
    file.write_text(FILE.replace("role: SHADOW, ", ""))
    assert machine.diff(file=file) == (0, "detection_fleet: no new Dag version\n")
    file.write_text("cycles: 5")
    assert machine.diff(file=file)[0] == 1


def test_a_change_that_will_be_held_back_is_told_as_such(machine: Machine) -> None:
    machine.parse()
    for model_id, version in (("spoofing", "1"), ("tracks", "2"), ("tracks", "1")):
        roles.assign_role(
            Database(machine.database, sample_registry.SCHEMA), model_id=model_id, version=version, role=None
        )
    code, out = machine.diff()
    assert code == 3
    assert "held back" in out
    assert "- task" not in out


def test_an_unknown_cycle_and_a_machine_that_never_parsed(machine: Machine) -> None:
    assert machine.diff() == (3, "detection_fleet: new Dag version\n  + the Dag\n")
    code, out = machine.diff(cycle="flete")
    assert (code, out) == (1, "cycle 'flete' is neither registered nor known on this machine\n")
