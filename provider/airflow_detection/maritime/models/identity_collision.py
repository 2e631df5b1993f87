"""One MMSI in two places: fixes that take turns between two tracks which no single ship can sail."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.params import one_of, positive
from airflow_detection.maritime.tracks.duration import Hours
from airflow_detection.maritime.tracks.echoes import MAX_LAG_H, late_fixes, may_be_late, without
from airflow_detection.maritime.tracks.fixes import TIME, Fixes, in_time_order, iso_utc, read_fixes
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, FloatArray, haversine_km
from airflow_detection.maritime.tracks.history import HISTORY_TABLES, merged, stored_fixes, thinned_fixes
from airflow_detection.maritime.tracks.mmsi import VESSELS, is_of_kind, is_valid, station
from airflow_detection.maritime.tracks.nowhere import without_nowhere
from airflow_detection.maritime.tracks.separation import SAME_PLACE_KM, separate
from airflow_detection.maritime.vessel_canaries import vessel_canary
from airflow_detection.maritime.vessel_outputs import unjudged, vessel_metrics, vessel_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle

THINNED_S = 300.0  # steps of a track from before the oldest bin
MIN_FIXES = 2  # of a track: a single false fix is not a second transmitter
MIN_ALTERNATIONS = 3  # there and back is one excursion of one transmitter
FALSE_SHARE = 1 / 3  # of the longest track's fixes: a place that is reported more often is no false one
FALSE_PLACE_KM = 0.1
MIN_SAME_FIXES, SAME_FIX_KM = 2, 0.001  # one fix again and again: a receiver at rest would jitter
SAME_SHIP_KN, SAME_SHIP_DEG = 2.0, 20.0  # a false fix says of speed and heading what the others say
ALTERNATION_SCALE = 4.0
MAX_TRACKS_SHOWN = 5


class IdentityCollision(BaseDetectionModel):
    """One output per vessel; null below two fixes, 0 where nothing takes turns.

    Ships and their boats are judged (ITU-R M.585); the score of any other station is null. Where several
    vessels jump to one point, and where one false fix comes again and again, there is no second transmitter.

    How long a collision lasts is read from the stored positions of the hours before, never from earlier
    outputs: a cycle that is run again, or out of order, comes to the same rows. Inputs from before the window
    count as such positions too.

    Params:
        separation_km: how far apart the tracks must be where they take turns, km, at least 1 (20).
        bins: `window` judges the window as a whole, `clock_hour` each UTC hour in it alone (`window`).
        v_max_kn: the speed that no ship exceeds, knots (50).
        critical_hours, history_hours: see `Hours.of`.
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon")
    history_tables: ClassVar[tuple[str, ...]] = HISTORY_TABLES

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge every vessel that has a row in the inputs.

        Raises:
            TerminalModelError: a param is not a number or out of bounds, or an input column is missing.
        """
        rule = _VesselCollisionRule.of(ctx.params)
        hours = Hours.of(ctx.window, ctx.params)
        fixes = read_fixes(ctx.inputs)
        kept = in_time_order(fixes)
        kept = kept.take(is_of_kind(kept.mmsi, VESSELS))
        now = kept.take(hours.back(kept.observed_s) == 0)
        by_bin = collisions(now, hours, rule)
        flagged = np.array(sorted(mmsi for mmsi, _ in by_bin), dtype=np.int64)
        repeated = _repeated(ctx, flagged, now.take(np.isin(now.mmsi, flagged)), rule)
        if len(repeated):
            by_bin = collisions(without(now, repeated), hours, rule)
            flagged = np.array(sorted(mmsi for mmsi, _ in by_bin), dtype=np.int64)
        earlier = kept.take((hours.back(kept.observed_s) > 0) & np.isin(kept.mmsi, flagged))
        earlier = merged(earlier, read_fixes(stored_fixes(ctx, hours.since, flagged)))
        by_bin |= collisions(earlier, hours, rule)
        outputs = list(_outputs(np.unique(fixes.mmsi), now, by_bin, hours, rule))
        return ModelResult(
            outputs_per_input=outputs,
            metrics=vessel_metrics(
                outputs, collision_count=lambda output: bool(output["evidence"]["is_open"])
            ),
            features=now.features((*self.features, TIME)),
        )

    def reads_since(self, cycle: Cycle) -> datetime:
        """Return the start of the oldest bin, or from when on a clock may be late, UTC."""
        return min(Hours.of(cycle.window, self.params).since, _echoes_since(cycle))

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """A far clone of hours, a clone just far enough, one not far enough, a single fix (null)."""
        rule, hours = _VesselCollisionRule.of(self.params), Hours.of(cycle.window, self.params)
        start = cycle.window.start.timestamp()
        start += (-start) % 3600 if (start + 10) // 3600 > start // 3600 else 0.0  # all in one clock hour

        def canary(mmsi: int, expected: float | None, km: float, fixes: int, bins: int) -> Canary:
            """Take turns between two places in mid-Atlantic, each second, in each of the last `bins` bins."""
            return vessel_canary(
                mmsi,
                expected,
                [
                    (
                        start + i - hours.length_s * back,
                        3.0 * mmsi + math.degrees(km / EARTH_RADIUS_KM) * (i % 2),
                        -25.0,
                    )
                    for back in range(bins)
                    for i in range(fixes)
                ],
            )

        far, near = 20 * rule.separation_km, 1.05 * rule.separation_km
        yield canary(-1, hours.score(rule.strength(7, far), hours.critical), far, 8, hours.critical)
        yield canary(-2, hours.score(rule.strength(3, near), 1), near, 4, 1)
        close = canary(-3, 0.0, 0.95 * rule.separation_km, 8, hours.critical)
        unplaced = tuple({**row, "lat": 91.0, "lon": 181.0} for row in close.rows)
        yield replace(
            close, rows=tuple(row for both in zip(close.rows, unplaced, strict=True) for row in both)
        )
        yield canary(-4, 0.0, far, 3, 1)
        yield canary(-5, None, far, 1, 1)


def _echoes_since(cycle: Cycle) -> datetime:
    return cycle.window.start - timedelta(hours=MAX_LAG_H)


def _repeated(
    ctx: ModelContext, flagged: NDArray[np.int64], fixes: Fixes, rule: _VesselCollisionRule
) -> Fixes:
    """Return the fixes of flagged vessels that repeat their own track: late, or with a sign lost."""
    if not len(flagged):
        return fixes
    suspects = np.intersect1d(may_be_late(fixes, rule.v_max_kn), flagged)
    before = thinned_fixes(ctx, _echoes_since(ctx.cycle), THINNED_S, suspects)
    return late_fixes(fixes, before, rule.v_max_kn, with_images=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _VesselCollisionRule:
    separation_km: float
    is_by_clock_hour: bool
    v_max_kn: float

    @classmethod
    def of(cls, params: JsonMapping) -> _VesselCollisionRule:
        separation_km = positive(params, "separation_km", 20.0)
        if separation_km < SAME_PLACE_KM:
            raise TerminalModelError(
                f"param 'separation_km' is {separation_km:g}: must be at least {SAME_PLACE_KM:g} km"
            )
        return cls(
            separation_km=separation_km,
            is_by_clock_hour=one_of(params, "bins", ("window", "clock_hour")) == "clock_hour",
            v_max_kn=positive(params, "v_max_kn", 50.0),
        )

    def strength(self, alternations: int, km: float) -> float:
        """Rate how clear a collision is, in (0, 1): more turns and a larger distance are clearer."""
        return math.expm1(-alternations / ALTERNATION_SCALE) * math.expm1(-km / self.separation_km)


@dataclass(frozen=True, slots=True, kw_only=True)
class VesselCollision:
    """One MMSI in two places in one bin; seconds since 1970 UTC, distances km."""

    alternations: int
    separation_km: float
    first_s: float
    last_s: float
    tracks: tuple[dict[str, Any], ...]  # Any: JSON


def collisions(
    fixes: Fixes, hours: Hours, rule: _VesselCollisionRule
) -> dict[tuple[int, int], VesselCollision]:
    """Find the collisions among fixes in order of (MMSI, time), by (MMSI, bin)."""
    fixes = without_nowhere(fixes)
    cells = np.column_stack((fixes.mmsi, hours.back(fixes.observed_s)))
    if rule.is_by_clock_hour:
        cells = np.column_stack((cells, fixes.observed_s // 3600))
    is_new = np.append(True, (cells[1:] != cells[:-1]).any(axis=1))[: len(fixes)]
    cell = np.cumsum(is_new) - 1
    tracks = separate(replace(fixes, mmsi=cell), v_max_kn=rule.v_max_kn)

    # consecutive fixes of tracks with two fixes or more, in different tracks, far apart
    strong = np.flatnonzero(np.bincount(tracks)[tracks] >= MIN_FIXES) if len(fixes) else cell
    strong = strong[~_is_false_place(fixes.take(strong), cell[strong], tracks[strong])]
    first, second = strong[:-1], strong[1:]
    km = haversine_km(fixes.lat[first], fixes.lon[first], fixes.lat[second], fixes.lon[second])
    is_turn = (cell[first] == cell[second]) & (tracks[first] != tracks[second]) & (km >= rule.separation_km)
    first, second, km = first[is_turn], second[is_turn], km[is_turn]
    by_bin: dict[tuple[int, int], VesselCollision] = {}
    for number in np.unique(cell[first]).tolist():
        of_cell = cell[first] == number
        taken = np.union1d(first[of_cell], second[of_cell])  # fixes that are on either side of a turn
        places = np.bincount(tracks[taken] - tracks[taken].min())
        alternations = int(np.count_nonzero(of_cell))
        if alternations < MIN_ALTERNATIONS or np.count_nonzero(places >= MIN_FIXES) < 2:
            continue
        part = np.flatnonzero(cell == number)
        collision = VesselCollision(
            alternations=alternations,
            separation_km=float(np.median(km[of_cell])),
            first_s=float(fixes.observed_s[taken[0]]),
            last_s=float(fixes.observed_s[taken[-1]]),
            tracks=_described(fixes, part, tracks),
        )
        key = (int(fixes.mmsi[part[0]]), int(cells[part[0], 1]))
        by_bin[key] = _clearer(collision, by_bin[key]) if key in by_bin else collision
    return by_bin


def _is_false_place(fixes: Fixes, cell: NDArray[np.int64], tracks: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which fixes are of a track that is one false fix, repeated at one place, and no transmitter.

    It comes as single fixes within 100 m, has a third of the fixes of the longest track in its cell at most,
    and says of speed, course and heading what the longest track says, because another transmitter differs, or
    is the same to a metre, because another one jitters. Under an
    identity that nobody was given several transmitters are the likelier reason.
    """
    is_false = np.zeros(len(fixes), dtype=np.bool_)
    is_new = np.append(True, tracks[1:] != tracks[:-1])[: len(fixes)]
    is_turn = (cell[1:] == cell[:-1]) & is_new[1:] & is_valid(fixes.mmsi[1:])
    several = np.unique(cell[np.flatnonzero(is_turn) + 1])
    for number in several.tolist():
        part = np.flatnonzero(cell == number)
        names, counts = np.unique(tracks[part], return_counts=True)
        longest = fixes.take(part[tracks[part] == names[counts.argmax()]])
        for name in names[counts <= FALSE_SHARE * counts.max()].tolist():
            own = part[tracks[part] == name]
            places = fixes.take(own)
            km = haversine_km(places.lat[:1], places.lon[:1], places.lat, places.lon)
            is_one_place = bool(is_new[own].all()) and km.max() <= FALSE_PLACE_KM
            is_one_fix = len(own) >= MIN_SAME_FIXES and km.max() <= SAME_FIX_KM
            is_false[own] = is_one_place and (is_one_fix or _is_alike(places, longest))
    return is_false


