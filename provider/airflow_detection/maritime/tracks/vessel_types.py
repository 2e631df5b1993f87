"""Classes of vessels by the type code that they transmit (ITU-R M.1371): speed limits, and craft at work."""

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
    "wing_in_ground": tuple(range(20, 30)),
    "fishing": (30,),
    "towing": (31, 32, 52),
    "dredging": (33,),
    "diving": (34,),
    "military": (35,),
    "sailing": (36,),
    "pleasure": (37,),
    "high_speed": tuple(range(40, 50)),
    "pilot": (50,),
    "search_and_rescue": (51,),
    "port_tender": (53,),
    "anti_pollution": (54,),
    "law_enforcement": (55,),
    "medical": (58,),
    "passenger": tuple(range(60, 70)),
    "cargo": tuple(range(70, 80)),
    "tanker": tuple(range(80, 90)),
}
"""Class -> type codes; a code that is in none of them (0 for unknown) has no class."""

FAST_KN: Mapping[str, float] = {
    "wing_in_ground": 200.0,
    "military": 70.0,
    "pleasure": 70.0,
    "high_speed": 70.0,
    "search_and_rescue": 200.0,
    "law_enforcement": 70.0,
    "passenger": 60.0,
}
"""Classes of which some are faster than a ship, knots; some rescuers fly and send a ship's type."""


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


def types_of(inputs: Inputs) -> Mapping[int, set[int]]:
    """Return the type codes in the rows of each MMSI that has any; none without the column `vessel_type`."""
    types: dict[int, set[int]] = {}
    if "mmsi" in inputs.columns and "vessel_type" in inputs.columns:
        for mmsi, code in set(zip(inputs["mmsi"], inputs["vessel_type"], strict=True)):
            if mmsi is not None and code is not None:
                types.setdefault(mmsi, set()).add(code)
    return types


def has_class(inputs: Inputs, vessels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which vessels (MMSI) send the type code of a class, shape (n,)."""
    known = {code for codes in CLASSES.values() for code in codes}
    typed = [mmsi for mmsi, codes in types_of(inputs).items() if codes & known]
    return np.isin(vessels, typed)


def vessels_of_classes(inputs: Inputs, names: frozenset[str]) -> frozenset[int]:
    """Return the MMSI that are of one of these classes by the type codes in their rows."""
    codes = {code for name in names for code in CLASSES[name]}
    return frozenset(mmsi for mmsi, types in types_of(inputs).items() if types & codes)


def speed_limits(
    inputs: Inputs, vessels: NDArray[np.int64], default_kn: float, by_type: Mapping[str, float] | None
) -> FloatArray:
    """Return the speed limit of each vessel by the type codes in its rows: the highest of several.

    Without a limit of its own a class of `FAST_KN` has that one, or `default_kn` if it is higher.

    Args:
        inputs: with a column `vessel_type` if `by_type` is given; null where a row has none.
        vessels: MMSI in ascending order, shape (n,).
        default_kn: for a vessel without a class, or whose class has no limit, knots.
    Returns:
        Knots, shape (n,).
    Raises:
        TerminalModelError: there is no such column.
    """
    if by_type is not None and inputs.columns and "vessel_type" not in inputs.columns:
        raise TerminalModelError("the input query selects no column 'vessel_type'")
    by_class = {name: max(kn, default_kn) for name, kn in FAST_KN.items()} | dict(by_type or {})
    of_code = {code: by_class[name] for name in by_class for code in CLASSES[name]}
    limits = {
        mmsi: max(of_code.get(code, default_kn) for code in codes) for mmsi, codes in types_of(inputs).items()
    }
    return np.array([limits.get(mmsi, default_kn) for mmsi in vessels.tolist()], dtype=np.float64)
