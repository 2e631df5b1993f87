"""Versions that turned to a bad verdict since the report before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from airflow_detection.snapshot.report import Report, UnknownFormat, from_json

ReportJson = Mapping[str, Any]  # Any: JSON values


def new_bad_verdicts(
    report: Report, before: ReportJson | None, earlier: Iterable[ReportJson] = ()
) -> list[str]:
    """Return a line for each version whose worst verdict is bad and differs from the last report that has it.

    Args:
        before: the report before this one.
        earlier: those before it, newest first: a daily cycle is not in the report of each hour.
    """
    bad = [s for s in report.standings if s.is_bad]
    worst_before: dict[str, str] = {}
    for stored in chain([before] if before else [], earlier):
        if all(s.label in worst_before for s in bad):
            break
        worst_before = _worst_verdicts(stored) | worst_before
    return [
        f"{s.label} ({s.role}): {worst_before.get(s.label, 'unknown')} -> {s.worst}"
        for s in bad
        if worst_before.get(s.label) != s.worst
    ]


def _worst_verdicts(stored: ReportJson) -> dict[str, str]:
    try:
        return {s.label: s.worst for s in from_json(stored).standings}
    except UnknownFormat:
        return {}
