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


CELERY_WORKER = """
import json, sys
from airflow.providers.celery.executors.celery_executor import app
app.loader.import_default_modules()  # as `airflow celery worker` does before it forks
from airflow_detection.store.queries import load_queries
print(json.dumps({"loaded": sorted(sys.modules), "queries": load_queries.cache_info().currsize}))
"""


def test_a_celery_worker_imports_what_its_tasks_need_by_its_own_option(tmp_path: Path) -> None:
    imports = json.dumps({"imports": ["airflow_detection.dags.preload"]})
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
           "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": imports}  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-c", CELERY_WORKER], env=env, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    facts = json.loads(process.stdout.splitlines()[-1])
    expected = {
        "airflow_detection.dags.cycles",
        "airflow_detection.cycle.task",
        "airflow.dag_processing.dagbag",
    }
    assert expected <= set(facts["loaded"])
    assert facts["queries"] > 10


COST = """
import json, sys, time
import airflow.listeners, airflow.plugins_manager  # what a component has imported before it looks for plugins
before = set(sys.modules)
start_s, cpu_s = time.perf_counter(), time.process_time()
import airflow_detection.plugin as plugin
cpu_ms = (time.process_time() - cpu_s) * 1000
new = set(sys.modules) - before
ours = sorted(m for m in new if m.startswith("airflow_detection."))
print(json.dumps({"cpu_ms": cpu_ms, "new": sorted(new), "ours": ours,
                  "places": len(plugin.DetectionPlugin.react_apps)}))
"""


def test_the_pages_cost_a_component_nothing_until_the_first_request(tmp_path: Path) -> None:
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://"}
    costs = []
    for _ in range(3):
        process = subprocess.run(
            [sys.executable, "-c", COST], env=env, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        facts = json.loads(process.stdout.splitlines()[-1])
        costs.append(facts["cpu_ms"])
    assert min(costs) < 50
    assert facts["places"] == 7
    assert facts["ours"] == ["airflow_detection.plugin", "airflow_detection.ui", "airflow_detection.ui.app",
                             "airflow_detection.ui.surfaces"]  # fmt: skip
    assert not {"fastapi", "psycopg", "starlette", "pydantic"} & set(facts["new"])
