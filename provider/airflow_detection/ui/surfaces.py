"""The places of Airflow's UI at which the pages appear, as a plugin announces them.

The host imports `bundle_url` and takes `globalThis[name]` for the component; `name` is also what a tab is
called. Airflow drops the whole plugin without a word for one destination that it does not know. No address
begins with a slash, so that all work behind a path prefix.
"""

from __future__ import annotations

from typing import Any

BUNDLE = "detection/static/detection.js"
ICON = "detection/static/icon.svg"
ICON_DARK = "detection/static/icon-dark.svg"
URL_PREFIX = "/detection"


def _surface(name: str, destination: str, url_route: str) -> dict[str, Any]:  # Any: Airflow's own schema
    return {
        "name": name,
        "bundle_url": BUNDLE,
        "destination": destination,
        "url_route": url_route,
        "icon": ICON,
        "icon_dark_mode": ICON_DARK,
    }


def react_apps() -> list[dict[str, Any]]:  # Any: as `_surface`
    """Return the places, each with a `url_route` of its own."""
    return [
        _surface("Detection", "nav", "detection") | {"nav_top_level": True},
        _surface("Detection", "dag", "detection-cycle"),
        _surface("Detection", "dag_run", "detection-run"),
        _surface("Findings", "task", "detection-task"),
        _surface("Findings", "task_instance", "detection-findings"),
        _surface("DetectionHeadline", "dashboard", "detection-headline"),
        _surface("DetectionBanner", "base", "detection-banner"),
    ]
