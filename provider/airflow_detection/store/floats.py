"""Numbers of single precision, as the decimals that Postgres writes them with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXACT_POWER = 22
"""The largest power of ten that is exact in double precision."""

_MAX_DIGITS = 10
"""Nine digits name every number of single precision; one more for a logarithm that is one too large."""

_LARGE = np.float32(2**24)
"""From here on the numbers are whole, and more than one apart."""


def shortest_doubles(numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return, for each number of single precision, the double nearest to its shortest decimal.

    0.1 of type real becomes 0.1, as if it were read as text, and not 0.10000000149011612.
    """
    wide = numbers.astype(np.float64)
    size = np.abs(wide)
    is_whole = (size < _LARGE) & (wide == np.rint(wide))
    left = np.flatnonzero(np.isfinite(wide) & ~is_whole)
    is_far = (size[left] < 10.0 ** (_MAX_DIGITS - _EXACT_POWER)) | (size[left] > 10.0**_EXACT_POWER)
    for row in left[is_far].tolist():
        wide[row] = float(str(numbers[row]))
    left = left[~is_far]
    exponent = np.floor(np.log10(size[left])).astype(np.int64)
    for digits in range(_MAX_DIGITS):
        found, is_found = _decimals(wide[left], numbers[left], digits - exponent)
        wide[left[is_found]] = found[is_found]
        left, exponent = left[~is_found], exponent[~is_found]
        if not len(left):
            break
    return wide


def _decimals(
    wide: NDArray[np.float64], numbers: NDArray[np.float32], places: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the nearest decimals of so many places, and which of them are read as the same number."""
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    scaled = wide * up / down
    below = np.floor(scaled)
    found, is_found, best = wide, np.zeros(len(wide), dtype=np.bool_), np.full(len(wide), np.inf)
    for whole in (below, below + 1):
        decimal = whole * down / up
        is_same = (decimal.astype(np.float32) == numbers) & ~_is_between(decimal, numbers)
        distance = np.abs(whole - scaled)
        is_nearer = is_same & ((distance < best) | ((distance == best) & (whole % 2 == 0)))
        found, best = np.where(is_nearer, decimal, found), np.where(is_nearer, distance, best)
        is_found |= is_same
    return found, is_found


def _is_between(decimal: NDArray[np.float64], numbers: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which decimals name no number: they are in the middle of two, as only large ones can be."""
    is_between = np.zeros(len(numbers), dtype=np.bool_)
    large = np.flatnonzero(np.abs(numbers) >= _LARGE)
    own, at = numbers[large].astype(np.float64), decimal[large]
    side = np.where(at > own, np.inf, -np.inf).astype(np.float32)
    is_between[large] = 2 * (at - own) == np.nextafter(numbers[large], side).astype(np.float64) - own
    return is_between
