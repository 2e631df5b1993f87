"""What a run really read: from before its window, and of the newest rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import compress
from typing import Any

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.canary import SharedOutputs
from airflow_detection.engine.model import ReadOnlyDatabase

SHARED, READ = "shared:", "read:"
"""Prefixes of names of profiles: of the scores that an upstream had, and of those that a model read there."""

RATIO = "ratio:"
"""Prefix of the name of a feature that holds a ratio for each entity, which stays near its usual value."""


class ReadRecorder:
    """Database access of a model, `query` alone, that notes what was found from before the window.

    Args:
        time_key: the column of a query's result that holds times, as instants or seconds since 1970.
        entity_keys: the columns that may hold entities; the first that a result has counts.
        before: the start of the window, UTC.
    """

    __slots__ = ("_entities", "_newest_s", "_oldest_s", "_rows", "_used", "query")

    def __init__(
        self, database: ReadOnlyDatabase, time_key: str | None, entity_keys: Collection[str], before: datetime
    ) -> None:
        self._rows, self._entities = 0, set[Any]()  # Any: what a query selects
        self._oldest_s, self._newest_s, self._used = math.inf, -math.inf, False

        def query(sql: str, params: JsonMapping | None = None) -> Inputs:
            """Run one SELECT; see `ReadOnlyDatabase`."""
            found = database.query(sql, params)
            self._note(found, time_key, sorted(entity_keys), before.timestamp())
            return found

        self.query = query

    def facts(self) -> dict[str, float]:
        """Return what was found; nothing where the model has asked nothing."""
        if not self._used:
            return {}
        facts = {"history_rows": float(self._rows), "history_entities": float(len(self._entities))}
        if self._oldest_s <= self._newest_s:
            facts |= {"history_oldest_s": self._oldest_s, "history_newest_s": self._newest_s}
        return facts

    def _note(
        self, found: Inputs, time_key: str | None, entity_keys: Collection[str], before_s: float
    ) -> None:
        self._used = True
        if time_key is None or time_key not in found.columns:
            self._rows += len(found)
            return
        seconds = _all_seconds(found[time_key])
        is_before = [s < before_s for s in seconds]
        known = list(compress(seconds, is_before))
        self._rows += len(known)
        self._oldest_s = min(self._oldest_s, min(known, default=math.inf))
        self._newest_s = max(self._newest_s, max(known, default=-math.inf))
        for name in entity_keys:
            if name in found.columns:
                self._entities.update(compress(found[name], is_before))
                return


def newer_rows(inputs: Inputs, used: Iterable[Any]) -> float | None:  # Any: instants or seconds
    """Return how many input rows are newer than all of the times that were used; None without times."""
    if inputs.time_key is None or inputs.time_key not in inputs.columns:
        return None
    times = used.tolist() if hasattr(used, "tolist") else tuple(used)
    newest = max((s for s in _all_seconds(times) if s == s), default=-math.inf)
    if (seconds := inputs.seconds(inputs.time_key)) is not None:
        return float((seconds > newest).sum())
    return float(sum(s > newest for s in _all_seconds(inputs[inputs.time_key])))


def shared_scores(
    features: Collection[str], shared: Mapping[str, SharedOutputs]
) -> dict[str, Iterable[float | None]]:
    """Return the scores of the upstreams of which a model says what it read, by the name of their profile."""
    return {
        SHARED + model_id: outputs.real_scores
        for model_id, outputs in shared.items()
        if READ + model_id in features
    }


def _all_seconds(values: Sequence[Any]) -> Sequence[float]:  # Any: what a query selects
    """Return instants as seconds since 1970, NaN where there is none."""
    if set(map(type, values)) == {float} and math.isfinite(sum(values)):
        return values
    return [math.nan if (s := _seconds(value)) is None else s for value in values]


def _seconds(value: Any) -> float | None:  # Any: what a query selects
    if isinstance(value, datetime):
        return value.timestamp()
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
