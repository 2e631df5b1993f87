"""The routers of all subjects, in the order in which their routes are tried."""

from __future__ import annotations

from airflow_detection.ui.api import cycles, events, models, overview, promotions

ROUTERS = (overview.router, models.router, cycles.router, events.router, promotions.router)
