"""Ships that stay where they are, far from shore, for hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import Canary, ModelContext
from airflow_detection.maritime.models.slow_ship_model import SlowShipCanaries, SlowShipModel
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.tracks.fixes import Fixes
from airflow_detection.maritime.tracks.geo import KM_PER_NM
from airflow_detection.maritime.tracks.history import merged
from airflow_detection.maritime.tracks.slow_ships import (
    STEP_S,
    Episode,
    SlowShipRule,
    is_open,
    keep_longest,
    least_duration_s,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_detection.domain.specs import Cycle

MAX_GAP_S = 3600.0
"""Between fixes further apart it is not known where the ship was."""

AT_WORK = frozenset({"dredging", "diving", "military", "pilot", "search_and_rescue", "law_enforcement"})
"""Classes of vessels that stay in one place for a living."""


class Loitering(SlowShipModel):
    """One output per vessel of the window: 0 where it does not loiter, null below two fixes.

    The score is 1 - 0.5 ** (duration / least duration) from the least duration on: 0.5 there, 0.75 at twice.

    Params:
        min_duration_h: loitering takes so long at least, hours (4).
        max_speed_kn: and is slower than this, knots (2).
        offshore_nm: and as far from the nearest shore, nautical miles (20).
        history_h: how far back a start is looked for, hours (24).
    """

    @staticmethod
    def rule(params: JsonMapping) -> _LoiteringRule:
        """Read the params; see `OffshoreModel.rule`."""
        history_h = positive(params, "history_h", 24.0)
        return _LoiteringRule(
            min_duration_s=least_duration_s(params, 4.0, history_h),
            max_speed_kn=positive(params, "max_speed_kn", 2.0),
            offshore_km=positive(params, "offshore_nm", 20.0) * KM_PER_NM,
            history_h=history_h,
            max_gap_s=MAX_GAP_S,
            classes_at_work=AT_WORK,
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Adrift in mid-ocean: long, long enough, too short; under way; in harbour; a single fix (null).

        And one that sailed on before the window.
        """
        rule = self.rule(self.params)
        steps = SlowShipCanaries.of(cycle, rule)
        mid_atlantic, harbour = (0.0, -25.0), (40.65, -74.05)

        def canary(
            mmsi: int, expected: float | None, count: int, place: tuple[float, float], kn: float, ago: int = 0
        ) -> Canary:
            """Drift north at half a knot for `count` steps until `ago` steps ago."""
            places = [
                (place[0] - 0.5 * k * STEP_S / 3600 / 60 + mmsi % -20, place[1]) for k in range(count + 1)
            ]
            return steps.canary(mmsi, expected, places, sog_kn=kn, ago=ago)

        slow, long, least = 0.9 * rule.max_speed_kn, steps.long, steps.least
        yield canary(-1, rule.score(long * STEP_S), long, mid_atlantic, slow)
        yield canary(-2, rule.score(least * STEP_S), least, mid_atlantic, slow)
        yield canary(-3, 0.0, least - 2, mid_atlantic, slow)
        yield canary(-4, 0.0, least, mid_atlantic, 1.2 * rule.max_speed_kn)
        yield canary(-5, 0.0, least, (harbour[0] + 5, harbour[1]), slow)
        yield canary(-6, None, 0, mid_atlantic, slow)
        yield canary(-123_456_787, 0.0, least, mid_atlantic, slow, steps.before)  # as long as a real MMSI


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoiteringRule(SlowShipRule):
    def episodes(self, ctx: ModelContext, now: Fixes) -> dict[int, Episode]:
        vessels = self.vessels(ctx, now)
        own = now.take(np.isin(now.mmsi, vessels))
        steps = self.slow_steps(self.all_steps(merged(self.earlier(ctx, vessels), own)))
        lat, lon = steps.lat, steps.lon
        stays: dict[int, Episode] = {}
        for stretch in self.stretches(ctx.window, steps.track, steps.step, steps.in_gap):
            row = stretch.last_row
            mmsi = int(steps.mmsi[row])
            stay = Episode(
                stretch=stretch,
                place=(float(lat[row]), float(lon[row])),
                is_open=is_open(now, mmsi, stretch.last_step, ctx.window),
            )
            keep_longest(stays, mmsi, stay)
        return stays
