"""The Airflow plugin: the pages, and what every parse and task imports is imported once, before the fork.

The scheduler forks the workers of its LocalExecutor, and the Dag processor its parses, from a process that
outlives them: what that one has imported costs them nothing.
"""

from __future__ import annotations

import importlib
import logging

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from airflow_detection.ui.app import LazyApp
from airflow_detection.ui.surfaces import URL_PREFIX, react_apps

log = logging.getLogger(__name__)


class Preload:
    """A listener on the start of Airflow's components."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Import the modules that the processes need which a scheduler or a Dag processor will fork.

        A task announces its start, too: it has these imports already, or makes them where it needs them.
        """
        if type(component).__name__ != "Job":
            return
        try:
            importlib.import_module("airflow_detection.dags.preload")
        except Exception:  # a component of Airflow starts, whatever is wrong with a provider
            log.warning("the imports of detection tasks could not be made ahead", exc_info=True)


class DetectionPlugin(AirflowPlugin):
    """Found through the entry-point group `airflow.plugins`."""

    name = "detection"
    listeners = [Preload()]
    fastapi_apps = [{"app": LazyApp(), "url_prefix": URL_PREFIX, "name": "Detection"}]
    react_apps = react_apps()
