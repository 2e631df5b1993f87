"""Runs of generated Dags by Airflow's own task runner, each list in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.forked import ForkServer
from tests.sample_registry import AT

ROOT = Path(__file__).parents[2]
Cycles = Callable[..., list[dict[str, Any]]]
Fly = Callable[..., dict[str, Any]]
Runs = Callable[..., Any]


def airflow_uri(dsn: str) -> str:
    """The value of AIRFLOW_CONN_* for a libpq connection string."""
    parts = conninfo_to_dict(dsn)
    return json.dumps(
        {
            "conn_type": "postgres",
            "host": parts["host"],
            "login": parts.get("user"),
            "password": parts.get("password"),
            "port": int(parts["port"]) if parts.get("port") else None,
            "schema": parts["dbname"],
        }
    )


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the caller's Airflow comes through."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "_AIRFLOW", "PREDICTION_"))}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DETECTION__ALLOWED_MODULES": "tests.sample_registry",
        "AIRFLOW__DETECTION__PLAN_TTL": "0",
        "PREDICTION_USE_MODEL_REGISTRY": "1",
        **more,
    }


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow home with a migrated metadata database."""
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    for name in ("detection_cycles.py", "detection_training.py"):
        shutil.copy(ROOT / "dags" / name, folder / "dags")
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=environment(folder),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="session")
def loaded_home(home: Path) -> Iterator[ForkServer]:
    """A process that has Airflow's task runner and the API behind it loaded, in that home."""
    server = ForkServer("tests.operators.cycle_run", environment(home))
    yield server
    server.close()


@pytest.fixture
def runs(home: Path, loaded_home: ForkServer, dsn: str, tmp_path: Path) -> Runs:
    """Call a function of `cycle_run` in a process of its own, against the test's database."""

    def run(what: str, argument: Any, **env: str) -> Any:
        return loaded_home.ask(
            {
                "env": environment(
                    home,
                    AIRFLOW_CONN_DETECTION_DEFAULT=airflow_uri(dsn),
                    AIRFLOW__DETECTION__STATE_DIR=str(tmp_path / "state"),
                    LEGACY_FILE=str(tmp_path / "legacy"),
                    **env,
                ),
                what: argument,
            }
        )

    return run


@pytest.fixture
def cycles(runs: Runs) -> Cycles:
    """Run cycles in one Airflow process; each argument is a step of `cycle_run`."""

    def run(*steps: dict[str, Any], **env: str) -> list[dict[str, Any]]:
        ended: list[dict[str, Any]] = runs("steps", [{"at": AT.isoformat(), **step} for step in steps], **env)
        return ended

    return run
