"""A run's report as JSON and back: what a child process tells its parent, which believes no more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from airflow_detection.domain.reports import CanaryResult, FeatureProfile, RunReport
from airflow_detection.domain.specs import Outcome, VersionSpec, require_utc
from airflow_detection.engine.metrics import finite


class MalformedReport(ValueError):
    """What was read is no report."""


def report_json(report: RunReport) -> dict[str, Any]:  # Any: JSON
    """Return the report as JSON values, all but its version."""
    facts: dict[str, Any] = {f.name: getattr(report, f.name) for f in fields(report) if f.name != "version"}
    for name in ("started_at", "newest_input_at", "reads_since"):
        facts[name] = None if facts[name] is None else facts[name].isoformat()
    return facts | {
        "outcome": report.outcome.value,
        "stage_ms": dict(report.stage_ms),
        "canaries": [asdict(c) | {"expected": finite(c.expected)} for c in report.canaries],
        "features": [asdict(f) for f in report.features],
    }


def report_of(facts: object, version: VersionSpec) -> RunReport:
    """Read what `report_json` wrote.

    Raises:
        MalformedReport: a field is missing, unknown or not of its kind.
    """
    return RunReport(version=version, **_read(_REPORT, facts, "report"))


def metrics_of(facts: object) -> dict[str, float]:
    """Read metrics: finite numbers by name; MalformedReport if they are anything else."""
    return dict(_numbers(facts))


def strict_loads(text: bytes) -> Any:  # Any: JSON
    """Read JSON; MalformedReport if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedReport("it is no JSON") from error


def _read(
    kinds: Mapping[str, Callable[[Any], Any]], facts: object, what: str
) -> dict[str, Any]:  # Any: JSON, and what it is read as
    if not isinstance(facts, dict) or facts.keys() != kinds.keys():
        raise MalformedReport(f"the {what} has not the fields of one")
    found = {}
    for name, kind in kinds.items():
        try:
            found[name] = kind(facts[name])
        except (TypeError, ValueError) as error:
            raise MalformedReport(f"{what}.{name} is not what it should be") from error
    return found


def _exactly(kind: type) -> Callable[[Any], Any]:  # Any: JSON
    def check(value: Any) -> Any:  # Any: JSON
        if type(value) is not kind:
            raise TypeError
        return value

    return check


def _number(value: Any) -> float:  # Any: JSON
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _count(value: Any) -> int:  # Any: JSON
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError
    return value


def _instant(value: Any) -> datetime:  # Any: JSON
    return require_utc("it", datetime.fromisoformat(value))


def _or_none(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:  # Any: JSON
    return lambda value: None if value is None else kind(value)


def _numbers(value: Any) -> dict[str, float]:  # Any: JSON
    if not isinstance(value, dict):
        raise MalformedReport("the metrics are no object")
    try:
        return {key: _number(number) for key, number in value.items()}
    except TypeError as error:
        raise MalformedReport("a metric is no finite number") from error


_text = _exactly(str)
_CANARY: Mapping[str, Callable[[Any], Any]] = {
    "name": _text,
    "expected": _or_none(_number),
    "observed": _or_none(_number),
    "is_present": _exactly(bool),
}
_FEATURE: Mapping[str, Callable[[Any], Any]] = {
    "name": _text,
    "count": _count,
    "null_count": _count,
    "distinct_count": _count,
    "mean": _or_none(_number),
    "deviation": _or_none(_number),
}
_REPORT: Mapping[str, Callable[[Any], Any]] = {
    "outcome": Outcome,
    "started_at": _instant,
    "duration_ms": _number,
    "input_count": _count,
    "input_digest": _or_none(_text),
    "newest_input_at": _or_none(_instant),
    "reads_since": _or_none(_instant),
    "output_count": _count,
    "stage_ms": _numbers,
    "canaries": lambda v: tuple(CanaryResult(**_read(_CANARY, c, "canary")) for c in _exactly(list)(v)),
    "features": lambda v: tuple(FeatureProfile(**_read(_FEATURE, f, "feature")) for f in _exactly(list)(v)),
    "error": _or_none(_text),
    "is_transient": _exactly(bool),
    "projection": _or_none(_text),
}
