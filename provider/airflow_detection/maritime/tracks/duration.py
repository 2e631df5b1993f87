"""Scores of durations: by half-life, and of collisions, in consecutive hours counted back from the window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.params import positive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from airflow_detection.domain.json_values import JsonMapping
    from airflow_detection.domain.specs import Window
    from airflow_detection.maritime.tracks.geo import FloatArray

MAX_EMPTY_BINS = 2
"""Bins without a collision that do not end it."""

E = TypeVar("E")
T = TypeVar("T")


def half_life_score(duration_s: float, least_s: float) -> float:
    """Return 1 - 0.5 ** (duration / least duration): 0.5 at the least duration, 0.75 at twice."""
    return -math.expm1(-math.log(2) * duration_s / least_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Bins of time as long as the window, counted back from its end: 0 is the window itself.

    `count` bins lie before the window; a collision is CRITICAL once seen in `critical` of them.
    """

    window: Window
    count: int
    critical: int

    @classmethod
    def of(cls, window: Window, params: JsonMapping) -> Hours:
        """Read `critical_hours` (3) and `history_hours` (6); a window over an hour counts as one hour.

        Raises:
            TerminalModelError: a param is not a number above 0, or the history cannot hold what is critical.
        """
        critical_hours = positive(params, "critical_hours", 3.0)
        history_hours = positive(params, "history_hours", 6.0)
        if history_hours < critical_hours:
            raise TerminalModelError(
                f"param 'history_hours' is {history_hours:g}: "
                f"must be at least 'critical_hours', {critical_hours:g}"
            )
        hours = min((window.end - window.start).total_seconds() / 3600.0, 1.0)
        return cls(
            window=window,
            count=math.ceil(history_hours / hours),
            critical=math.ceil(critical_hours / hours),
        )

    @property
    def length_s(self) -> float:
        """Length of a bin, seconds."""
        return (self.window.end - self.window.start).total_seconds()

    @property
    def since(self) -> datetime:
        """Start of the oldest bin, UTC."""
        return self.window.start - self.count * (self.window.end - self.window.start)

    def back(self, observed_s: FloatArray) -> NDArray[np.int64]:
        """Return the bin of each instant, shape (n,); what is not before the window's end is in 0."""
        bins = np.ceil((self.window.end.timestamp() - observed_s) / self.length_s) - 1
        return np.asarray(np.maximum(bins, 0), dtype=np.int64)

    def in_a_row(self, collisions: Mapping[tuple[E, int], T], entity: E) -> list[T]:
        """Return the collisions of an entity from bin 0 on back; they are by (entity, bin).

        Up to two empty bins in a row are bridged: who transmits in turns, or is heard seldom, is still there.
        None where bin 0 is empty.
        """
        found: list[T] = []
        last = 0
        for number in range(self.count + 1):
            collision = collisions.get((entity, number))
            if collision is not None and number - last <= MAX_EMPTY_BINS + 1:
                found.append(collision)
                last = number
            elif not found:
                break
        return found

    def score(self, strength: float, bins: int) -> float:
        """Score a collision of strength in (0, 1] that was seen in `bins` bins.

        0.5 to 0.7 (HIGH) below `critical` bins, 0.7 to 1 (CRITICAL) from there on.
        """
        return 0.7 + 0.3 * strength if bins >= self.critical else 0.5 + 0.2 * strength
