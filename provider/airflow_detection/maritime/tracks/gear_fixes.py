"""Gear among the input rows: the fixes of transmitters from which a name of gear was heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.domain.inputs import Inputs
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.tracks.fixes import REQUIRED, Fixes, read_fixes
from airflow_detection.maritime.tracks.gear_names import gear_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = (*REQUIRED, "vessel_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class GearFixes:
    """The usable fixes of gear, shape (n,), each (MMSI, identity, time, place) once, in this order.

    `identity` is an index into `identities`, -1 where the transmitter has several and the fix names none.
    """

    fixes: Fixes
    identity: NDArray[np.int64]
    identities: list[str]
    mmsis: dict[str, set[int]]
    names: dict[str, set[str]]


def read_gear(inputs: Inputs) -> GearFixes:
    """Find the gear among input rows: a transmitter is gear once a name of gear was heard from it.

    Gear whose name is nobody's in particular is known by its MMSI. A fix without a name of gear has the
    identity of its MMSI where that has only one.

    Raises:
        TerminalModelError: a column is missing, or holds no numbers.
    """
    if not inputs.columns:
        inputs = Inputs(dict.fromkeys(COLUMNS, ()))
    if "vessel_name" not in inputs.columns:
        raise TerminalModelError("the input query selects no column 'vessel_name'")
    heard_names = inputs["vessel_name"]
    gear = {name: parts for name in set(heard_names) if name and (parts := gear_name(str(name)))}
    of_mmsi: dict[int, set[str]] = {}
    mmsis: dict[str, set[int]] = {}
    names: dict[str, set[str]] = {}
    for mmsi, name in zip(inputs["mmsi"], heard_names, strict=True):
        if name in gear and _is_mmsi(mmsi):
            identity = gear[name].identity or str(int(mmsi))
            of_mmsi.setdefault(int(mmsi), set()).add(identity)
            mmsis.setdefault(identity, set()).add(int(mmsi))
            names.setdefault(identity, set()).add(str(name))
    identities = sorted(mmsis)
    number = {identity: i for i, identity in enumerate(identities)}
    rows = [i for i, mmsi in enumerate(inputs["mmsi"]) if _is_mmsi(mmsi) and int(mmsi) in of_mmsi]
    own = np.full(len(rows), -1, dtype=np.int64)
    for k, i in enumerate(rows):
        mmsi, name = int(inputs["mmsi"][i]), heard_names[i]
        if name in gear:
            own[k] = number[gear[name].identity or str(mmsi)]
        elif len(of_mmsi[mmsi]) == 1:
            own[k] = number[next(iter(of_mmsi[mmsi]))]
    fixes = read_fixes(
        Inputs({c: tuple(inputs[c][i] for i in rows) for c in REQUIRED if c in inputs.columns})
    )
    order = np.lexsort((fixes.lon, fixes.lat, fixes.observed_s, own, fixes.mmsi))
    order = order[fixes.is_usable[order]]
    fixes, own = fixes.take(order), own[order]
    keys = np.column_stack((fixes.mmsi, own, fixes.observed_s, fixes.lat, fixes.lon))
    is_new = np.append(True, (keys[1:] != keys[:-1]).any(axis=1))[: len(fixes)]
    fixes, own = fixes.take(is_new), own[is_new]
    return GearFixes(
        fixes=fixes,
        identity=own,
        identities=identities,
        mmsis=mmsis,
        names=names,
    )


def gear_mmsis(inputs: Inputs) -> frozenset[int]:
    """Return the MMSI from which a name of gear was heard; none without the column `vessel_name`."""
    if not inputs.columns.keys() >= {"mmsi", "vessel_name"}:
        return frozenset()
    heard = set(zip(inputs["mmsi"], inputs["vessel_name"], strict=True))
    return frozenset(int(mmsi) for mmsi, name in heard if name and _is_mmsi(mmsi) and gear_name(str(name)))


def _is_mmsi(mmsi: object) -> bool:
    return isinstance(mmsi, (int, float)) and abs(mmsi) < 2.0**53  # false for NaN
