"""Imports of what every parse and every task needs, to be made once in a process that forks them.

The plugin makes them in a scheduler and in a Dag processor. A Celery worker loads no plugin before it forks:
there the option `[celery] extra_celery_config = {"imports": ["airflow_detection.dags.preload"]}` makes them.
"""

from __future__ import annotations

from importlib import import_module

from airflow_detection.config import settings
from airflow_detection.store.queries import load_queries, sql_root

for _name in (
    "airflow.dag_processing.dagbag",
    "airflow_detection.dags.cycles",
    "airflow_detection.hooks.connection",
    "airflow_detection.cycle.task",
):
    import_module(_name)
for _file in sorted((sql_root() / "queries").glob("*.sql")):
    load_queries(_file.stem, settings().schema)
load_queries("session", "public")
