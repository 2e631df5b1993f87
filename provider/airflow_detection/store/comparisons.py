"""Comparison of a champion and a shadow of its model: coverage, then agreement, entity by entity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from airflow_detection.domain.scores import FLAGGED_ABOVE
from airflow_detection.store.database import Database

TOP = 10
EXAMPLES = 3
Row = dict[str, Any]  # Any: what a statement selects
Rows = Callable[..., list[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A champion and a shadow that ran beside it.

    `cycles` are the instants (UTC, ascending) of the cycles that both completed; `primary_ms` and `shadow_ms`
    the median and the 95th percentile of their durations there, None where there is no such cycle; `outputs`
    how many rows the two stored in them.
    """

    model_id: str
    primary_id: int
    primary_version: str
    shadow_id: int
    shadow_version: str
    role: str
    primary_cycles: int
    shadow_cycles: int
    primary_ms: Sequence[float] | None
    shadow_ms: Sequence[float] | None
    outputs: int
    cycles: tuple[datetime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An entity on which the two differ."""

    at: datetime
    entity_id: str
    primary_score: float
    shadow_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two versions compare over `cycles` cycles; counts are of (cycle, entity).

    Coverage: `in_both` have an output of both; `null_in_*` a score of the other alone; `scored` a score of
    both. Flagged is a score above the threshold: `newly_flagged` by the shadow alone, `lost` by the champion
    alone, where both have a score; `flagged_unseen` and `lost_unseen` where the other has none.
    `kappa` (Cohen 1960) and `jaccard` (of the flagged) are of what both scored, None where they are not
    defined; `top_overlap` is the mean over cycles of the share of the top that both name, among scores above
    0; `p99_difference` is the 99th percentile of |difference|, interpolated.
    """

    cycles: int
    entities: int = 0
    in_both: int = 0
    only_primary: int = 0
    only_shadow: int = 0
    null_in_primary: int = 0
    null_in_shadow: int = 0
    scored: int = 0
    both_flagged: int = 0
    newly_flagged: int = 0
    lost: int = 0
    flagged_unseen: int = 0
    lost_unseen: int = 0
    top_overlap: float | None = None
    p99_difference: float | None = None
    newly_examples: tuple[Example, ...] = ()
    lost_examples: tuple[Example, ...] = ()

    @property
    def coverage(self) -> float | None:
        """Share of all entities that both scored."""
        return self.scored / self.entities if self.entities else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of flagged or not."""
        return kappa(self.scored, self.both_flagged, self.newly_flagged, self.lost)

    @property
    def jaccard(self) -> float | None:
        """Flagged by both, of flagged by either."""
        either = self.both_flagged + self.newly_flagged + self.lost
        return self.both_flagged / either if either else None


def kappa(n: int, both: int, only_second: int, only_first: int) -> float | None:
    """Cohen's kappa of two raters who say yes or no of `n` things; None where chance alone would agree."""
    if not n:
        return None
    first, second = both + only_first, both + only_second
    by_chance = (first * second + (n - first) * (n - second)) / n**2
    if by_chance == 1:
        return None
    return ((n - only_first - only_second) / n - by_chance) / (1 - by_chance)


def row_reader(db: Database) -> Rows:
    """Return a function that runs a statement of `comparisons.sql` and returns its rows as mappings."""
    queries = db.queries("comparisons")

    def rows(name: str, **params: object) -> list[Row]:
        with db.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(queries[name], params).fetchall()

    return rows


def pairs(rows: Rows, start: datetime, end: datetime) -> list[Pair]:
    """The champions and shadows that ran in [start, end), by model, role and version."""
    return [Pair(**row | {"cycles": tuple(row["cycles"])}) for row in rows("pairs", start=start, end=end)]


def compare(
    rows: Rows,
    to_compare: Sequence[Pair],
    *,
    every: int = 1,
    above: float = FLAGGED_ABOVE,
    top: int = TOP,
    examples: int = EXAMPLES,
) -> list[Comparison]:
    """Compare each pair over its cycles, in the order of `to_compare`; a champion is read only once.

    Args:
        every: compare each n-th cycle of a pair only.
        above: a score above it flags its entity.
        top: how many of the highest scores count as the top.
        examples: how many entities to name where they differ, those with the greatest difference first.
    """
    by_champion: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, pair in enumerate(to_compare):
        by_champion[pair.model_id, pair.primary_id].append(number)
    compared: dict[int, Comparison] = {}
    for (model_id, primary_id), numbers in by_champion.items():
        cycles = [(at, n, to_compare[n].shadow_id) for n in numbers for at in to_compare[n].cycles[::every]]
        rows_of: dict[int, list[Row]] = defaultdict(list)
        for row in rows(
            "compare",
            cycles=[at for at, _, _ in cycles],
            numbers=[n for _, n, _ in cycles],
            shadow_ids=[version_id for _, _, version_id in cycles],
            model_id=model_id,
            primary_id=primary_id,
            above=above,
            top=top,
            max_examples=examples,
        ):
            rows_of[row["number"]].append(row)
        compared |= {n: _comparison(rows_of[n], examples) for n in numbers}
    return [compared[number] for number in range(len(to_compare))]


_COUNT_COLUMNS = (
    "entities",
    "in_both",
    "only_primary",
    "only_shadow",
    "null_in_primary",
    "null_in_shadow",
    "scored",
    "both_flagged",
    "newly_flagged",
    "lost",
    "flagged_unseen",
    "lost_unseen",
)


def _comparison(cycles: Sequence[Row], examples: int) -> Comparison:
    overlaps = [o for row in cycles if (o := _overlap(row["primary_top"], row["shadow_top"])) is not None]
    return Comparison(
        cycles=len(cycles),
        **{name: sum(row[name] for row in cycles) for name in _COUNT_COLUMNS},
        top_overlap=sum(overlaps) / len(overlaps) if overlaps else None,
        p99_difference=cycles[0]["p99"] if cycles else None,
        newly_examples=_examples(cycles, "newly_examples", examples),
        lost_examples=_examples(cycles, "lost_examples", examples),
    )


def _overlap(first: Sequence[str] | None, second: Sequence[str] | None) -> float | None:
    """Return the share of the longer of two tops that is in both; None if both are empty."""
    longest = max(len(first or ()), len(second or ()))
    return len({*(first or ())} & {*(second or ())}) / longest if longest else None


def _examples(cycles: Sequence[Row], name: str, max_examples: int) -> tuple[Example, ...]:
    """Return each entity once, from the cycle in which it differed most; the greatest difference first."""
    largest: dict[str, Example] = {}
    for row in cycles:
        for entity_id, primary, shadow in row[name] or ():
            example = Example(at=row["at"], entity_id=entity_id, primary_score=primary, shadow_score=shadow)
            previous = largest.get(entity_id)
            if previous is None or _difference(example) > _difference(previous):
                largest[entity_id] = example
    return tuple(sorted(largest.values(), key=lambda e: (-_difference(e), e.entity_id))[:max_examples])


def _difference(example: Example) -> float:
    return abs(example.shadow_score - example.primary_score)
