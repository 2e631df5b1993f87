"""Lawful forms of an MMSI (ITU-R M.585), the kind of station that each stands for, and reserved MMSI."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MMSI_LIMIT = 2**30
"""A radio sends 30 bits: no MMSI on the air is negative or reaches this number."""


class Station(StrEnum):
    """Kind of station by the form of its MMSI; a model says which kinds it judges."""

    SHIP = "ship"  # also what has no lawful form: it may be a ship whose identity is wrong
    GROUP = "group of ships"
    COAST = "coast or base station"
    AIRCRAFT = "search and rescue aircraft"
    HANDHELD = "hand-held radio"
    CRAFT = "craft of a parent ship"
    AID = "aid to navigation"
    DISTRESS = "distress transmitter"


# (divisor, first, last, kind): the leading digits, which hold a country's number (MID) from 201 to 775
_FORMS = (
    (1_000_000, 201, 775, Station.SHIP),  # MIDxxxxxx
    (100_000, 201, 775, Station.GROUP),  # 0MIDxxxxx
    (10_000, 201, 775, Station.COAST),  # 00MIDxxxx
    (1_000, 111_201, 111_775, Station.AIRCRAFT),  # 111MIDxxx
    (100_000, 8_201, 8_775, Station.HANDHELD),  # 8MIDxxxxx
    (10_000, 98_201, 98_775, Station.CRAFT),  # 98MIDxxxx
    (10_000, 99_201, 99_775, Station.AID),  # 99MIDxxxx
    (1_000_000, 970, 970, Station.DISTRESS),  # 970xxxxxx search and rescue transmitter
    (1_000_000, 972, 972, Station.DISTRESS),  # 972xxxxxx man overboard
    (1_000_000, 974, 974, Station.DISTRESS),  # 974xxxxxx emergency beacon
)

SHIPS = frozenset({Station.SHIP})
VESSELS = frozenset({Station.SHIP, Station.CRAFT})
"""Ships, and the boats that they carry."""


def is_valid(mmsi: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which MMSI have a lawful form. Negative ones stand for lawful ships: see `is_reserved`."""
    valid = mmsi < 0
    for divisor, first, last, _ in _FORMS:
        lead = mmsi // divisor
        valid |= (lead >= first) & (lead <= last)
    return valid


def is_of_kind(mmsi: NDArray[np.int64], kinds: frozenset[Station]) -> NDArray[np.bool_]:
    """Tell which MMSI are stations of these kinds; what has no lawful form, or is reserved, is a ship."""
    chosen = np.full(len(mmsi), Station.SHIP in kinds, dtype=np.bool_)
    for divisor, first, last, kind in _FORMS:
        lead = mmsi // divisor
        chosen[(lead >= first) & (lead <= last)] = kind in kinds
    return chosen


def station(mmsi: int) -> Station:
    """Return the kind of one station."""
    for divisor, first, last, kind in _FORMS:
        if first <= mmsi // divisor <= last:
            return kind
    return Station.SHIP


def is_reserved(mmsi: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which MMSI cannot be on the air, and so belong to canaries: no metric counts them."""
    return (mmsi < 0) | (mmsi >= MMSI_LIMIT)
