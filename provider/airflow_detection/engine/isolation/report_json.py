"""The report of a run as JSON, and back: a child process sends it, and its parent checks every field."""

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
    """The JSON is not a report."""


def report_json(report: RunReport) -> dict[str, Any]:  # Any: JSON
    """Return the report as JSON values, all but its version."""
    values: dict[str, Any] = {f.name: getattr(report, f.name) for f in fields(report) if f.name != "version"}
    for name in ("started_at", "newest_input_at", "reads_since"):
        values[name] = None if values[name] is None else values[name].isoformat()
    return values | {
        "outcome": report.outcome.value,
        "stage_ms": dict(report.stage_ms),
        "reads": dict(report.reads),
        "merges": dict(report.merges),
        "history_tables": list(report.history_tables),
        "canaries": [asdict(c) | {"expected": finite(c.expected)} for c in report.canaries],
        "features": [asdict(f) for f in report.features],
    }


def report_of(values: object, version: VersionSpec) -> RunReport:
    """Read what `report_json` wrote.

    Raises:
        MalformedReport: a field is missing, unknown or not of its kind.
    """
    return RunReport(version=version, **_read(_REPORT, values, "report"))


def metrics_of(values: object) -> dict[str, float]:
    """Read metrics: finite numbers by name; MalformedReport if they are anything else."""
    return dict(_numbers(values))


def strict_loads(text: bytes) -> Any:  # Any: JSON
    """Read JSON; MalformedReport if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedReport("it is not JSON") from error


def _read(
    readers: Mapping[str, Callable[[Any], Any]], values: object, what: str
) -> dict[str, Any]:  # Any: JSON, and what it is read as
    if not isinstance(values, dict) or values.keys() != readers.keys():
        raise MalformedReport(f"the {what} does not have the fields of a {what}")
    fields_read = {}
    for name, reader in readers.items():
        try:
            fields_read[name] = reader(values[name])
        except (TypeError, ValueError) as error:
            raise MalformedReport(f"{what}.{name} does not have a valid value") from error
    return fields_read


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


def _positive(value: Any) -> int:  # Any: JSON
    if _count(value) == 0:
        raise ValueError
    return int(value)


def _instant(value: Any) -> datetime:  # Any: JSON
    return require_utc("it", datetime.fromisoformat(value))


def _or_none(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:  # Any: JSON
    return lambda value: None if value is None else kind(value)


def _numbers(value: Any) -> dict[str, float]:  # Any: JSON
    if not isinstance(value, dict):
        raise MalformedReport("the metrics are not an object")
    try:
        return {key: _number(number) for key, number in value.items()}
    except TypeError as error:
        raise MalformedReport("a metric is not a finite number") from error


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
    "reads": _numbers,
    "history_tables": lambda v: tuple(_text(name) for name in _exactly(list)(v)),
    "output_count": _count,
    "stage_ms": _numbers,
    "peak_memory_bytes": _or_none(_positive),
    "canaries": lambda v: tuple(CanaryResult(**_read(_CANARY, c, "canary")) for c in _exactly(list)(v)),
    "features": lambda v: tuple(FeatureProfile(**_read(_FEATURE, f, "feature")) for f in _exactly(list)(v)),
    "error": _or_none(_text),
    "is_transient": _exactly(bool),
    "projection": _or_none(_text),
    "artifact_sha256": _or_none(_text),
    "merges": lambda v: {_text(key): _text(merge) for key, merge in _exactly(dict)(v).items()},
}
