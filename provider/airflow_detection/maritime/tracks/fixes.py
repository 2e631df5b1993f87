"""From input columns to clean tracks: which fixes can be used, in time order, one vessel after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.domain.inputs import Inputs
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.tracks.mmsi import is_reserved

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.maritime.tracks.geo import FloatArray

SOG_NOT_AVAILABLE_KN = 102.25
"""102.3 means 'not available'; the column is single precision, hence the margin. 102.2 means 'or more'."""
COG_NOT_AVAILABLE_DEG = 360.0
HEADING_NOT_AVAILABLE_DEG = 360.0
"""511 means 'not available'; nothing from 360 on is an angle."""

_MAX_EXACT = 2.0**53

COLUMNS = ("mmsi", "observed_s", "lat", "lon", "sog_kn", "cog_deg", "heading_deg")
REQUIRED = COLUMNS[:4]
TIME = "observed_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixes:
    """Fixes by column, all of shape (n,); NaN where a value is not available.

    `observed_s` is seconds since 1970 UTC, speeds are knots, angles degrees.
    """

    mmsi: NDArray[np.int64]
    observed_s: FloatArray
    lat: FloatArray
    lon: FloatArray
    sog_kn: FloatArray
    cog_deg: FloatArray
    heading_deg: FloatArray

    def __len__(self) -> int:
        return len(self.mmsi)

    @property
    def is_usable(self) -> NDArray[np.bool_]:
        """Tell which fixes have a time and a position."""
        return ~(np.isnan(self.observed_s) | np.isnan(self.lat))

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Fixes:
        """Return the fixes at `index`, in its order."""
        return Fixes(
            mmsi=self.mmsi[index],
            observed_s=self.observed_s[index],
            lat=self.lat[index],
            lon=self.lon[index],
            sog_kn=self.sog_kn[index],
            cog_deg=self.cog_deg[index],
            heading_deg=self.heading_deg[index],
        )

    def features(self, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        """Return columns for a profile, without reserved MMSI: NaN where a value is not available."""
        real = self.take(~is_reserved(self.mmsi))
        return {name: getattr(real, name) for name in names}


def read_fixes(inputs: Inputs) -> Fixes:
    """Turn input columns into fixes; values that mean 'not available' become NaN, rows without MMSI go.

    A position counts only as a pair: latitude within 90 and longitude within 180 degrees.

    Raises:
        TerminalModelError: a column is missing (speeds and angles may be), or one holds no numbers.
    """
    if not inputs.columns:
        inputs = Inputs(dict.fromkeys(REQUIRED, ()))
    column = {name: _numbers(inputs, name) for name in COLUMNS}
    lat, lon = column["lat"], column["lon"]
    no_position = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    lat[no_position] = lon[no_position] = np.nan
    for name, limit in (
        ("sog_kn", SOG_NOT_AVAILABLE_KN),
        ("cog_deg", COG_NOT_AVAILABLE_DEG),
        ("heading_deg", HEADING_NOT_AVAILABLE_DEG),
    ):
        column[name][~((column[name] >= 0) & (column[name] < limit))] = np.nan
    mmsi = column.pop("mmsi")
    has_mmsi = np.abs(mmsi) < _MAX_EXACT  # false for NaN
    others = {name: values[has_mmsi] for name, values in column.items()}
    return Fixes(mmsi=mmsi[has_mmsi].astype(np.int64), **others)


def in_time_order(fixes: Fixes) -> Fixes:
    """Sort the usable fixes by MMSI, then time, then place, each (MMSI, time, place) once.

    The order of the input changes nothing: of repeated fixes the one with the lowest known speed stays.
    """
    usable = fixes.take(fixes.is_usable)
    fixes = usable.take(_time_order(usable))
    is_new = np.ones(len(fixes), dtype=np.bool_)
    is_new[1:] = (
        (fixes.mmsi[1:] != fixes.mmsi[:-1])
        | (fixes.observed_s[1:] != fixes.observed_s[:-1])
        | (fixes.lat[1:] != fixes.lat[:-1])
        | (fixes.lon[1:] != fixes.lon[:-1])
    )
    return fixes.take(is_new)


def _time_order(f: Fixes) -> NDArray[np.int64]:
    """Return the rows in order of (MMSI, time, place, ...); by place only where a time comes twice."""
    order = np.lexsort((f.observed_s, f.mmsi))
    is_same = (np.diff(f.mmsi[order]) == 0) & (np.diff(f.observed_s[order]) == 0)
    several = np.append(is_same, False) | np.insert(is_same, 0, False) if len(f) else is_same
    rows = order[several]
    several_keys = (f.heading_deg, f.cog_deg, f.sog_kn, f.lon, f.lat, f.observed_s, f.mmsi)
    order[several] = rows[np.lexsort([key[rows] for key in several_keys])]
    return order


def iso_utc(observed_s: float) -> str:
    """Write an instant, seconds since 1970 UTC, as ISO 8601."""
    return datetime.fromtimestamp(float(observed_s), UTC).isoformat()


def _numbers(inputs: Inputs, name: str) -> FloatArray:
    if name not in inputs.columns:
        if name in REQUIRED:
            raise TerminalModelError(f"the input query selects no column {name!r}")
        return np.full(len(inputs), np.nan)
    try:
        numbers = np.array(inputs.array(name), dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise TerminalModelError(f"column {name!r} holds a value that is not a number: {exc}") from exc
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers
