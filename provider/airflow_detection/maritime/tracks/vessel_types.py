"""Classes of vessels by the type code that they transmit (ITU-R M.1371), and the speed limit of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.params import positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.domain.inputs import Inputs
    from airflow_detection.domain.json_values import JsonMapping
    from airflow_detection.maritime.tracks.geo import FloatArray

CLASSES: Mapping[str, tuple[int, ...]] = {
    "fishing": (30,),
    "towing": (31, 32, 52),
    "military": (35,),
    "sailing": (36,),
    "pleasure": (37,),
    "high_speed": tuple(range(40, 50)),
    "search_and_rescue": (51,),
    "passenger": tuple(range(60, 70)),
    "cargo": tuple(range(70, 80)),
    "tanker": tuple(range(80, 90)),
}
"""Class -> type codes; a code that is in none of them (pilots, dredgers, 0 for unknown) has no class."""


def limits_by_type(params: JsonMapping, name: str) -> Mapping[str, float] | None:
    """Read a param that maps classes to speeds; None where it is not given.

    Raises:
        TerminalModelError: it is not a mapping, names another class, or a speed is not a number above 0.
    """
    limits = params.get(name)
    if limits is None:
        return None
    if not isinstance(limits, Mapping):
        raise TerminalModelError(f"param {name!r} is {limits!r}: must map vessel classes to knots")
    if unknown := sorted(set(limits) - set(CLASSES)):
        raise TerminalModelError(
            f"param {name!r} names {unknown[0]!r}: must name classes of {', '.join(CLASSES)}"
        )
    return {key: positive(limits, key, math.nan) for key in limits}


def speed_limits(
    inputs: Inputs, vessels: NDArray[np.int64], default_kn: float, by_type: Mapping[str, float]
) -> FloatArray:
    """Return the speed limit of each vessel by the type codes in its rows: the highest of several.

    Args:
        inputs: with a column `vessel_type`; null where a row has none.
        vessels: MMSI in ascending order, shape (n,).
        default_kn: for a vessel without a class, or whose class has no limit, knots.
    Returns:
        Knots, shape (n,).
    Raises:
        TerminalModelError: there is no such column.
    """
    if inputs.columns and "vessel_type" not in inputs.columns:
        raise TerminalModelError("the input query selects no column 'vessel_type'")
    of_code = {code: by_type[name] for name in by_type for code in CLASSES[name]}
    limits: dict[float, float] = {}
    for mmsi, code in set(
        zip(inputs.columns.get("mmsi", ()), inputs.columns.get("vessel_type", ()), strict=True)
    ):
        if mmsi is not None and code is not None:
            limits[mmsi] = max(limits.get(mmsi, 0.0), of_code.get(code, default_kn))
    return np.array([limits.get(mmsi, default_kn) for mmsi in vessels.tolist()], dtype=np.float64)
