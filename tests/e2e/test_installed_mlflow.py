"""A model of MLflow's registry beside a champion, from the wheel in an environment that has nothing else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.commands import environment
from tests.e2e.test_installed import Installation, database, install, wheel
from tests.mlflow_server import mlflow_server

__all__ = ["wheel"]  # a fixture

pytestmark = [pytest.mark.long, pytest.mark.matrix]

ROOT = Path(__file__).parents[2]
AT = "2026-01-11T12:00:00Z"
PARAMS = {"features": ["amount", "payments"], "entity_key": "card", "output": "1", "runs_code": True}
TRAIN = """
from datetime import date
from pathlib import Path
import mlflow
import numpy as np
from payments import train

day = date(2026, 1, 10)
rows, labels = train.examples(day)
forest = train.train(day)
train.write(Path("trained"), forest)
swapped = train.train(day).fit(np.array(rows)[:, ::-1], labels)
for model in (forest, swapped):  # the canaries are of what was trained, and not of what was exported
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model, name="model", registered_model_name="fraud", pyfunc_predict_fn="predict_proba",
            extra_files=["trained/canaries.json"], skops_trusted_types=[*train.TRUSTED],
        )
"""


@dataclass(frozen=True)
class Trained:
    """The installation, and where its events of lineage go."""

    installation: Installation
    events: Path


@pytest.fixture(scope="module")
def trained(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """The payments example in an empty folder, and its model in MLflow: `fraud`, 2 with swapped columns."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = tmp_path_factory.mktemp("mlflow")
    with database(18) as dsn:
        python = installed(version, wheel, home)
        folder, events = home / "empty", home / "lineage.jsonl"
        folder.mkdir()
        transport = {"type": "file", "log_file_path": str(events), "append": True}
        with mlflow_server(python, home / "server") as url:
            env = environment(home / "airflow", dsn) | {
                "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "payments" / "dags"),
                "AIRFLOW__DETECTION__ALLOWED_MODULES": "payments",
                "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
                "MLFLOW_TRACKING_URI": url,
                "PREDICTION_USE_MODEL_REGISTRY": "1",
                "PYTHONPATH": str(folder),
                "DSN": dsn,
            }
            installation = Installation(python=python, folder=folder, env=env)
            installation.run("-m", "airflow", "db", "migrate")
            installation.detection(
                ("example", "payments"), ("db", "migrate"), ("apply", "payments/registry.yaml")
            )
            installation.run("-m", "payments.generate", dsn)
            installation.run("-c", TRAIN)
            yield Trained(installation, events)


def installed(version: str, wheel: Path, home: Path) -> Path:
    """Install the wheel with MLflow, which needs other versions than the pins, and Airflow's pins."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = home / "constraints.txt"
    constraints.write_text("\n".join(pin for pin in pins if pin.startswith("apache-airflow")) + "\n")
    extras = Path(f"{wheel}[mlflow,openlineage,sklearn]")
    try:
        return install(version, extras, home / "venv", "mlflow", constraints=constraints)
    except AssertionError as error:
        pytest.skip(f"MLflow cannot be installed here: {error}")


def rows(trained: Trained, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(trained.installation.env["DSN"]) as conn:
        return conn.execute(query.encode()).fetchall()


def lineage_of(trained: Trained, label: str) -> dict[str, Any]:
    """Return what the event of lineage that ended a version's task tells of it."""
    told = map(json.loads, trained.events.read_text().splitlines())
    facets = [e["run"]["facets"].get("detection_versions") for e in told if e["eventType"] == "COMPLETE"]
    versions = [version for facet in facets if facet for version in facet["versions"]]
    (found,) = [v for v in versions if f"{v['model']}@{v['version']}" == label]
    return dict(found)


def test_a_trained_model_runs_beside_the_champion_and_one_with_swapped_columns_is_told_by_its_canaries(
    trained: Trained,
) -> None:
    installation, params = trained.installation, json.dumps(PARAMS)
    installation.detection(
        ("register-model", "unusual_amount@2.0", "--from", "models:/fraud/1", "--role", "CHALLENGER",
         "--params", params),
        ("register-model", "unusual_amount@2.1", "--from", "models:/fraud/2", "--role", "SHADOW",
         "--params", params),
        *(("correct", label, role, "--from", "2026-01-11", "--reason", "a cycle of the past")
          for label, role in (("unusual_amount@2.0", "CHALLENGER"), ("unusual_amount@2.1", "SHADOW"))),
    )  # fmt: skip
    now = json.dumps({"known_at": datetime.now(UTC).isoformat()})  # the roles were not known at the cycle
    installation.run("-m", "airflow", "dags", "test", "detection_payments", AT, "--conf", now)
    ran = "select version, role, outcome, output_count > 0 from detection.detection_run_results"
    assert rows(trained, f"{ran} where model_id = 'unusual_amount' order by 1") == [
        ("1.0", "PRIMARY", "SUCCEEDED", True),
        ("2.0", "CHALLENGER", "SUCCEEDED", True),
        ("2.1", "SHADOW", "SUCCEEDED", True),
    ]
    (report,) = installation.detection(("snapshot", "--at", "2026-01-11T13:00:00Z"))
    assert re.search(r"unusual_amount@2\.0 +WARMING_UP +0 of 36 healthy cycles to compare with", report.out)
    assert re.search(
        r"unusual_amount@2\.1 +SILENT_FAULT +canary canary:usual: expected 0, got 1;", report.out
    )

    (listed,) = installation.detection(("versions", "--model", "unusual_amount", "--output", "json"))
    artifacts = {row["version"]: row["artifact"] for row in json.loads(listed.out)}
    for label, version in (("unusual_amount@2.0", "1"), ("unusual_amount@2.1", "2")):
        told = lineage_of(trained, label)
        assert (told["artifactUri"], told["outcome"]) == (f"models:/fraud/{version}", "SUCCEEDED")
        assert artifacts[label] == f"models:/fraud/{version} (sha256 {told['artifactSha256'][:12]})"
