"""Lawful forms of an MMSI (ITU-R M.585), and the MMSI that are reserved for canaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MMSI_LIMIT = 2**30
"""A radio sends 30 bits: no MMSI on the air is negative or reaches this number."""

# (divisor, first, last): the leading digits, which hold a country's number (MID) from 201 to 775
_FORMS = (
    (1_000_000, 201, 775),  # MIDxxxxxx     ship
    (100_000, 201, 775),  # 0MIDxxxxx     group of ships
    (10_000, 201, 775),  # 00MIDxxxx     coast station
    (1_000, 111_201, 111_775),  # 111MIDxxx     search and rescue aircraft
    (100_000, 8_201, 8_775),  # 8MIDxxxxx     hand-held radio
    (10_000, 98_201, 98_775),  # 98MIDxxxx     craft of a parent ship
    (10_000, 99_201, 99_775),  # 99MIDxxxx     aid to navigation
    (1_000_000, 970, 970),  # 970xxxxxx     search and rescue transmitter
    (1_000_000, 972, 972),  # 972xxxxxx     man overboard
    (1_000_000, 974, 974),  # 974xxxxxx     emergency beacon
)


def is_valid(mmsi: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which MMSI have a lawful form. Negative ones stand for lawful ships: see `is_reserved`."""
    valid = mmsi < 0
    for divisor, first, last in _FORMS:
        lead = mmsi // divisor
        valid |= (lead >= first) & (lead <= last)
    return valid


def is_reserved(mmsi: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which MMSI cannot be on the air, and so belong to canaries: no metric counts them."""
    return (mmsi < 0) | (mmsi >= MMSI_LIMIT)
