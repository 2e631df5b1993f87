"""The NOAA day in a real database, and its cycles run as Airflow's tasks would run them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from tests.snapshot.noaa_day import DAY, NOAA_DAY, STEP
from tests.snapshot.planted_faults import SWITCH

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

SETTINGS = Settings(
    schema="detection",
    allowed_prefixes=("tests.snapshot.planted_faults", "tests.snapshot.test_reads", "airflow_detection"),
)
MARITIME = Path(__file__).resolve().parents[2] / "dags/registry/maritime.yaml"


def load(conn: Connection, registry: Path = MARITIME) -> None:
    """Register, and load the day's positions."""
    if not NOAA_DAY.exists():
        pytest.skip("the NOAA day is not here: ../shared/data/noaa_ais_2020-01-01 is absent")
    apply_file(Database(conn, SETTINGS.schema), registry)
    load_file(conn, NOAA_DAY, schema=SETTINGS.schema)
    conn.execute("analyze")


def planted_registry(folder: Path) -> Path:
    """Write a registration of the two models into which faults are planted."""
    registry = yaml.safe_load(MARITIME.read_text())
    models = {name: registry["models"][name] for name in ("track_quality", "spoofing")}
    for model in models.values():
        model["entrypoint"] = "tests.snapshot.planted_faults:Planted"
        model["versions"] = {"1.0": model["versions"]["1.0"]}
        model["task_options"] = {"environment": [SWITCH]}
    file = folder / "planted.yaml"
    file.write_text(yaml.safe_dump({**registry, "models": models}))
    return file


def run(conn: Connection, numbers: Iterable[int], *, is_inline: bool = True) -> None:
    """Run these cycles of the day, counted from midnight."""
    for number in numbers:
        at = DAY + number * STEP
        opened = planning.open_cycle(Database(conn, SETTINGS.schema), "maritime", at, mode=Mode.AS_OF)
        if is_inline:
            inline.run_inline(Database(conn, SETTINGS.schema), SETTINGS, "maritime", at, mode=Mode.AS_OF)
        else:
            for step in opened.steps:
                report = run_task(
                    Database(conn, SETTINGS.schema),
                    SETTINGS,
                    VersionRequest(
                        cycle_id="maritime",
                        started_at=at,
                        model_id=step.model_id,
                        version=step.version,
                        mode=Mode.AS_OF,
                    ),
                )
                assert report.outcome is Outcome.SUCCEEDED, report.error
        closing.close_cycle(Database(conn, SETTINGS.schema), "maritime", at, mode=Mode.AS_OF, task_states={})
