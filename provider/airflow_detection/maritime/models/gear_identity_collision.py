"""One piece of drifting gear in two places: an identity that several transmitters use, or an MMSI."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.score_metrics import score_metrics
from airflow_detection.maritime.severity import severity
from airflow_detection.maritime.tracks.duration import Hours
from airflow_detection.maritime.tracks.fixes import Fixes, iso_utc
from airflow_detection.maritime.tracks.gear_fixes import GearFixes, read_gear
from airflow_detection.maritime.tracks.geo import EARTH_RADIUS_KM, haversine_km
from airflow_detection.maritime.tracks.history import HISTORY_TABLES, stored_fixes
from airflow_detection.maritime.tracks.mmsi import MMSI_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle

MIN_FIXES = 2
PAIR_SCALE = 4.0
MAX_SHOWN = 10


class GearIdentityCollision(BaseDetectionModel):
    """One output per gear identity (the name without its battery); null below two fixes.

    Gear whose name is nobody's in particular (`NET MARK`, `7V`) is known by its MMSI. How long a collision
    lasts is read from stored positions, as in `IdentityCollision`.

    Params:
        separation_km: how far apart two places must be, km (5).
        within_minutes: the longest time between them, minutes (60).
        critical_hours, history_hours: see `Hours.of`.
    """

    history_tables: ClassVar[tuple[str, ...]] = HISTORY_TABLES
    features: ClassVar[tuple[str, ...]] = ("lat", "lon")
    projection: ClassVar[str | None] = "gear_identity_collisions"

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge every gear identity that has a row in the window.

        Raises:
            TerminalModelError: a param is not a number or out of bounds, or an input column is missing.
        """
        rule, hours = _GearCollisionRule.of(ctx.params), Hours.of(ctx.window, ctx.params)
        gear = read_gear(ctx.inputs)
        by_bin = collisions(gear, hours, rule)
        flagged = {identity for identity, bin_ in by_bin if bin_ == 0}
        mmsis = np.array(sorted({m for identity in flagged for m in gear.mmsis[identity]}), dtype=np.int64)
        by_bin |= collisions(read_gear(stored_fixes(ctx, hours.since, mmsis)), hours, rule)
        outputs = list(_outputs(gear, by_bin, hours, rule))
        return ModelResult(
            outputs_per_input=outputs,
            metrics=_metrics(outputs),
            features=gear.fixes.features(self.features),
        )

    def reads_since(self, cycle: Cycle) -> datetime:
        """Return the start of the oldest bin, UTC."""
        return Hours.of(cycle.window, self.params).since

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Hours in two places, two places once, one place, a single fix (null); by name and by MMSI."""
        rule, hours = _GearCollisionRule.of(self.params), Hours.of(cycle.window, self.params)
        start = cycle.window.start.timestamp()

        def canary(
            number: int, expected: float | None, km: float, fixes: int, bins: int, *, is_named: bool = True
        ) -> Canary:
            """Take turns between two places on the equator, each second, in each of the last `bins` bins."""
            rows = tuple(
                {
                    "mmsi": -10 * number - (i % 2 if is_named else 0),
                    "observed_s": start + i - hours.length_s * back,
                    "lat": 0.0,
                    "lon": math.degrees(km / EARTH_RADIUS_KM) * (i % 2),
                    "vessel_name": f"canary:GEAR0001-{number}-{90 - i}%" if is_named else "NET MARK",
                }
                for back in range(bins)
                for i in range(fixes)
            )
            entity = f"canary:GEAR0001-{number}" if is_named else str(-10 * number)
            return Canary(entity_id=entity, rows=rows, expected=expected)

        far, near = 20 * rule.separation_km, 1.05 * rule.separation_km
        yield canary(1, hours.score(rule.strength(7, far), hours.critical), far, 8, hours.critical)
        yield canary(2, hours.score(rule.strength(1, near), 1), near, 2, 1)
        yield canary(3, 0.0, 0.95 * rule.separation_km, 8, 1)
        yield canary(4, None, far, 1, 1)
        yield canary(5, hours.score(rule.strength(3, far), 1), far, 4, 1, is_named=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GearCollisionRule:
    separation_km: float
    within_s: float

    @classmethod
    def of(cls, params: JsonMapping) -> _GearCollisionRule:
        return cls(
            separation_km=positive(params, "separation_km", 5.0),
            within_s=60.0 * positive(params, "within_minutes", 60.0),
        )

    def strength(self, pairs: int, km: float) -> float:
        """Rate how clear a collision is, in (0, 1): more pairs and a larger distance are clearer."""
        return math.expm1(-pairs / PAIR_SCALE) * math.expm1(-km / self.separation_km)


@dataclass(slots=True)
class GearCollision:
    """One identity in two places in one bin; seconds since 1970 UTC, distances km."""

    pairs: set[tuple[int, int]] = field(default_factory=set)
    separation_km: float = 0.0
    first_s: float = math.inf
    last_s: float = -math.inf
    places: tuple[tuple[float, float], ...] = ()

    def add(self, fixes: Fixes, i: int, j: int, km: float) -> None:
        """Take in a pair of fixes `km` apart."""
        self.pairs.add((i, j))
        self.first_s = min(self.first_s, float(fixes.observed_s[i]))
        self.last_s = max(self.last_s, float(fixes.observed_s[j]))
        if km > self.separation_km:
            self.separation_km = km
            self.places = tuple((float(fixes.lat[k]), float(fixes.lon[k])) for k in (i, j))


def collisions(
    gear: GearFixes, hours: Hours, rule: _GearCollisionRule
) -> dict[tuple[str, int], GearCollision]:
    """Find identities in two places, by (identity, bin): consecutive fixes far apart within the time.

    Consecutive, so that gear which is seen on its way (on the deck of its boat) is in one place at a time.
    """
    by_bin: dict[tuple[str, int], GearCollision] = {}
    bins = hours.back(gear.fixes.observed_s)
    for key in (gear.identity, gear.fixes.mmsi):
        for i, j, km in _far_pairs(gear, key, bins, rule):
            ends = {int(gear.identity[k]) for k in (i, j)} - {-1}
            identities = [gear.identities[k] for k in ends] or [
                identity for identity, own in gear.mmsis.items() if int(gear.fixes.mmsi[i]) in own
            ]
            for identity in identities:
                by_bin.setdefault((identity, int(bins[i])), GearCollision()).add(gear.fixes, i, j, km)
    return by_bin


def _far_pairs(
    gear: GearFixes, key: NDArray[np.int64], bins: NDArray[np.int64], rule: _GearCollisionRule
) -> list[tuple[int, int, float]]:
    f = gear.fixes
    order = np.lexsort((f.lon, f.lat, f.observed_s, key))
    first, second = order[:-1], order[1:]
    km = haversine_km(f.lat[first], f.lon[first], f.lat[second], f.lon[second])
    is_far = (
        (key[first] == key[second])
        & (key[first] != -1 if key is gear.identity else True)
        & (bins[first] == bins[second])
        & (f.observed_s[second] - f.observed_s[first] <= rule.within_s)
        & (km > rule.separation_km)
    )
    return list(zip(first[is_far].tolist(), second[is_far].tolist(), km[is_far].tolist(), strict=True))


def _outputs(
    gear: GearFixes, by_bin: dict[tuple[str, int], GearCollision], hours: Hours, rule: _GearCollisionRule
) -> Iterator[tuple[JsonMapping, JsonMapping]]:
    own = gear.identity[(hours.back(gear.fixes.observed_s) == 0) & (gear.identity >= 0)]
    n_pos = np.bincount(own, minlength=len(gear.identities))
    for identity, n in zip(gear.identities, n_pos.tolist(), strict=True):
        seen = hours.in_a_row(by_bin, identity)
        score = 0.0 if n >= MIN_FIXES else None
        if seen:
            score = hours.score(rule.strength(len(seen[0].pairs), seen[0].separation_km), len(seen))
        output = {
            "entity_id": identity,
            "score": score,
            "severity": severity(score),
            "n_pos": n,
            "evidence": {
                "mmsis": sorted(gear.mmsis[identity])[:MAX_SHOWN],
                "names": sorted(gear.names[identity])[:MAX_SHOWN],
                **_evidence(seen),
            },
        }
        yield {"gear": identity}, output


def _evidence(seen: list[GearCollision]) -> JsonMapping:
    if not seen:
        return {"is_open": False, "pairs": 0, "hours_seen": 0}
    return {
        "is_open": True,
        "pairs": len(seen[0].pairs),
        "hours_seen": len(seen),
        "separation_km": round(seen[0].separation_km, 1),
        "places": seen[0].places,
        "first_seen_at": iso_utc(seen[-1].first_s),
        "last_seen_at": iso_utc(seen[0].last_s),
    }


def _metrics(outputs: list[tuple[JsonMapping, JsonMapping]]) -> dict[str, float | int | None]:
    real = [o for _, o in outputs if any(0 <= mmsi < MMSI_LIMIT for mmsi in o["evidence"]["mmsis"])]
    return {
        "gear_count": len(real),
        "collision_count": sum(output["evidence"]["is_open"] for output in real),
        **score_metrics(output["score"] for output in real),
    }
