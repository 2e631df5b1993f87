"""Scores from the outputs of a trained model: higher is worse, 0 to 1."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def calibration_problem(calibration: Any) -> str | None:  # Any: JSON
    """Return what is wrong with a calibration; None if it can be used, or there is none."""
    if calibration is None:
        return None
    if not isinstance(calibration, dict) or len(calibration) != 1:
        return f"is {calibration!r}: must be one of from, sigmoid, points"
    (kind, values), *_ = calibration.items()
    if kind in ("from", "sigmoid"):
        if not _are_numbers(values) or len(values) != 2:
            return f"{kind} is {values!r}: must be two numbers"
        if kind == "from" and values[0] == values[1]:
            return f"from is {values!r}: the two numbers must differ"
        return None if kind == "from" or values[1] else f"sigmoid is {values!r}: the scale must not be 0"
    if kind == "points":
        return _points_problem(values)
    return f"has {kind!r}: must be one of from, sigmoid, points"


def calibrated(raw: Numbers, calibration: Any) -> Numbers:  # Any: JSON
    """Return the scores of raw outputs; NaN stays NaN.

    `{from: [lo, hi]}` puts lo at 0 and hi at 1, clipped (lo may be the larger one);
    `{sigmoid: [middle, scale]}` is 1 / (1 + exp(-(raw - middle) / scale)); `{points: [[raw, score], ...]}`
    joins points by straight lines.
    """
    if calibration is None:
        return raw
    ((kind, values),) = calibration.items()
    scores: Numbers
    if kind == "from":
        low, high = values
        scores = np.clip((raw - low) / (high - low), 0.0, 1.0)
    elif kind == "sigmoid":
        middle, scale = values
        scores = 1.0 / (1.0 + np.exp(-np.clip((raw - middle) / scale, -700.0, 700.0)))
    else:
        at, marks = np.array(values, dtype=np.float64).T
        scores = np.interp(raw, at, marks)
    return scores


def _points_problem(points: Any) -> str | None:  # Any: JSON
    is_list = isinstance(points, list) and len(points) > 1
    if not is_list or not all(_are_numbers(point) and len(point) == 2 for point in points):
        return f"points is {points!r}: must be two pairs of numbers at least"
    at, scores = zip(*points, strict=True)
    if any(b <= a for a, b in pairwise(at)):
        return "points must rise in their first number"
    if list(scores) not in (sorted(scores), sorted(scores, reverse=True)):
        return "points must rise, or fall, in their score"
    return None if min(scores) >= 0 and max(scores) <= 1 else "points must have scores from 0 to 1"


def _are_numbers(values: Any) -> bool:  # Any: JSON
    return isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )
