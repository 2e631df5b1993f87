"""Two versions beside labels: who was right, how often, and between which bounds.

One label is one unit: a version's score of it is its highest among the compared cycles of the label's
interval, and it flags the unit if that is above the threshold. A unit that it has no output for, or no score,
it does not flag; for average precision such units come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Ids = NDArray[np.int64]

CONFIDENCE = 0.95
SEED = 20_260_101
"""The same labels give the same intervals."""
RESAMPLES = 1_000
MIN_RESAMPLES = 200
MAX_DRAWS = 20_000_000
"""Units drawn at most for the intervals of one figure, as long as there are MIN_RESAMPLES."""
DRAWS_AT_ONCE = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure and its 95 % interval; all None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRecord:
    """One version beside the labels: confusion counts of units at the threshold, and figures of them.

    Precision and recall have intervals of Wilson (1927); F1 and average precision percentiles of a bootstrap
    over units with a fixed seed. None where nothing was flagged, or nothing is positive.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    unscored: int
    precision: Interval
    recall: Interval
    f1: Interval
    average_precision: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelExample:
    """A unit about which one of the two was right, and the other wrong."""

    label_id: int
    entity_id: str
    is_positive: bool
    first_score: float | None
    second_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledComparison:
    """Two versions beside the same units.

    Discordant: `only_second_right` (wins of the second) and `only_first_right`; the examples are the latest
    of them. `overlapped` labels do not count, because another one of the same entity overlaps them.
    """

    units: int
    positives: int
    overlapped: int
    both_right: int
    both_wrong: int
    only_first_right: int
    only_second_right: int
    first: LabelledRecord
    second: LabelledRecord
    won_examples: tuple[LabelExample, ...] = ()
    lost_examples: tuple[LabelExample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledUnits:
    """Units in the order in which their labels became known; a score that there is not is NaN."""

    label_ids: Ids
    is_positive: Flags
    first: Floats
    second: Floats
    overlapped: int = 0

    def __len__(self) -> int:
        return len(self.label_ids)

    def is_right(self, scores: Floats, above: float) -> Flags:
        """Tell of each unit whether a version with these scores was right about it."""
        right: Flags = (scores > above) == self.is_positive
        return right

    def discordant(self, above: float) -> tuple[Ids, Flags]:
        """Return the positions of the units about which one was right, and whether that was the second."""
        import numpy as np

        first, second = self.is_right(self.first, above), self.is_right(self.second, above)
        places = np.flatnonzero(first != second)
        return places, second[places]


def wilson(successes: int, total: int) -> Interval:
    """Return a proportion and its Wilson score interval, without a correction for continuity."""
    import math

    from scipy.special import ndtri

    if not total:
        return Interval(value=None)
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    share = successes / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Interval(
        value=share,
        low=0.0 if not successes else max(0.0, middle - half),
        high=1.0 if successes == total else min(1.0, middle + half),
    )


def average_precision(is_positive: Flags, scores: Floats) -> float | None:
    """Return the average precision, sum of (R_n - R_n-1) P_n over thresholds; None without a positive unit.

    Equal scores are one threshold; NaN counts as lower than any score.
    """
    value = float(_Ranking(is_positive, scores).average_precision())
    return None if value != value else value


class _Ranking:
    """Units by falling score, to be weighted again and again."""

    def __init__(self, is_positive: Flags, scores: Floats) -> None:
        import numpy as np

        filled = np.where(np.isnan(scores), -np.inf, scores)
        order = np.argsort(-filled)
        ranked = filled[order]
        self.ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))[: len(scores)]
        self.positive = is_positive[order]

    def average_precision(self, weights: Ids | None = None) -> Floats:
        """Return the average precision, one for each row of weights; NaN if no unit is positive.

        Args:
            weights: how often each unit counts, by rank in the last axis; once unless given.
        """
        import numpy as np

        weights = np.ones(len(self.positive), dtype=np.int64) if weights is None else weights
        flagged = np.cumsum(weights, axis=-1)[..., self.ends]
        right = np.cumsum(weights * self.positive, axis=-1)[..., self.ends]
        if not len(self.ends):
            return np.full(weights.shape[:-1], np.nan)
        found = np.diff(right, prepend=0, axis=-1) * (right / np.maximum(flagged, 1))
        with np.errstate(invalid="ignore"):
            return np.asarray(found.sum(axis=-1) / right[..., -1])


