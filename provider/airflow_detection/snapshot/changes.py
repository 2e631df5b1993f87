"""Which versions turned to a bad verdict since the report before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_detection.snapshot.report import Report, UnknownFormat, from_json


def turns_for_the_worse(report: Report, before: Mapping[str, Any] | None) -> list[str]:  # Any: JSON values
    """A line for each version whose worst verdict is bad, unless the report before had told of it."""
    held = _standings(before)
    return [
        f"{s.label} ({s.role}): {held.get(s.label, 'unknown')} -> {s.worst}"
        for s in report.standings
        if s.is_bad and held.get(s.label) != s.worst
    ]


def _standings(before: Mapping[str, Any] | None) -> dict[str, str]:  # Any: JSON values
    if before is None:
        return {}
    try:
        return {s.label: s.worst for s in from_json(before).standings}
    except UnknownFormat:
        return {}
