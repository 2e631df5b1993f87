"""The routers of all subjects, in the order in which their routes are tried."""

from __future__ import annotations

from airflow_detection.ui.api import (
    answers,
    comparisons,
    cycles,
    entities,
    events,
    findings,
    models,
    overview,
    promotions,
    reports,
)

ROUTERS = tuple(
    subject.router
    for subject in (
        overview, models, comparisons, cycles, findings, entities, answers, events, promotions, reports,
    )
)  # fmt: skip
