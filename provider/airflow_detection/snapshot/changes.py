"""Which versions turned to a bad verdict since the report before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from airflow_detection.snapshot.report import Report, UnknownFormat, from_json

Held = Mapping[str, Any]  # Any: JSON values


def turns_for_the_worse(report: Report, before: Held | None, earlier: Iterable[Held] = ()) -> list[str]:
    """A line for each version whose worst verdict is bad, unless the last report that knew it had told of it.

    Args:
        earlier: what came before `before`, newest first: a cycle of a day is not in the report of each hour.
    """
    bad = [s for s in report.standings if s.is_bad]
    held: dict[str, str] = {}
    for one in chain([before] if before else [], earlier):
        if all(s.label in held for s in bad):
            break
        held = _standings(one) | held
    return [
        f"{s.label} ({s.role}): {held.get(s.label, 'unknown')} -> {s.worst}"
        for s in bad
        if held.get(s.label) != s.worst
    ]


def _standings(before: Held) -> dict[str, str]:
    try:
        return {s.label: s.worst for s in from_json(before).standings}
    except UnknownFormat:
        return {}
