"""Comparison of two versions of a model in what they stored: runs, outputs, and labels beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from airflow_detection.domain.reports import CanaryResult
from airflow_detection.domain.scores import FLAGGED_ABOVE, EventRule
from airflow_detection.domain.specs import Outcome, require_utc
from airflow_detection.evidence.agreement import Comparison, Example
from airflow_detection.evidence.labelled import LabelledUnits
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import registry_errors
from airflow_detection.store.registry import fetch

TOP = 10
EXAMPLES = 3
Row = dict[str, Any]  # Any: what a statement selects
Rows = Callable[..., list[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A champion and a shadow of it, or any two versions of a model, of which the first is called primary.

    `cycles` are the instants (UTC, ascending) of the cycles that both completed; `primary_ms` and `shadow_ms`
    the median and the 95th percentile of their durations there, None where there is no such cycle; `outputs`
    how many rows the two stored in them. Of the cycles in `*_replays` the replay is compared.
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
    primary_replays: frozenset[datetime] = frozenset()
    shadow_replays: frozenset[datetime] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRun:
    """Run of a version that counts in a comparison: of a live run and a replay of one cycle the better one.

    A success comes before a failure, then the live run before the replay.
    """

    version_id: int
    at: datetime
    is_replay: bool
    outcome: Outcome
    duration_ms: float
    output_count: int
    error: str | None
    canaries: tuple[CanaryResult, ...]


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


def thresholds(rows: Rows) -> dict[str, float]:
    """Return, for each model, the score above which it flags an entity today."""
    return {row["model_id"]: EventRule.of(row["events"]).above for row in rows("event_rules")}


def compare(
    rows: Rows,
    to_compare: Sequence[Pair],
    *,
    every: int = 1,
    above: Mapping[str, float],
    top: int = TOP,
    examples: int = EXAMPLES,
) -> list[Comparison]:
    """Compare each pair over its cycles, in the order of `to_compare`; a champion is read only once.

    Args:
        every: compare each n-th cycle of a pair only.
        above: for each model, the score above which it flags an entity.
        top: how many of the highest scores count as the top.
        examples: how many entities to name where they differ, those with the greatest difference first.
    """
    by_champion: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, pair in enumerate(to_compare):
        by_champion[pair.model_id, pair.primary_id].append(number)
    compared: dict[int, Comparison] = {}
    for (model_id, primary_id), numbers in by_champion.items():
        cycles = [(at, n, to_compare[n]) for n in numbers for at in to_compare[n].cycles[::every]]
        rows_of: dict[int, list[Row]] = defaultdict(list)
        for row in rows(
            "compare",
            cycles=[at for at, _, _ in cycles],
            numbers=[n for _, n, _ in cycles],
            shadow_ids=[pair.shadow_id for _, _, pair in cycles],
            primary_replays=[at in pair.primary_replays for at, _, pair in cycles],
            shadow_replays=[at in pair.shadow_replays for at, _, pair in cycles],
            model_id=model_id,
            primary_id=primary_id,
            above=above[model_id],
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


def runs_of_two(
    rows: Rows,
    *,
    model_id: str,
    version_ids: tuple[int, int],
    start: datetime | None,
    end: datetime | None,
    known_at: datetime,
    has_replays: bool = True,
) -> tuple[list[VersionRun], list[VersionRun]]:
    """Return the runs of two versions that count, in order of time: cycles in [start, end), as of `known_at`.

    What began after `known_at` does not count, a cycle that was run again since then included: its earlier
    result has been replaced.
    """
    asked: Row = {"model_id": model_id, "version_ids": list(version_ids), "start": start, "end": end}
    asked |= {"has_replays": has_replays}
    runs: dict[int, list[VersionRun]] = {version_id: [] for version_id in version_ids}
    for row in rows("runs_of_two", **asked, known_at=known_at):
        run = VersionRun(
            **row
            | {
                "at": require_utc("at", row["at"]),
                "outcome": Outcome(row["outcome"]),
                "canaries": tuple(map(CanaryResult.from_json, row["canaries"])),
            }
        )
        runs[run.version_id].append(run)
    return runs[version_ids[0]], runs[version_ids[1]]


def cycles_to_replay(
    db: Database, cycle_id: str, *, version_id: int, champion_id: int, latest: int
) -> tuple[list[datetime], int]:
    """Return, of the latest cycles that a champion completed, those that a version did not; and how many.

    The cycles are in order of time, UTC; `latest` is how many to look at.
    """
    params = {"cycle_id": cycle_id, "version_id": version_id, "champion_id": champion_id, "latest": latest}
    rows = fetch(db, "comparisons", "cycles_to_replay", params)
    return [require_utc("at", row["at"]) for row in rows if not row["is_done"]], len(rows)


def labelled_units(rows: Rows, pair: Pair, *, cycle_id: str, known_at: datetime) -> LabelledUnits:
    """Return the labels about a pair's cycles as units, as known at an instant, with the scores of both.

    Of labels of one entity whose intervals overlap one counts: the model's own before one of the whole
    cycle, then the one that became known last. The database aligns labels and outputs.
    """
    import numpy as np

    row = rows(
        "labelled_units",
        cycle_id=cycle_id,
        model_id=pair.model_id,
        primary_id=pair.primary_id,
        shadow_id=pair.shadow_id,
        known_at=known_at,
        cycles=list(pair.cycles),
        primary_replays=[at in pair.primary_replays for at in pair.cycles],
        shadow_replays=[at in pair.shadow_replays for at in pair.cycles],
    )[0]
    return LabelledUnits(
        label_ids=np.array(row["label_ids"] or [], dtype=np.int64),
        is_positive=np.array(row["is_positive"] or [], dtype=bool),
        first=np.array(row["primary_scores"] or [], dtype=float),
        second=np.array(row["shadow_scores"] or [], dtype=float),
        overlapped=row["overlapped"],
    )


def entities_of_labels(rows: Rows, label_ids: Sequence[int]) -> dict[int, str]:
    """Return the entity of each label by its id."""
    found = rows("entities_of_labels", label_ids=list(label_ids))
    return {row["label_id"]: row["entity_id"] for row in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityQuery:
    """Which entities are asked for: of two versions in the cycles in [start, end) that both completed.

    `is_flip`: those alone that one flags (a score above `above`) and the other does not; `q` is a part of the
    entity's id, whatever its case.
    """

    model_id: str
    cycle_id: str
    version_ids: tuple[int, int]
    start: datetime | None
    end: datetime | None
    known_at: datetime
    has_replays: bool = True
    above: float = FLAGGED_ABOVE
    is_flip: bool = False
    q: str | None = None


def differing_entities(
    db: Database, query: EntityQuery, *, after: tuple[float, str] | None = None, limit: int
) -> list[Row]:
    """Return the entities on which two versions differ, each where it differs most, the furthest first.

    Args:
        after: the difference and the id of the last one that is known: those behind it.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    with registry_errors():
        rows = row_reader(db)
        first, second = runs_of_two(
            rows,
            model_id=query.model_id,
            version_ids=query.version_ids,
            start=query.start,
            end=query.end,
            known_at=query.known_at,
            has_replays=query.has_replays,
        )
        done = [
            {run.at: run.is_replay for run in s if run.outcome is Outcome.SUCCEEDED} for s in (first, second)
        ]
        cycles = sorted(done[0].keys() & done[1].keys())
        return rows(
            "differing_entities",
            cycles=cycles,
            first_replays=[done[0][at] for at in cycles],
            second_replays=[done[1][at] for at in cycles],
            model_id=query.model_id,
            cycle_id=query.cycle_id,
            first_id=query.version_ids[0],
            second_id=query.version_ids[1],
            known_at=query.known_at,
            above=query.above,
            flips=query.is_flip,
            q=query.q,
            after=after[0] if after else None,
            after_id=after[1] if after else None,
            limit=limit,
        )