def compare_labelled(
    units: LabelledUnits,
    *,
    above: float,
    name_units: Callable[[list[int]], dict[int, str]] | None = None,
    examples: int = 10,
) -> LabelledComparison:
    """Compare two versions beside labels.

    Args:
        above: a score above it flags its unit.
        name_units: returns the entity ids of labels by id, for the examples; without it there are none.
        examples: how many discordant units to name, of each kind.
    """
    first_right = units.is_right(units.first, above)
    second_right = units.is_right(units.second, above)
    places, won = units.discordant(above)
    shown = {True: places[won][::-1][:examples], False: places[~won][::-1][:examples]}
    names = (
        name_units([int(units.label_ids[n]) for part in shown.values() for n in part]) if name_units else {}
    )

    def named(is_win: bool) -> Iterator[LabelExample]:  # noqa: FBT001 - which of the two lists
        for place in shown[is_win] if name_units else ():
            label_id = int(units.label_ids[place])
            yield LabelExample(
                label_id=label_id,
                entity_id=names[label_id],
                is_positive=bool(units.is_positive[place]),
                first_score=_number(units.first[place]),
                second_score=_number(units.second[place]),
            )

    return LabelledComparison(
        units=len(units),
        positives=int(units.is_positive.sum()),
        overlapped=units.overlapped,
        both_right=int((first_right & second_right).sum()),
        both_wrong=int((~first_right & ~second_right).sum()),
        only_first_right=int((~won).sum()),
        only_second_right=int(won.sum()),
        first=_record(units.is_positive, units.first, above),
        second=_record(units.is_positive, units.second, above),
        won_examples=tuple(named(True)),
        lost_examples=tuple(named(False)),
    )


def _number(score: float) -> float | None:
    return None if score != score else float(score)


def _record(is_positive: Flags, scores: Floats, above: float) -> LabelledRecord:
    import numpy as np

    flagged = scores > above
    tp, fp = int((flagged & is_positive).sum()), int((flagged & ~is_positive).sum())
    fn, tn = int((~flagged & is_positive).sum()), int((~flagged & ~is_positive).sum())
    return LabelledRecord(
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        unscored=int(np.isnan(scores).sum()),
        precision=wilson(tp, tp + fp),
        recall=wilson(tp, tp + fn),
        f1=_f1(tp, fp, fn, tn),
        average_precision=_average_precision(is_positive, scores),
    )


def _resamples(units: int) -> int:
    return max(MIN_RESAMPLES, min(RESAMPLES, MAX_DRAWS // max(units, 1)))


def _f1(tp: int, fp: int, fn: int, tn: int) -> Interval:
    """Return F1 with its bootstrap interval: counts of resampled units are multinomial."""
    import numpy as np

    if not tp + fp + fn:
        return Interval(value=None)
    cells = np.array([tp, fp, fn, tn])
    drawn = np.random.default_rng(SEED).multinomial(cells.sum(), cells / cells.sum(), size=RESAMPLES)
    total = 2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2]
    values = 2 * drawn[total > 0, 0] / total[total > 0]
    return _percentiles(2 * tp / (2 * tp + fp + fn), values)


def _average_precision(is_positive: Flags, scores: Floats) -> Interval:
    """Return the average precision with its bootstrap interval."""
    import numpy as np

    ranking = _Ranking(is_positive, scores)
    value = float(ranking.average_precision())
    if value != value:
        return Interval(value=None)
    units, left = len(scores), _resamples(len(scores))
    generator = np.random.default_rng(SEED)
    values: list[Floats] = []
    while left:
        rows = min(left, max(1, DRAWS_AT_ONCE // units))
        places = generator.integers(units, size=(rows, units)) + units * np.arange(rows)[:, np.newaxis]
        weights = np.bincount(places.ravel(), minlength=rows * units).reshape(rows, units)
        values.append(ranking.average_precision(weights))
        left -= rows
    drawn = np.concatenate(values)
    return _percentiles(value, drawn[~np.isnan(drawn)])


def _percentiles(value: float, values: Floats) -> Interval:
    import numpy as np

    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high))
