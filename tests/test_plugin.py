"""The plugin, as Airflow finds it: what a component that forks imports for its children."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = """
import json, sys
from airflow.listeners.listener import get_listener_manager
from airflow.plugins_manager import get_import_errors
get_listener_manager()
loaded = lambda: sorted(m for m in sys.modules if m.startswith(("airflow_detection.", "psycopg")))
alone = loaded()
{before}
from airflow.jobs.job import Job
Job()  # as `airflow scheduler` and `airflow dag-processor` make theirs before they fork
from airflow_detection.store.queries import load_queries
print(json.dumps({{"errors": get_import_errors(), "alone": alone, "started": loaded(),
                  "queries": load_queries.cache_info().currsize}}))
"""
TASK = """
from airflow.sdk.execution_time.task_runner import TaskRunnerMarker
get_listener_manager().hook.on_starting(component=TaskRunnerMarker())
assert loaded() == alone, set(loaded()) - set(alone)
"""


def started(tmp_path: Path, before: str = "") -> tuple[dict[str, Any], str]:
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://"}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    facts: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return facts, process.stdout + process.stderr


def test_a_component_that_forks_imports_what_its_tasks_need_and_a_task_nothing_more(tmp_path: Path) -> None:
    facts, _ = started(tmp_path, TASK)
    assert facts["errors"] == {}
    assert "airflow_detection.plugin" in facts["alone"]
    assert not {"airflow_detection.dags.cycles", "airflow_detection.cycle.versions"} & set(facts["alone"])
    expected = {
        "airflow_detection.dags.cycles",
        "airflow_detection.cycle.versions",
        "airflow_detection.cycle.inline",
        "airflow_detection.cycle.task",
        "psycopg",
    }
    assert expected <= set(facts["started"])
    assert facts["queries"] > 10


def test_a_component_starts_although_an_import_fails(tmp_path: Path) -> None:
    facts, output = started(tmp_path, "sys.modules['airflow_detection.cycle.inline'] = None")
    assert "could not be made ahead" in output
    assert "airflow_detection.dags.cycles" in facts["started"]