def _is_alike(one: Fixes, other: Fixes) -> bool:
    """Tell whether two tracks say the same of the ship: what is known of it, its speed and its heading."""
    known = ((one.heading_deg, other.heading_deg), (one.cog_deg, other.cog_deg))
    if any(_has(a) != _has(b) for a, b in known):
        return False
    turned = _median(one.heading_deg) - _median(other.heading_deg)
    faster = _median(one.sog_kn) - _median(other.sog_kn)
    return not (abs((turned + 180) % 360 - 180) > SAME_SHIP_DEG or abs(faster) > SAME_SHIP_KN)


def _has(values: FloatArray) -> bool:
    return not bool(np.isnan(values).all())


def _median(values: FloatArray) -> float:
    """Return the median of the known values; NaN where there is none."""
    return float(np.nanmedian(values)) if _has(values) else math.nan


def _clearer(one: VesselCollision, other: VesselCollision) -> VesselCollision:
    """Return, of two in one bin, the one with more turns, seen from the first of both to the last."""
    clear = max(one, other, key=lambda c: (c.alternations, c.separation_km))
    first_s, last_s = min(one.first_s, other.first_s), max(one.last_s, other.last_s)
    return replace(clear, first_s=first_s, last_s=last_s)


def _described(
    fixes: Fixes, part: NDArray[np.int64], tracks: NDArray[np.int64]
) -> tuple[dict[str, Any], ...]:
    """Describe the tracks of two fixes or more among the fixes at `part`, those with most fixes first."""
    described = []
    for number in np.unique(tracks[part]).tolist():
        own = part[tracks[part] == number]
        i = int(own[-1])
        if len(own) >= MIN_FIXES:
            last = [float(fixes.lat[i]), float(fixes.lon[i])]
            described.append({"fixes": len(own), "last": last, "last_at": iso_utc(fixes.observed_s[i])})
    return tuple(sorted(described, key=lambda track: -track["fixes"]))


