"""The demo's evidence: labels of a simulated and of a real day, and what the gate says of the challenger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from demo import detection, evidence
from demo.detection import INTERVAL, MODELS, SCHEMA

from airflow_detection.cycle import planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.maritime.simulation.day import truth_path, write_day
from airflow_detection.store.database import Database
from airflow_detection.store.labels import known_labels

Connection = psycopg.Connection[Any]  # Any: rows as the statements give them

START = datetime(2026, 3, 1, tzinfo=UTC)
CYCLES = [START + timedelta(hours=2) + INTERVAL * n for n in range(2)]
NOAA_DAY = Path(__file__).resolve().parents[2] / "shared/data/noaa_ais_2020-01-01/positions.csv.gz"


@pytest.fixture
def day(dsn: str, database: Connection, tmp_path: Path) -> Path:
    path = tmp_path / "day.csv"
    write_day(path, start=START, hours=2.5, vessels=200)
    load_file(database, path)
    detection.apply_models(dsn, tmp_path, len(CYCLES))
    return path


def run_cycles(database: Connection) -> None:
    db = Database(database, SCHEMA)
    for at in CYCLES:
        planning.open_cycle(db, "maritime", at, mode=Mode.AS_OF)
        for model_id, version in (("track_quality", None), ("spoofing", None), ("spoofing", "2.0")):
            request = VersionRequest(
                cycle_id="maritime", started_at=at, model_id=model_id, version=version, mode=Mode.AS_OF
            )
            report = run_task(db, Settings(schema=SCHEMA), request)
            assert report.outcome is Outcome.SUCCEEDED, report.error


def test_the_simulated_day_gives_the_evidence_on_which_the_challenger_is_promoted(
    dsn: str, database: Connection, day: Path
) -> None:
    run_cycles(database)
    said = evidence.plant_labels(dsn, day, CYCLES)
    truth = json.loads(truth_path(day).read_text())
    positive = [*truth["jumpers"], *truth["twins"], *truth["too_fast"]]
    clones = [scene["mmsis"][0] for scene in truth["scenes"] if scene["kind"] == "clone_once"]
    labels = known_labels(Database(database, SCHEMA), "maritime")
    assert {int(n.entity_id) for n in labels if n.is_positive} == {*positive, *clones}
    assert not {int(n.entity_id) for n in labels} & set(truth["impossible_identities"])
    assert said == f"{len(labels)} of spoofing, {len(positive) + len(clones)} positive, {len(labels)} new"
    assert evidence.plant_labels(dsn, day, CYCLES).endswith(" 0 new"), "a second demo adds nothing"

    judgement = evidence.challenger(dsn)
    assert judgement is not None
    assert judgement.is_passed, judgement.refusal
    labelled = judgement.comparison.labelled
    assert labelled is not None
    assert (labelled.only_second_right, labelled.only_first_right) == (len(truth["too_fast"]), 0)
    assert labelled.second.false_positives == 0


def test_what_positions_alone_show_of_a_real_day_is_what_is_known_of_it(
    dsn: str, database: Connection, tmp_path: Path
) -> None:
    """Two ships under one identity are told, from the open sea of vessels whose track says nothing."""
    if not NOAA_DAY.exists():
        pytest.skip("the NOAA day is not here: ../shared/data/noaa_ais_2020-01-01 is absent")
    load_file(database, NOAA_DAY)
    detection.apply_models(dsn, tmp_path, 12)
    last = datetime(2020, 1, 2, tzinfo=UTC)
    evidence.plant_labels(dsn, NOAA_DAY, [last - INTERVAL, last])
    labels = known_labels(Database(database, SCHEMA), "maritime")
    positive = {int(n.entity_id) for n in labels if n.is_positive}
    assert 303457000 in positive, "the POLAR SEA is two ships all day"
    assert len(positive) < len(labels) / 4
    assert {(n.valid_from, n.valid_to) for n in labels} == {(last - timedelta(hours=6), last + INTERVAL)}
    assert {n.source for n in labels} == {"positions"}


def test_the_policy_asks_for_no_more_cycles_than_the_demo_runs(
    tmp_path: Path, dsn: str, database: Connection
) -> None:
    assert detection.MIN_CYCLES.format(detection.HOUR) in MODELS.read_text()
    query = "select promotion ->> 'min_cycles' from detection.detection_models where model_id = 'spoofing'"
    for cycles, least in ((2, "2"), (288, "12")):
        detection.apply_models(dsn, tmp_path, cycles)
        assert database.execute(query).fetchone() == (least,)
    assert detection.apply_models(dsn, tmp_path, 288).endswith("nothing new")