def _outputs(
    vessels: NDArray[np.int64],
    now: Fixes,
    by_bin: dict[tuple[int, int], VesselCollision],
    hours: Hours,
    rule: _VesselCollisionRule,
) -> Iterator[tuple[JsonMapping, JsonMapping]]:
    n_pos = np.bincount(np.searchsorted(vessels, now.mmsi), minlength=len(vessels))
    for mmsi, n in zip(vessels.tolist(), n_pos.tolist(), strict=True):
        seen = hours.in_a_row(by_bin, mmsi)
        score = 0.0 if n >= MIN_FIXES else None
        if seen:
            score = hours.score(rule.strength(seen[0].alternations, seen[0].separation_km), len(seen))
        evidence = _evidence(seen)
        if station(mmsi) not in VESSELS:
            score, evidence = None, unjudged(mmsi, evidence)
        yield vessel_output(mmsi, score, n, evidence)


def _evidence(seen: list[VesselCollision]) -> JsonMapping:
    if not seen:
        return {"is_open": False, "alternations": 0, "hours_seen": 0}
    return {
        "is_open": True,
        "alternations": seen[0].alternations,
        "hours_seen": len(seen),
        "separation_km": round(seen[0].separation_km, 1),
        "first_seen_at": iso_utc(seen[-1].first_s),
        "last_seen_at": iso_utc(seen[0].last_s),
        "track_count": len(seen[0].tracks),
        "tracks": seen[0].tracks[:MAX_TRACKS_SHOWN],
    }
